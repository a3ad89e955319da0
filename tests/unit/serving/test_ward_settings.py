"""The ward settings: read again when the file changes; an unusable file is logged once and changes nothing."""

import logging
import os
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.fake_ward import heart_rate_model
from vigil.models.alarms.policy import Policy
from vigil.serving.records.ward_settings import WardSettings, WardSettingsError, WardSettingsFile


@pytest.fixture
def log_messages(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("vigil"), "propagate", True)
    caplog.set_level(logging.INFO)
    return lambda: [record.getMessage() for record in caplog.records]


def write(home, text):
    (home / "wards.toml").write_text(text)


def test_settings_without_a_file_are_the_default_ones(tmp_path):
    settings = WardSettingsFile(tmp_path)
    assert settings.settings("B4") == settings.settings("") == WardSettings()
    assert settings.settings("B4").policy(heart_rate_model()) == Policy(0.5, timedelta(hours=8))


def test_settings_of_a_ward_are_those_of_its_section_only(tmp_path):
    default = "[default]\nalarms_per_patient_day = 0.5\nrefractory_hours = 4\n"
    write(tmp_path, default + "[wards.B4]\nalarms_per_patient_day = 0.3\nthreshold = 0.12")
    settings = WardSettingsFile(tmp_path)
    assert settings.settings("B4") == WardSettings(alarms_per_patient_day=0.3, threshold=0.12)
    assert settings.settings("B5") == WardSettings(alarms_per_patient_day=0.5, refractory_hours=4)
    assert settings.settings("B4").policy(heart_rate_model()) == Policy(0.12, timedelta(hours=8))
    assert settings.settings("B5").policy(None) == Policy(None, timedelta(hours=4))
    assert settings.settings("B4").policy(None).threshold is None  # without a model there is no probability to hold against it


def test_safety_net_limit_is_changed_in_writing_with_a_reason(tmp_path):
    write(tmp_path, '[wards.H1.safety_net]\nalarm_from = 9\nbecause = "hospice: goals of care agreed by the palliative team"')
    settings = WardSettingsFile(tmp_path)
    assert settings.settings("H1").policy(heart_rate_model()).news2_from == 9
    assert settings.settings("H1").safety_net.because.startswith("hospice")
    assert settings.settings("B4").policy(heart_rate_model()).news2_from == 7


def test_silence_hours_the_former_name_of_refractory_hours_is_read(tmp_path):
    write(tmp_path, "[default]\nsilence_hours = 4\n[wards.B4]\nrefractory_hours = 2\n[wards.B5]\nsilence_hours = 3")
    settings = WardSettingsFile(tmp_path, strict=True)
    assert settings.settings("none") == WardSettings(refractory_hours=4)
    assert settings.settings("B4").policy(None).refractory_period == timedelta(hours=2)
    assert settings.settings("B5").policy(None).refractory_period == timedelta(hours=3)
    write(tmp_path, "[default]\nsilence_hours = 0")
    with pytest.raises(WardSettingsError, match="should be greater than or equal to 0.25"):
        WardSettingsFile(tmp_path, strict=True)


@pytest.mark.parametrize(
    ("rate", "patients", "allowed"), [(0.5, 1, 1), (0.5, 0, 1), (0.5, 20, 10), (0.1, 19, 1), (0.1, 20, 2), (None, 20, 4)]
)
def test_allowed_alarms_follow_the_number_of_patients_and_are_at_least_one(rate, patients, allowed):
    assert WardSettings(alarms_per_patient_day=rate).allowed_alarms(patients, default_rate=0.2) == allowed


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
    "a word": ('[default]\nrefractory_hours = "long"', "default.refractory_hours: Input should be a valid number"),
    "a safety net without a reason": ("[default.safety_net]\nalarm_from = 9", "default.safety_net.because: Field required"),
    "a safety net of nothing": (
        '[default.safety_net]\nalarm_from = 0\nbecause = "we do not want it"',
        "default.safety_net.alarm_from: Input should be greater than or equal to 5",
    ),
    "no silence": (
        "[default]\nrefractory_hours = 0",
        "default.refractory_hours: Input should be greater than or equal to 0.25",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_unusable_file_is_logged_once_and_the_previous_settings_stay(tmp_path, name, log_messages):
    text, message = BAD[name]
    write(tmp_path, "[wards.B4]\nthreshold = 0.2")
    settings = WardSettingsFile(tmp_path)
    (tmp_path / "wards.toml").write_bytes(text.encode(errors="surrogateescape"))
    for _ in range(3):
        settings.refresh()
    (message_logged,) = log_messages()
    assert message_logged.startswith(f"{tmp_path / 'wards.toml'}: {message}")
    assert message_logged.endswith("; the previous settings stay in force")
    assert settings.settings("B4").threshold == 0.2
    write(tmp_path, "[wards.B4]\nthreshold = 0.25")
    settings.refresh()
    assert settings.settings("B4").threshold == 0.25
    assert len(log_messages()) == 1


@pytest.mark.parametrize("name", BAD)
def test_unusable_file_at_a_start_is_logged_and_defaults_are_in_force(tmp_path, name, log_messages):
    text, message = BAD[name]
    (tmp_path / "wards.toml").write_bytes(text.encode(errors="surrogateescape"))
    assert WardSettingsFile(tmp_path).settings("B4") == WardSettings()
    (message_logged,) = log_messages()
    assert message in message_logged
    with pytest.raises(WardSettingsError) as raised:
        WardSettingsFile(tmp_path, strict=True)
    assert message in str(raised.value)


def test_last_usable_copy_is_in_force_after_a_slip_at_a_start(tmp_path, log_messages):
    write(tmp_path, "[wards.B4]\nthreshold = 0.2")
    assert WardSettingsFile(tmp_path).settings("B4").threshold == 0.2
    write(tmp_path, "[wards.B4]\nthreshold = 0,12")  # as a spreadsheet of many countries writes it
    assert WardSettingsFile(tmp_path).settings("B4").threshold == 0.2
    assert "wards.last_good.toml stays in force" in log_messages()[-1]
    (tmp_path / "wards.last_good.toml").write_text("[wards")
    assert WardSettingsFile(tmp_path).settings("B4") == WardSettings()


def link_to_itself(path):
    path.symlink_to(path)


@pytest.mark.parametrize("make", [link_to_itself, os.mkfifo, Path.mkdir])
def test_path_that_is_no_file_neither_stops_nor_blocks_a_server(tmp_path, make):
    path = tmp_path / "wards.toml"
    make(path)
    settings = WardSettingsFile(tmp_path)
    assert settings.settings("B4") == WardSettings()
    path.rmdir() if path.is_dir() else path.unlink()
    write(tmp_path, "[wards.B4]\nthreshold = 0.2")
    settings.refresh()
    assert settings.settings("B4").threshold == 0.2
    path.unlink()
    make(path)
    settings.refresh()
    assert settings.settings("B4").threshold == 0.2  # what held before
    with pytest.raises(WardSettingsError, match="cannot be read"):
        WardSettingsFile(tmp_path, strict=True)


def test_removed_file_brings_the_default_settings_back(tmp_path):
    write(tmp_path, "[wards.B4]\nthreshold = 0.2")
    settings = WardSettingsFile(tmp_path)
    (tmp_path / "wards.toml").unlink()
    settings.refresh()
    assert settings.settings("B4") == WardSettings()
