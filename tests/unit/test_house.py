"""Rules of the house that no linter knows."""

import re

import pytest

from tests.support import ROOT

MODULES = [path for room in ("features", "models", "serving", "pipelines", "vigil") for path in (ROOT / room).rglob("*.py")]


def importers(library):
    pattern = re.compile(rf"^\s*(?:import|from) {library}\b", flags=re.MULTILINE)
    return {str(path.relative_to(ROOT)) for path in MODULES if pattern.search(path.read_text())}


@pytest.mark.parametrize(
    ("library", "allowed"),
    [
        ("mlflow", {"models/mlflow_store.py"}),
        ("optuna", {"models/search/searchers.py"}),
        ("flaml", {"models/search/searchers.py"}),
        ("feast", {f"features/store/{name}.py" for name in ("definitions", "feast_import", "migration")}),
        ("evidently", {"pipelines/drift/evidently_report.py"}),
        ("shap", {"models/reporting/shap_figures.py"}),
        ("fairlearn", {"models/evaluation/fairness.py"}),
        ("bentoml", {"serving/service.py", "serving/supervisor.py"}),
    ],
)
def test_each_platform_has_one_door(library, allowed):
    assert importers(library) == allowed


def test_the_environment_is_written_in_one_place():
    users = {str(path.relative_to(ROOT)) for path in MODULES if re.search(r"\bos\.environ|\bgetenv", path.read_text())}
    assert users == {"pipelines/environment.py"}


def test_modules_are_about_one_thing():
    assert not [path for path in MODULES if path.stem in {"utils", "helpers", "manager", "common", "misc"}]
    assert {str(path): n for path in MODULES if (n := len(path.read_text().splitlines())) > 400} == {}


def test_code_is_imported_under_one_name():
    rooms = re.compile(r"^[\s\"]*(?:from|import) (?:features|models|serving|pipelines)\b", flags=re.MULTILINE)
    files = [*MODULES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "notebooks").glob("*.ipynb"), *(ROOT / "docs").rglob("*.md")]
    assert [str(path) for path in files if rooms.search(path.read_text())] == []
