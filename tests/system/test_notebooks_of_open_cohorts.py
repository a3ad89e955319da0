"""The notebooks of open cohorts run from top to bottom.

They run on fewer stays and trees than they are stored with, in a folder beside which they make their homes.
"""

import nbformat
import pytest

from tests.support.notebooks import NOTEBOOKS, count_plots, name_of, run

SMALLER = {
    "STAYS = 1500": "STAYS = 500",
    "ONLY = None": 'ONLY = "all_signals"',
    'SETTINGS = {"n_estimators": 80': 'SETTINGS = {"n_estimators": 30',
    'SETTINGS = {"n_estimators": 60': 'SETTINGS = {"n_estimators": 30',
}


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


def test_the_chain_from_zip_to_model_card_runs(from_zip):
    assert count_plots(from_zip) >= 3
    card = from_zip.cells[-2].outputs[0]["data"]["text/markdown"]
    assert card.startswith("---\n") or "# " in card
    assert "cinc2019" in card


@pytest.mark.parametrize("path", NOTEBOOKS[5:], ids=name_of)
def test_notebook_of_open_cohorts_runs_and_shows_plots(path, from_zip, run_on_cohorts):  # noqa: ARG001 - makes the home
    assert count_plots(run_on_cohorts(path)) >= 3


def test_what_a_test_makes_smaller_is_in_the_notebooks():
    sources = "".join(path.read_text() for path in NOTEBOOKS[4:]).replace('\\"', '"')
    assert [stored for stored in SMALLER if stored not in sources] == []
