"""Processes killed at any moment: no acknowledged observation is lost, no episode has two records, risks are the same."""

from tests.soak.home import copy_home
from tests.soak.kill import VICTIMS, kill_often


def test_killed_processes_break_no_promise(home, tmp_path):
    report = kill_often(copy_home(home, tmp_path / "killed"), kills=len(VICTIMS), seed=1)
    assert report.faults == []
    assert sum(report.kills.values()) == len(VICTIMS)
    assert report.alarms > 0
    assert report.readings > 100
