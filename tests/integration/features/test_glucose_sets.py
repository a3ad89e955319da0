"""Time in range on an open set of glucose monitors, beside a count of its readings."""

import itertools

import pandas as pd
import pytest

from vigil.features.glucose import glucose_profile, read_sensors, time_in_range
from vigil.models.reporting.glucose_figures import draw_glucose_days, draw_glucose_report
from vigil.pipelines.sources.cgm import read_cgm_set


@pytest.fixture(scope="module")
def readings(cgm_sets):
    return read_cgm_set(cgm_sets / "BIGIDEAs.zip").accepted


def test_shares_of_a_sensor_of_five_minutes_are_nearly_those_of_its_readings(readings):
    table = time_in_range(readings, unit="mg/dL").set_index("subject_id")
    assert len(table) == 16
    for subject, own in readings.groupby("subject_id", observed=True):
        row = table.loc[subject]
        period = own[own["observed_at"] >= row["start"]].drop_duplicates("observed_at", keep="last")
        ranges = pd.cut(period["value"].round(), [0, 53, 69, 180, 250, 1000]).value_counts(normalize=True, sort=False) * 100
        assert row[["very_low", "low", "in_range", "high", "very_high"]].tolist() == pytest.approx(ranges.tolist(), abs=0.3)
        assert row["active"] == pytest.approx(100 * len(period) / 4032, abs=1)
        assert row["gmi"] == pytest.approx(3.31 + 0.02392 * period["value"].mean(), abs=0.01)


def test_figures_show_whether_a_record_is_sufficient_and_which_values_are_bounds(readings):
    ranges, profile = time_in_range(readings, unit="mg/dL"), glucose_profile(readings, unit="mg/dL", time_zone="UTC")
    short = ranges[~ranges["sufficient"]].iloc[0]
    figure = draw_glucose_report(short, profile[profile["subject_id"] == short["subject_id"]])
    assert "not the 70 % of 14 days" in figure.get_suptitle()
    labels = [text.get_text() for text in figure.axes[0].texts]
    assert f"{short['in_range']:.1f} %  in range, 70 to 180" in labels
    heights = [text.get_position()[1] for text in figure.axes[0].texts if "goal" in text.get_text()]
    assert all(above - below >= 9.9 for below, above in itertools.pairwise(heights))  # they do not overlap

    own, _ = read_sensors(readings[readings["subject_id"] == short["subject_id"]], unit="mg/dL")
    own = own.assign(local_time=own["observed_at"].dt.tz_localize(None))
    days = draw_glucose_days(own)
    shown = [title for axes in days.axes if (title := axes.get_title("left"))]
    assert len(shown) == (own["local_time"].max().normalize() - own["local_time"].min().normalize()).days + 1
