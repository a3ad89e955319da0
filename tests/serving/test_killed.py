"""Killed at any moment: no acknowledged reading is lost, no episode has two records, risks are as if nothing had happened."""

from tests.soak.home import copy_of
from tests.soak.kill import VICTIMS, kill_often


def test_whatever_is_killed_nothing_that_was_promised_breaks(home, tmp_path):
    report = kill_often(copy_of(home, tmp_path / "killed"), kills=len(VICTIMS), seed=1)
    assert report.faults == []
    assert sum(report.kills.values()) == len(VICTIMS)
    assert report.alarms > 0
    assert report.readings > 100
