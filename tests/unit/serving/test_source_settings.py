"""The declarations of sources: read again when the file changes; a mistake names the field and what was expected."""

from zoneinfo import ZoneInfo

import pandas as pd
import pytest

from vigil.features.declarations import SourceDeclaration
from vigil.serving.records.source_settings import SourceSettingsError, SourceSettingsFile


def write(home, text):
    (home / "sources.toml").write_text(text)


def test_sources_of_a_home_without_a_file_declare_nothing(tmp_path):
    assert SourceSettingsFile(tmp_path).declarations().of("gateway-1") == SourceDeclaration()


def test_declarations_are_read_again_when_the_file_changes(tmp_path):
    write(tmp_path, '[default]\ntime_zone = "Europe/Berlin"\n[sources.cgm]\nunits = { glucose = "mmol/L" }')
    file = SourceSettingsFile(tmp_path)
    assert file.declarations().of("cgm") == SourceDeclaration(units={"glucose": "mmol/L"})
    assert file.declarations().of("another").time_zone == ZoneInfo("Europe/Berlin")
    write(tmp_path, "[sources.cgm]\nerror_codes = { glucose = [9, 10, 12] }")
    assert file.declarations().of("cgm").error_codes == {"glucose": (9.0, 10.0, 12.0)}
    write(tmp_path, '[sources.cgm]\nunits = { glucose = "mmol/L" }\nranges = { glucose = [2.2, 22.2] }')
    assert file.declarations().of("cgm").ranges == {"glucose": (2.2, 22.2)}
    write(tmp_path, "[sources.cgm]\nerror_codes = { glucose = [9, 10, 12] }")
    assert file.declarations().of("cgm").error_codes == {"glucose": (9.0, 10.0, 12.0)}
    write(tmp_path, "[sources.cgm")
    assert file.declarations().of("cgm").error_codes == {"glucose": (9.0, 10.0, 12.0)}  # the last usable ones


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[sources.cgm]\nunits = { sugar = "mmol/L" }', "sources.cgm.units.sugar.*sugar is no signal"),
        ('[sources.cgm]\nunits = { glucose = "mmHg" }', "mmHg is no unit of glucose; expected one of mg/dL, mmol/L"),
        ('[sources.cgm]\ntime_format = "%d.%m.%Y"', "%d.%m.%Y does not tell a date and a time of day; expected such as"),
        ('[sources.cgm]\ntime_format = "%H:%M"', "does not tell a date"),
        ('[sources.cgm]\ntime_format = "%d.%m.%Y %I:%M"', "does not tell a date"),
        ("[sources.band]\ncarry_hours = { spo2 = 48 }", "carry_hours.spo2: Input should be less than or equal to 24"),
        ('[sources.cgm]\nclock = "server"', "clock: Input should be 'device' or 'gateway'"),
        ("[sources.band]\nstopped_after_minutes = { spo2 = 1 }", "stopped_after_minutes.spo2: .*greater than or equal to 2"),
        ("[sources.band]\nstopped_after_minutes = { spo2 = 1500 }", "stopped_after_minutes.spo2: .*less than or equal to 1440"),
        ("[sources.band]\nstopped_after_minutes = { pulse = 15 }", "stopped_after_minutes.pulse.*pulse is no signal"),
        ('[sources.cgm]\ntime_zone = "Middle/Earth"', "Middle/Earth is no time zone; expected a name such as Europe/Berlin"),
        ('[sources.cgm]\nerror_codes = { glucose = ["Low"] }', "should be a valid number"),
        ("[sources.cgm]\nerror_codes = { glucose = [inf] }", "should be a finite number"),
        ("[sources.cgm]\nranges = { heart_rate = [30, 250] }", "heart_rate has no bounds; expected one of spo2"),
        ("[sources.cgm]\nranges = { glucose = [400, 40] }", "glucose has another range; expected the lowest and the highest"),
        ("[sources.cgm]\nranges = { glucose = [2.2, 22.2] }", "in mg/dL, within 10 to 1500 mg/dL"),
        ("[sources.cgm]\nranges = { glucose = [40] }", "ranges"),
        ("[sources.cgm]\nunit = 1", "expected .*units, ranges, error_codes, time_zone"),
        ("[source.cgm]", "expected .default. and .sources.NAME."),
    ],
)
def test_a_mistake_names_the_field_and_what_was_expected(tmp_path, text, message):
    write(tmp_path, text)
    with pytest.raises(SourceSettingsError, match=message):
        SourceSettingsFile(tmp_path, strict=True)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
def test_local_time_at_a_change_of_the_clocks_is_not_guessed(zone):
    declaration = SourceDeclaration(time_zone=ZoneInfo(zone))
    times = [time.to_pydatetime() for time in pd.date_range("2026-01-01 00:15", freq="30min", periods=365 * 48)]
    found = {time: declaration.localise(time) for time in times}
    unclear = [time for time, instant in found.items() if instant is None]
    assert len(unclear) == (2 if zone == "Australia/Lord_Howe" else 4)  # half hours; there the clocks move by half an hour
    for time, instant in found.items():
        if instant is not None:
            assert instant.astimezone(ZoneInfo("UTC")).astimezone(ZoneInfo(zone)).replace(tzinfo=None) == time
