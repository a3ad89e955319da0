"""docs/fhir.md offers what the server offers."""

import re

import pytest

from tests.support import ROOT
from vigil.serving.fhir.interactions import RESOURCES
from vigil.serving.fhir.operations import MAX_BODY_BYTES, MAX_ENTRIES
from vigil.serving.fhir.page import update
from vigil.serving.fhir.settings import FhirSettings

PAGE = (ROOT / "docs" / "fhir.md").read_text()


def test_tables_are_those_of_the_code():
    assert update(PAGE) == PAGE


@pytest.mark.parametrize("offered", RESOURCES, ids=lambda offered: offered.type)
def test_interactions_are_in_the_table(offered):
    (row,) = re.findall(rf"^\| `{offered.type}` \| (.*) \|$", PAGE, flags=re.MULTILINE)[:1]
    assert all(f"`{name}`" in row for name, _ in offered.search)
    assert row.count(f" {offered.type}") >= len(set(offered.interactions))


def test_limits_and_settings_are_there():
    assert f"{MAX_ENTRIES:,} entries and {MAX_BODY_BYTES // 1_000_000} MB" in PAGE
    assert all(name in PAGE for name in FhirSettings.model_fields)
