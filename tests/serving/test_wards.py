"""What wards ask of their alarms: read when it changes; a bad file is complained of once and changes nothing."""

import logging
import os
from datetime import timedelta
from pathlib import Path

import pytest

from models.alarms.policy import Policy
from serving.records.ward_settings import Ward, Wards, WardsError
from tests.serving.bedside import heart_model


@pytest.fixture
def complaints(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("vigil"), "propagate", True)
    caplog.set_level(logging.INFO)
    return lambda: [record.getMessage() for record in caplog.records]


def write(home, text):
    (home / "wards.toml").write_text(text)


def test_without_a_file_every_ward_is_the_usual(tmp_path):
    wards = Wards(tmp_path)
    assert wards.of("B4") == wards.of("") == Ward()
    assert wards.of("B4").policy(heart_model()) == Policy(0.5, timedelta(hours=8))


def test_a_ward_asks_what_its_table_says_and_no_more_than_that(tmp_path):
    default = "[default]\nalarms_per_patient_day = 0.5\nsilence_hours = 4\n"
    write(tmp_path, default + "[wards.B4]\nalarms_per_patient_day = 0.3\nthreshold = 0.12")
    wards = Wards(tmp_path)
    assert wards.of("B4") == Ward(alarms_per_patient_day=0.3, threshold=0.12)
    assert wards.of("B5") == Ward(alarms_per_patient_day=0.5, silence_hours=4)
    assert wards.of("B4").policy(heart_model()) == Policy(0.12, timedelta(hours=8))
    assert wards.of("B5").policy(None) == Policy(None, timedelta(hours=4))
    assert wards.of("B4").policy(None).threshold is None  # without a model there is no probability to hold against it


def test_the_limit_of_the_safety_net_is_changed_in_writing_with_a_reason(tmp_path):
    write(tmp_path, '[wards.H1.safety_net]\nalarm_from = 9\nbecause = "hospice: goals of care agreed by the palliative team"')
    wards = Wards(tmp_path)
    assert wards.of("H1").policy(heart_model()).news2_from == 9
    assert wards.of("H1").safety_net.because.startswith("hospice")
    assert wards.of("B4").policy(heart_model()).news2_from == 7


@pytest.mark.parametrize(
    ("rate", "patients", "allowed"), [(0.5, 1, 1), (0.5, 0, 1), (0.5, 20, 10), (0.1, 19, 1), (0.1, 20, 2), (None, 20, 4)]
)
def test_a_budget_is_of_patients_and_at_least_one_alarm(rate, patients, allowed):
    assert Ward(alarms_per_patient_day=rate).allowed(patients, promised=0.2) == allowed


BAD = {
    "no TOML": ("[default", "cannot be read (TOMLDecodeError); expected TOML"),
    "no text": ("\udcff", "cannot be read (UnicodeDecodeError); expected TOML"),
    "an unknown field": ("[wards.B4]\nbudget = 1", "wards.B4.budget: "),
    "an unknown table": ("[ward.B4]\nthreshold = 0.1", "ward: "),
    "too high": ("[wards.B4]\nthreshold = 1.5", "wards.B4.threshold: Input should be less than 1"),
    "never an alarm": (
        "[default]\nalarms_per_patient_day = 0",
        "default.alarms_per_patient_day: Input should be greater than 0",
    ),
    "a word": ('[default]\nsilence_hours = "long"', "default.silence_hours: Input should be a valid number"),
    "a safety net without a reason": ("[default.safety_net]\nalarm_from = 9", "default.safety_net.because: Field required"),
    "a safety net of nothing": (
        '[default.safety_net]\nalarm_from = 0\nbecause = "we do not want it"',
        "default.safety_net.alarm_from: Input should be greater than or equal to 5",
    ),
    "no silence": ("[default]\nsilence_hours = 0", "default.silence_hours: Input should be greater than or equal to 0.25"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_complained_of_once_and_what_held_before_holds(tmp_path, name, complaints):
    text, message = BAD[name]
    write(tmp_path, "[wards.B4]\nthreshold = 0.2")
    wards = Wards(tmp_path)
    (tmp_path / "wards.toml").write_bytes(text.encode(errors="surrogateescape"))
    for _ in range(3):
        wards.refresh()
    (said,) = complaints()
    assert said.startswith(f"{tmp_path / 'wards.toml'}: {message}")
    assert said.endswith("; what held before holds")
    assert wards.of("B4").threshold == 0.2
    write(tmp_path, "[wards.B4]\nthreshold = 0.25")
    wards.refresh()
    assert wards.of("B4").threshold == 0.25
    assert len(complaints()) == 1


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_at_a_start_is_complained_of_and_defaults_hold(tmp_path, name, complaints):
    text, message = BAD[name]
    (tmp_path / "wards.toml").write_bytes(text.encode(errors="surrogateescape"))
    assert Wards(tmp_path).of("B4") == Ward()
    (said,) = complaints()
    assert message in said
    with pytest.raises(WardsError) as raised:
        Wards(tmp_path, strict=True)
    assert message in str(raised.value)


def test_the_last_good_file_holds_where_there_is_a_slip_at_a_start(tmp_path, complaints):
    write(tmp_path, "[wards.B4]\nthreshold = 0.2")
    assert Wards(tmp_path).of("B4").threshold == 0.2
    write(tmp_path, "[wards.B4]\nthreshold = 0,12")  # as a spreadsheet of many countries writes it
    assert Wards(tmp_path).of("B4").threshold == 0.2
    assert "wards.last_good.toml holds, the last good one" in complaints()[-1]
    (tmp_path / "wards.last_good.toml").write_text("[wards")
    assert Wards(tmp_path).of("B4") == Ward()


def link_to_itself(path):
    path.symlink_to(path)


@pytest.mark.parametrize("make", [link_to_itself, os.mkfifo, Path.mkdir])
def test_what_is_no_file_neither_stops_nor_holds_up(tmp_path, make):
    path = tmp_path / "wards.toml"
    make(path)
    wards = Wards(tmp_path)
    assert wards.of("B4") == Ward()
    path.rmdir() if path.is_dir() else path.unlink()
    write(tmp_path, "[wards.B4]\nthreshold = 0.2")
    wards.refresh()
    assert wards.of("B4").threshold == 0.2
    path.unlink()
    make(path)
    wards.refresh()
    assert wards.of("B4").threshold == 0.2  # what held before
    with pytest.raises(WardsError, match="cannot be read"):
        Wards(tmp_path, strict=True)


def test_a_file_that_goes_takes_its_wishes_with_it(tmp_path):
    write(tmp_path, "[wards.B4]\nthreshold = 0.2")
    wards = Wards(tmp_path)
    (tmp_path / "wards.toml").unlink()
    wards.refresh()
    assert wards.of("B4") == Ward()
