"""Every notebook runs from top to bottom on the small ward, and is kept with its outputs and without paths or secrets."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from models.registry import Registry
from models.version_history import list_versions
from pipelines.home import Home
from pipelines.jobs.train import train

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


def test_there_are_notebooks():
    assert [path.name for path in NOTEBOOKS] == ["01_first_look.ipynb", "02_risk_models.ipynb", "03_drift.ipynb"]


@pytest.fixture(scope="module")
def two_versions(home, _few_trees):
    """A home with something to compare: the notebook would train a second version itself, at its leisure."""
    if len(list_versions(Registry(home), "deterioration")) < 2:
        train(Home(home), seed=7)
    return home


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path, two_versions, monkeypatch):
    monkeypatch.setenv("VIGIL_HOME", str(two_versions))
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": path.parent}}).execute()
    pictures = [o for cell in notebook.cells for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
    assert len(pictures) >= 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_kept_with_its_plots_and_defines_nothing(path):
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    assert any("image/png" in o.get("data", {}) for cell in code for o in cell.outputs)
    assert not any(line.startswith(("def ", "class ")) for cell in code for line in cell.source.splitlines())
    assert "/root/" not in path.read_text()
    assert "/home/" not in path.read_text()
