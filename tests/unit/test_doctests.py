"""The examples in the docstrings of the public modules."""

import doctest
import importlib

import pytest

MODULES = [
    "batch", "cases.page", "catalogue", "catalogue_page", "display_names", "identifiers", "markdown", "observations", "online",
    "pseudonyms", "scores", "services", "signals", "windows",
]  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_doctests_of_module_pass(name):
    results = doctest.testmod(importlib.import_module(f"vigil.features.{name}"))
    assert results.attempted > 0
    assert results.failed == 0
