"""Every notebook is stored with its outputs and without paths of a machine, and the first four run on a small ward.

Those of open cohorts run in the tests of their own module.
"""

import nbformat
import pytest
from nbclient import NotebookClient

from tests.support import ROOT
from tests.support.notebooks import NOTEBOOKS, count_plots, name_of, run
from vigil.pipelines.home import Home
from vigil.pipelines.jobs.train import train


def test_notebooks_are_the_expected_ones():
    assert [path.stem for path in NOTEBOOKS] == [
        "01_first_look",
        "02_risk_models",
        "03_drift",
        "04_your_own_tables",
        "05_cinc2019_zip_to_model_card",
        "06_cgm_fortnight",
        "07_one_patient_explained",
        "08_another_hospital",
        "09_fairness_audit",
        "10_alarm_budget",
    ]


@pytest.fixture(scope="module")
def two_versions(own_home, few_trees):  # noqa: ARG001 - the second model has few trees too
    """Return a home with two versions to compare, since a notebook would take long to train the second itself."""
    train(Home(own_home), seed=7)
    return own_home


@pytest.mark.parametrize("path", NOTEBOOKS[:4], ids=name_of)
def test_notebook_runs_and_shows_plots(path, two_versions, monkeypatch):
    monkeypatch.setenv("VIGIL_HOME", str(two_versions))
    assert count_plots(run(nbformat.read(path, as_version=4), path.parent)) >= 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_notebook_is_stored_with_plots_and_defines_no_function(path):
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    assert any("image/png" in output.get("data", {}) for cell in code for output in cell.outputs)
    assert not any(output.output_type == "error" for cell in code for output in cell.outputs)
    assert not any(line.startswith(("def ", "class ")) for cell in code for line in cell.source.splitlines())
    assert not any(machine in path.read_text() for machine in ("/root/", "/home/", "/tmp/", "/work/", "site-packages"))


def test_progress_in_a_notebook_is_a_bar_that_a_line_replaces():
    lines = [
        "import time",
        "from vigil.pipelines.progress import timed_step, track",
        "done = [step for step in track(range(3), 'count <sheep>', 3) if not time.sleep(0.25)]",
        "with timed_step('sleep'):",
        "    pass",
        "print(done)",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("\n".join(lines))])
    seen = []

    class Watching(NotebookClient):
        def output(self, outs, msg, display_id, cell_index):
            seen.append(msg["content"].get("data", {}))
            return super().output(outs, msg, display_id, cell_index)

    Watching(notebook, timeout=60, kernel_name="python3", resources={"metadata": {"path": ROOT}}).execute()
    outputs = notebook.cells[0].outputs
    drawn = [picture["text/html"] for picture in seen if "text/html" in picture]
    assert any('<progress value="0" max="3"></progress> count &lt;sheep&gt; 0 of 3' in picture for picture in drawn)
    texts = [output["data"]["text/plain"] for output in outputs if output.output_type == "display_data"]
    assert [text.partition(":")[0].strip() for text in texts] == ["count <sheep>", "sleep"]
    assert all("done in" in text for text in texts)
    assert not any("text/html" in output.get("data", {}) for output in outputs)
    assert "[0, 1, 2]" in outputs[-1]["text"]
