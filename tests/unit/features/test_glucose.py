"""Time in range and glucose profile: figures computed by hand, and an independent slow implementation."""

from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vigil.features.glucose import RANGES, GlucoseError, glucose_profile, read_sensors, time_in_range
from vigil.features.observations import ObservationError

START = pd.Timestamp("2026-03-02T00:00:00Z")


def frame(minutes, values, subject="a", unit="mg/dL", start=START):
    times = [start + pd.Timedelta(minutes=float(minute)) for minute in minutes]
    rows = pd.DataFrame({"subject_id": subject, "observed_at": times, "signal": "glucose"})
    return rows.assign(value=pd.Series(list(values), dtype=object), unit=unit)


def figures(rows, **options):
    return time_in_range(rows, **options).iloc[0]


def shares(row):
    return [round(row[name], 6) for name in RANGES]


def test_shares_mean_gmi_and_cv_of_a_fortnight_are_those_computed_by_hand():
    values = [50, 60, 100, 180, 181, 250, 251, 128] * 504  # 4,032 readings of 5 minutes: 14 days
    row = figures(frame(np.arange(4032) * 5, values))
    assert shares(row) == [12.5, 12.5, 37.5, 25.0, 12.5]
    assert row["mean"] == pytest.approx(150)  # 1,200 / 8
    assert row["gmi"] == pytest.approx(3.31 + 0.02392 * 150)  # 6.898
    assert row["cv"] == pytest.approx(100 * np.sqrt(43146 / 8) / 150)  # the squares of the distances add up to 43,146
    assert (row["readings"], row["left_out"]) == (4032, 0)
    assert (row["active"], row["sufficient"]) == (100.0, True)
    assert (row["start"], row["end"]) == (START, START + pd.Timedelta(days=14))


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (53, "very_low"),
        (54, "low"),
        (69, "low"),
        (70, "in_range"),
        (180, "in_range"),
        (181, "high"),
        (250, "high"),
        (251, "very_high"),
    ],
)
def test_limits_belong_to_the_ranges_of_the_consensus(value, name):
    assert figures(frame([0, 5], [value, value]))[name] == 100


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (2.9, "very_low"),
        (3.0, "low"),
        (3.8, "low"),
        (3.9, "in_range"),
        (10.0, "in_range"),
        (10.1, "high"),
        (13.9, "high"),
        (14.0, "very_high"),
    ],
)
def test_mmol_per_litre_has_the_limits_that_the_consensus_states_for_it(value, name):
    row = figures(frame([0, 5], [value, value], unit=None), unit="mmol/L")
    assert row[name] == 100
    assert row["mean"] == pytest.approx(value, abs=0.001)


def test_both_units_give_the_same_figures():
    minutes, mmol = np.arange(400) * 5, np.round(np.linspace(2.5, 15, 400), 1)
    ours = figures(frame(minutes, mmol, unit="mmol/L"))
    theirs = figures(frame(minutes, np.rint(mmol * 18.0156)))
    assert shares(ours) == shares(theirs)
    assert ours["gmi"] == pytest.approx(theirs["gmi"], abs=0.001)


def test_a_gap_is_not_filled_and_is_not_active():
    row = figures(frame([0, 5, 10, 310, 315], [60, 60, 60, 100, 100]))  # five hours without a reading
    assert row["active"] == pytest.approx(100 * 25 / (14 * 1440))  # five readings of five minutes
    assert shares(row)[1:3] == [60.0, 40.0]
    assert not row["sufficient"]


def test_sensors_of_other_intervals_count_by_time_and_not_by_readings():
    slow, fast = np.arange(0, 720, 15), np.arange(720, 1440, 5)  # half a day each: 48 and 144 readings
    row = figures(frame([*slow, *fast], [60] * len(slow) + [100] * len(fast)), days=1)
    assert row["active"] == pytest.approx(100, abs=1.5)
    assert row["low"] == pytest.approx(50, abs=1.5)  # by readings it would be 25


def test_finger_pricks_are_no_sensor():
    row = figures(frame(np.arange(0, 14 * 1440, 240), [100] * 84))  # six a day for a fortnight
    assert row["active"] == pytest.approx(100 * 15 / 240, abs=0.1)
    assert not row["sufficient"]


@pytest.mark.parametrize(("days_worn", "sufficient"), [(9.75, False), (10, True), (14, True), (30, True)])
def test_seventy_percent_of_fourteen_days_are_sufficient(days_worn, sufficient):
    number = round(days_worn * 288)
    row = figures(frame(np.arange(number) * 5, [100] * number))
    assert row["sufficient"] == sufficient
    assert row["active"] == pytest.approx(min(100, 100 * days_worn / 14))
    assert not figures(frame(np.arange(number) * 5, [100] * number), days=7)["sufficient"]  # a week is too short


def test_a_repeated_time_counts_once_and_the_worse_value_counts():
    row = figures(frame([0, 5, 5, 5, 10], [100, 100, 60, 100, 100]))
    assert (row["readings"], row["left_out"]) == (3, 0)
    assert shares(row)[1] == pytest.approx(100 / 3, abs=1e-5)


def test_low_and_high_count_one_beyond_the_limit_once_the_range_is_stated():
    rows = frame([0, 5, 10, 15], ["Low", "High", "100", "LO"], unit=None)
    row = figures(rows, unit="mg/dL", sensor_range=(40, 400))
    assert (row["very_low"], row["very_high"], row["in_range"], row["at_limit"]) == (50, 25, 25, 75)
    assert row["mean"] == (39 + 401 + 100 + 39) / 4
    with pytest.raises(GlucoseError, match="sensor_range: 3 readings are Low or High"):
        time_in_range(rows, unit="mg/dL")


def test_checked_bounds_are_understood():
    rows = frame([0, 5], [40, 100]).assign(signal=["glucose_below_range", "glucose"])
    assert figures(rows)["very_low"] == 50


def test_what_cannot_be_used_is_counted_and_a_patient_without_a_reading_has_a_row():
    rows = pd.concat([frame([0, 5, 10], [100, 5, "Err"]), frame([0], [0], subject="b")])
    table = time_in_range(rows).set_index("subject_id")
    assert table["left_out"].to_dict() == {"a": 2, "b": 1}
    assert table["readings"].to_dict() == {"a": 1, "b": 0}
    assert np.isnan(table["mean"]["b"])
    assert table["active"]["b"] == 0


@pytest.mark.parametrize(
    ("rows", "options", "says"),
    [
        (frame([0], [6.5], unit=None), {}, "unit: 1 readings state none; give unit="),
        (frame([0], [5.5]), {}, r"no reading of glucose can be used \(implausible 1\)"),
        (frame([0], [100]).assign(signal="heart_rate"), {}, "no reading of glucose among 1 rows"),
        (frame([0], [100]), {"unit": "mmHg"}, "unit='mmHg': not understood; expected one of mg/dL, mmol/L"),
        (frame([0], [100]), {"days": 0}, "days=0: expected more than 0"),
        (frame([0], [100]), {"sensor_range": (400, 40)}, "expected the lowest value first"),
        (frame([0], [100]), {"time_zone": "Berlin"}, "time_zone='Berlin': unknown"),
    ],
)
def test_errors_say_what_to_do(rows, options, says):
    with pytest.raises(GlucoseError, match=says):
        time_in_range(rows, **options)


def test_a_local_time_needs_a_zone():
    rows = frame([0, 5], [100, 100])
    rows["observed_at"] = rows["observed_at"].dt.tz_localize(None)
    with pytest.raises(ObservationError, match="time without a time zone"):
        time_in_range(rows)
    assert figures(rows, time_zone="Europe/Berlin")["end"] == START + pd.Timedelta(minutes=10) - pd.Timedelta(hours=1)
    with pytest.raises(ObservationError, match="missing column value"):
        time_in_range(rows.drop(columns="value"))


def test_profile_is_by_the_clock_of_the_patient():
    rows = pd.concat([frame([0, 5], [100, 120]), frame([0, 5], [100, 120], subject="b")])
    profile = glucose_profile(rows, time_zone={"a": "Europe/Berlin", "b": "America/New_York"})
    with_readings = profile[profile["readings"] > 0].set_index("subject_id")
    assert with_readings["minute"].to_dict() == {"a": 60, "b": 19 * 60}
    assert len(profile) == 2 * 96
    with pytest.raises(GlucoseError, match="time_zone: none for some"):
        glucose_profile(rows, time_zone={"a": "Europe/Berlin"})
    with pytest.raises(GlucoseError, match="bin_minutes=7"):
        glucose_profile(rows, time_zone="UTC", bin_minutes=7)


@pytest.mark.parametrize(("day", "hours", "readings"), [("2026-03-29", 23, 0), ("2026-10-25", 25, 24), ("2026-06-01", 24, 12)])
def test_profile_on_the_days_on_which_the_clocks_change(day, hours, readings):
    berlin = ZoneInfo("Europe/Berlin")
    rows = frame(np.arange(0, hours * 60, 5), [100] * hours * 12, start=pd.Timestamp(day, tz=berlin).tz_convert("UTC"))
    profile = glucose_profile(rows, time_zone="Europe/Berlin", bin_minutes=60)
    assert profile.set_index("minute")["readings"][2 * 60] == readings  # 2 o'clock: skipped, or there twice
    assert profile["readings"].drop(2).unique().tolist() == [12]
    assert figures(rows, days=hours / 24)["active"] == pytest.approx(100)


def test_local_times_that_the_clocks_had_twice_or_never_are_left_out():
    times = ["2026-03-29T02:30", "2026-03-29T03:30", "2026-10-25T02:30", "2026-10-25T03:30"]
    rows = frame([0] * 4, [100] * 4).assign(observed_at=pd.to_datetime(times))
    assert figures(rows, time_zone="Europe/Berlin", days=365)[["readings", "left_out"]].tolist() == [2, 2]


def slow_profile(readings, zone, width):
    """Return value of each percentile by bin: every minute that a reading stands for is one value."""
    found = {}
    for row in readings.itertuples():
        local = row.observed_at.tz_convert(ZoneInfo(zone))
        bin_of = (local.hour * 60 + local.minute) // width * width
        found.setdefault(bin_of, []).extend([row.value] * round(row.minutes))
    return {bin_of: np.percentile(values, [5, 25, 50, 75, 95], method="inverted_cdf") for bin_of, values in found.items()}


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([1, 2, 5, 5, 5, 15, 90, 600]), st.integers(40, 400)), min_size=1, max_size=60),
    st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata", "America/St_Johns"]),
)
def test_figures_are_those_of_a_slow_implementation(steps, zone):
    rows = frame(np.cumsum([step for step, _ in steps]), [value for _, value in steps], start=pd.Timestamp("2026-03-28T20:00Z"))
    readings, _ = read_sensors(rows)
    spacings = [step for step, _ in steps[1:]]
    for number, minutes in enumerate(readings["minutes"]):
        around = spacings[max(0, number - 4) : number + 5]
        interval = min(float(np.median(around)) if around else 15.0, 15.0)
        assert minutes == pytest.approx(min(interval, spacings[number]) if number < len(spacings) else interval)

    row = figures(rows, days=30)
    by_minute = [row.value for row in readings.itertuples() for _ in range(round(2 * row.minutes))]  # half minutes
    expected = np.histogram(by_minute, [0, 54, 70, 181, 251, 500])[0] / len(by_minute) * 100
    assert [row[name] for name in RANGES] == pytest.approx(expected.tolist())
    assert sum(row[name] for name in RANGES) == pytest.approx(100)
    assert row["mean"] == pytest.approx(np.mean(by_minute))
    assert row["cv"] == pytest.approx(100 * np.std(by_minute) / np.mean(by_minute))
    assert 0 < row["active"] <= 100

    profile = glucose_profile(rows, time_zone=zone, days=30, bin_minutes=30).set_index("minute")
    halves = readings.assign(minutes=2 * readings["minutes"])
    for bin_of, percentiles in slow_profile(halves, zone, 30).items():
        assert profile.loc[bin_of, ["p05", "p25", "median", "p75", "p95"]].tolist() == percentiles.tolist()
