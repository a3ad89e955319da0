"""The examples in the docstrings of the public modules."""

import doctest
import importlib

import pytest

FEATURES = (
    "batch", "cases.page", "catalogue", "catalogue_page", "codes", "display_names", "glucose", "identifiers", "markdown",
    "observations", "online",
    "pseudonyms", "scores", "services", "signals", "windows",
)  # fmt: skip
MODULES = [
    *(f"features.{name}" for name in FEATURES),
    *(f"serving.fhir.{name}" for name in ("concepts", "observations", "references", "refusals", "times")),
    "pipelines.sources.fhir.spill",
]


@pytest.mark.parametrize("name", MODULES)
def test_doctests_of_module_pass(name):
    results = doctest.testmod(importlib.import_module(f"vigil.{name}"))
    assert results.attempted > 0
    assert results.failed == 0
