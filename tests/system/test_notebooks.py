"""Every notebook runs from top to bottom on a small ward, and is stored with its outputs and without paths of a machine.

Those of open cohorts run on fewer stays and trees than they are stored with, in a folder beside which they make their homes.
"""

import nbformat
import pytest
from nbclient import NotebookClient

from tests.support import ROOT
from vigil.pipelines.home import Home
from vigil.pipelines.jobs.train import train

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SIMULATED, MEASURED = NOTEBOOKS[:4], NOTEBOOKS[5:]  # the fifth makes a home for those after it
SMALLER = {
    "STAYS = 1500": "STAYS = 500",
    "ONLY = None": 'ONLY = "all_signals"',
    'SETTINGS = {"n_estimators": 80': 'SETTINGS = {"n_estimators": 30',
    'SETTINGS = {"n_estimators": 60': 'SETTINGS = {"n_estimators": 30',
}


def name_of(path):
    return path.stem


def run(notebook, folder):
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
    return notebook


def count_plots(notebook):
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return sum("image/png" in output.get("data", {}) for output in outputs)


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


@pytest.fixture(scope="module")
def run_on_cohorts(cinc2019_zip, tmp_path_factory):
    """Return how to run a notebook of open cohorts, in a folder in which they are where it looks for them."""
    folder = tmp_path_factory.mktemp("cohorts") / "notebooks"
    folder.mkdir()
    (folder / "data").symlink_to(cinc2019_zip.parents[1])

    def run_smaller(path):
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            for stored, smaller in SMALLER.items():
                cell.source = cell.source.replace(stored, smaller)
        return run(notebook, folder)

    return run_smaller


@pytest.fixture(scope="module")
def from_zip(run_on_cohorts):
    """Return the fifth notebook after it made its home."""
    return run_on_cohorts(NOTEBOOKS[4])


@pytest.mark.parametrize("path", SIMULATED, ids=name_of)
def test_notebook_runs_and_shows_plots(path, two_versions, monkeypatch):
    monkeypatch.setenv("VIGIL_HOME", str(two_versions))
    assert count_plots(run(nbformat.read(path, as_version=4), path.parent)) >= 3


def test_the_chain_from_zip_to_model_card_runs(from_zip):
    assert count_plots(from_zip) >= 3
    card = from_zip.cells[-2].outputs[0]["data"]["text/markdown"]
    assert card.startswith("---\n") or "# " in card
    assert "cinc2019" in card


@pytest.mark.parametrize("path", MEASURED, ids=name_of)
def test_notebook_of_open_cohorts_runs_and_shows_plots(path, from_zip, run_on_cohorts):  # noqa: ARG001 - makes the home
    assert count_plots(run_on_cohorts(path)) >= 3


def test_what_a_test_makes_smaller_is_in_the_notebooks():
    sources = "".join(path.read_text() for path in NOTEBOOKS[4:]).replace('\\"', '"')
    assert [stored for stored in SMALLER if stored not in sources] == []


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
