"""Another package adds a source and a task by entry points, and changes nothing here."""

import pytest

from vigil.models.own_tasks import find_task
from vigil.pipelines.home import Home
from vigil.pipelines.jobs.ingest import ingest
from vigil.pipelines.sources import SourceError, open_source

MODULE = """
from dataclasses import replace
from datetime import timedelta

from vigil.models.tasks import TASKS
from vigil.pipelines.sources.simulated import SimulatedWard

FALL = replace(TASKS["deterioration"], name="fall", outcome="fall", horizon=timedelta(hours=8))


def open_ward(data):
    ward = SimulatedWard(patients=3)
    ward.name, ward.task = "falls", FALL
    return ward
"""


@pytest.fixture
def other_package(tmp_path, monkeypatch):
    """A package in a folder of its own, as pip would install it."""
    site = tmp_path / "site"
    information = site / "ward_of_falls-1.0.dist-info"
    information.mkdir(parents=True)
    (site / "ward_of_falls.py").write_text(MODULE)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: ward-of-falls\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(
        "[vigil.sources]\nfalls = ward_of_falls:open_ward\n[vigil.tasks]\nfall = ward_of_falls:FALL\n"
    )
    monkeypatch.syspath_prepend(site)


def test_its_source_is_ingested_with_its_task(other_package, tmp_path):  # noqa: ARG001
    home = Home(tmp_path / "home")
    facts = ingest(open_source("falls", None), home)
    assert (facts.source, facts.task) == ("falls", "fall")
    assert home.cohort.task.horizon.total_seconds() == 8 * 3600
    assert find_task("fall", home.path).outcome == "fall"


def test_it_is_named_beside_the_others(other_package):  # noqa: ARG001
    with pytest.raises(SourceError, match="no such source; choose one of simulated, .*table, falls"):
        open_source("other", None)
