"""docs/fhir.md offers what the server offers."""

import re

import pytest

from tests.support import ROOT
from vigil.serving.fhir.operations import MAX_BODY_BYTES, MAX_ENTRIES
from vigil.serving.fhir.routes.interactions import RESOURCES
from vigil.serving.fhir.settings import FhirSettings

PAGE = (ROOT / "docs" / "fhir.md").read_text()
METHODS = {"create": "POST", "update": "PUT", "delete": "DELETE"}


@pytest.mark.parametrize("offered", RESOURCES, ids=lambda offered: offered.type)
def test_interactions_are_in_the_table(offered):
    (row,) = re.findall(rf"^\| `{offered.type}` \| (.*) \|$", PAGE, flags=re.MULTILINE)[:1]
    cells = dict(zip([*METHODS, "condition", "search-type"], row.split(" | "), strict=True))
    shown = {name for name, method in METHODS.items() if f"`{method}`" in cells[name]}
    assert shown | ({"search-type"} if "`GET`" in cells["search-type"] else set()) == set(offered.interactions)
    assert all(f"`{name}`" in cells["search-type"] for name, _ in offered.search)


def test_limits_and_settings_are_there():
    assert f"{MAX_ENTRIES:,} entries and {MAX_BODY_BYTES // 1_000_000} MB" in PAGE
    assert all(name in PAGE for name in FhirSettings.model_fields)
