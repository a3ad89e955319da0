"""Every notebook runs from top to bottom on the small ward, and is stored with its outputs and without paths of a machine."""

import nbformat
import pytest
from nbclient import NotebookClient

from tests.support import ROOT
from vigil.pipelines.home import Home
from vigil.pipelines.jobs.train import train

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_notebooks_are_the_expected_ones():
    assert [path.stem for path in NOTEBOOKS] == ["01_first_look", "02_risk_models", "03_drift", "04_your_own_tables"]


@pytest.fixture(scope="module")
def two_versions(own_home, few_trees):  # noqa: ARG001 - the second model has few trees too
    """Return a home with two versions to compare, since a notebook would take long to train the second itself."""
    train(Home(own_home), seed=7)
    return own_home


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_and_shows_plots(path, two_versions, monkeypatch):
    monkeypatch.setenv("VIGIL_HOME", str(two_versions))
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": path.parent}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_stored_with_plots_and_defines_no_function(path):
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    assert any("image/png" in output.get("data", {}) for cell in code for output in cell.outputs)
    assert not any(line.startswith(("def ", "class ")) for cell in code for line in cell.source.splitlines())
    assert "/root/" not in path.read_text()
    assert "/home/" not in path.read_text()
