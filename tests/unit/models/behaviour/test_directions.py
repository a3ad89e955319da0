"""Directional tests: they pass a sensible risk and fail absurd ones where they are absurd."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.support.synthetic_behaviour import VIEWS, level, logistic, ward
from tests.unit.models.behaviour.test_moments import checked, index_of, reading
from vigil.models.assessment import assess
from vigil.models.behaviour.directions import (
    FEWEST_CASES,
    _worsen,
    measure_history_effect,
    measure_removal,
    measure_worsening,
    worsen_value,
)
from vigil.models.behaviour.moments import choose_moments, split_into_moments


@pytest.fixture(scope="module")
def ward_moments():
    return choose_moments(*ward(), at_most=240)


def totals(figures, by="signal"):
    other = "length" if by == "signal" else "signal"
    return {row[by]: row for row in figures["cases"] if row[other] == "all" and row[by] != "all"}


# Read by hand from the chart of RCP 2017.
@pytest.mark.parametrize(
    ("signal", "value", "worse"),
    [
        ("heart_rate", 76, 91), ("heart_rate", 60, 50), ("heart_rate", 90, 91), ("heart_rate", 51, 50),
        ("heart_rate", 45, 40), ("heart_rate", 40, None), ("heart_rate", 100, 111), ("heart_rate", 115, 131),
        ("heart_rate", 140, None),
        ("respiratory_rate", 16, 21), ("respiratory_rate", 15, 11), ("respiratory_rate", 10, 8), ("respiratory_rate", 8, None),
        ("respiratory_rate", 22, 25), ("respiratory_rate", 30, None),
        ("spo2", 98, 95), ("spo2", 95, 93), ("spo2", 93, 91), ("spo2", 91, None),
        ("systolic_bp", 125, 110), ("systolic_bp", 200, 220), ("systolic_bp", 105, 100), ("systolic_bp", 95, 90),
        ("systolic_bp", 90, None), ("systolic_bp", 230, None),
        ("body_temperature", 36.7, 36.0), ("body_temperature", 37.5, 38.1), ("body_temperature", 38.5, 39.1),
        ("body_temperature", 39.5, None), ("body_temperature", 35.5, 35.0), ("body_temperature", 34.9, None),
        ("on_oxygen", 0, 1), ("on_oxygen", 1, None), ("consciousness", 0, 1), ("consciousness", 2, None),
    ],
)  # fmt: skip
def test_worsen_value_gives_the_nearest_printed_value_of_a_worse_band(signal, value, worse):
    assert worsen_value(signal, value) == (None if worse is None else pytest.approx(worse))


def test_worsen_changes_the_latest_reading_of_one_signal_alone(ward_moments):
    worse, changed = _worsen(ward_moments, "heart_rate")
    assert changed.mean() > 0.8
    differs = worse.observations["value"] != ward_moments.observations["value"]
    assert (ward_moments.observations.loc[differs, "signal"] == "heart_rate").all()
    assert differs.sum() == changed.sum()
    before, after = ward_moments.features(VIEWS), worse.features(VIEWS)
    for row in np.flatnonzero(changed):
        now = float(before["heart_rate_last_24h"][row])
        assert after["heart_rate_last_24h"][row] == np.float32(worsen_value("heart_rate", now))
    assert (after["news2"] > before["news2"])[changed].all()
    assert (after["news2"] == before["news2"])[~changed].all()
    assert (after["spo2_last_24h"] == before["spo2_last_24h"]).all()


def test_worsen_keeps_the_reading_the_latest_of_several_at_one_time():
    observations = checked(reading(1, "spo2", 96), reading(1, "spo2", 98), reading(0, "spo2", 99), reading(1, "heart_rate", 96))
    ward_moments = split_into_moments(observations, index_of(["a"], 2).tail(1))
    worse, changed = _worsen(ward_moments, "spo2")
    assert changed.tolist() == [True]
    assert worse.features(VIEWS)["spo2_last_24h"].tolist() == [95]
    assert worse.observations.query("signal == 'heart_rate'")["value"].tolist() == [96]


def test_worsen_keeps_systolic_pressure_above_the_diastolic():
    observations = checked(
        reading(0, "systolic_bp", 120), reading(0, "diastolic_bp", 112),
        reading(0, "systolic_bp", 120, subject="b"), reading(0, "diastolic_bp", 80, subject="b"),
    )  # fmt: skip
    _, changed = _worsen(split_into_moments(observations, index_of(["a", "b"], 1)), "systolic_bp")
    assert changed.tolist() == [False, True]


def test_worsening_passes_a_risk_that_rises_with_news2(ward_moments):
    result = measure_worsening(level, ward_moments, VIEWS)
    assert result["passed"]
    assert all(row["violations"] == 0 and row["fall_p95"] == 0 for row in result["cases"])
    assert result["cases"][0]["signal"] == result["cases"][0]["length"] == "all"
    assert set(totals(result)) == {
        "respiratory_rate", "spo2", "on_oxygen", "systolic_bp", "heart_rate", "consciousness", "body_temperature",
    }  # fmt: skip
    assert set(totals(result, by="length")) == {"under 2 h", "2 to 12 h", "over 12 h"}
    assert sum(row["cases"] for row in totals(result).values()) == result["cases"][0]["cases"]


def test_worsening_fails_a_risk_that_falls_with_the_heart_rate(ward_moments):
    def absurd(rows):
        return logistic(-0.1 * rows["heart_rate_last_24h"].to_numpy(float))

    result = measure_worsening(absurd, ward_moments, VIEWS)
    assert not result["passed"]
    by_signal = totals(result)
    assert by_signal["heart_rate"]["share"] > 0.5
    assert by_signal["heart_rate"]["fall_p95"] > 1
    assert all(row["violations"] == 0 for signal, row in by_signal.items() if signal != "heart_rate")


def test_worsening_fails_a_risk_that_is_absurd_for_short_histories_alone(ward_moments):
    def absurd(rows):
        short = rows["heart_rate_count_24h"].to_numpy(float) < 3
        return np.where(short, 1 - level(rows), level(rows))

    result = measure_worsening(absurd, ward_moments, VIEWS)
    assert not result["passed"]
    shares = {length: row["share"] for length, row in totals(result, by="length").items()}
    assert shares["under 2 h"] > 0.5
    assert shares["over 12 h"] == 0


def test_worsening_counts_falls_beyond_the_tolerance():
    """By hand: SpO2 from 98 to 95, a fall of 3 x 0.1 = 0.3; pulse from 60 to 50, a fall of 10 x 0.02 = 0.2."""
    observations = checked(reading(0, "spo2", 98), reading(0, "heart_rate", 60))

    def risk(rows):
        return logistic(0.1 * rows["spo2_last_24h"].to_numpy(float) + 0.02 * rows["heart_rate_last_24h"].to_numpy(float) - 12)

    result = measure_worsening(risk, split_into_moments(observations, index_of(["a"], 1)), VIEWS)
    by_signal = totals(result)
    assert (by_signal["spo2"]["cases"], by_signal["spo2"]["violations"]) == (1, 1)
    assert by_signal["spo2"]["fall_median"] == pytest.approx(0.3, abs=1e-5)
    assert (by_signal["heart_rate"]["cases"], by_signal["heart_rate"]["violations"]) == (1, 0)
    assert by_signal["heart_rate"]["fall_p95"] == pytest.approx(0.2, abs=1e-5)
    assert result["cases"][0]["share"] == 0.5
    assert result["passed"]  # too few to judge
    assert result["cases"][0]["cases"] < FEWEST_CASES


def test_worsening_without_vital_signs_has_no_cases():
    result = measure_worsening(level, split_into_moments(checked(reading(0, "glucose", 90)), index_of(["a"], 1)), VIEWS)
    assert result == {"cases": [], "judged": 0, "broken": [], "passed": True}


def test_history_passes_a_risk_of_the_level(ward_moments):
    result = measure_history_effect(level, ward_moments, VIEWS)
    assert result["passed"]
    assert [row["news2"] for row in result["cases"]] == ["all", "below 5", "5 or more"]
    assert all((row["outside"], row["ratio_p5"], row["ratio_p95"]) == (0, 1, 1) for row in result["cases"])
    assert result["cases"][0]["cases"] == len(ward_moments)


def test_history_fails_a_risk_of_change_alone(ward_moments):
    """A model trained without truncated records: without a change there is no risk."""

    def absurd(rows):
        change = rows["heart_rate_change_6h"].abs().fillna(0) / 10 + rows["spo2_change_6h"].abs().fillna(0)
        return logistic(-5 + change.to_numpy(float))

    result = measure_history_effect(absurd, ward_moments, VIEWS)
    assert not result["passed"]
    assert result["cases"][-1]["share"] > 0.3
    assert result["cases"][-1]["ratio_p95"] > 4


def test_history_compares_a_set_alone_with_the_same_set_an_hour_after_a_well_one():
    observations = checked(reading(0, "spo2", 88), reading(0.25, "heart_rate", 130), reading(-30, "body_temperature", 39))
    seen = []

    def risk(rows):
        seen.append(rows)
        return np.full(len(rows), 0.1)

    result = measure_history_effect(risk, split_into_moments(observations, index_of(["a", "nothing"], 1)), VIEWS)
    alone, preceded = (rows.iloc[0] for rows in seen)
    assert len(seen[0]) == len(seen[1]) == 1  # the other patient has no observations
    for rows in (alone, preceded):
        assert (rows["spo2_last_24h"], rows["heart_rate_last_24h"], rows["news2"]) == (88, 130, 5)
        assert (rows["spo2_age_24h"], rows["heart_rate_age_24h"]) == (0, 0)
    assert (alone["spo2_count_24h"], preceded["spo2_count_24h"]) == (1, 2)
    assert (preceded["spo2_change_6h"], preceded["heart_rate_change_6h"]) == (88 - 97, 130 - 76)
    assert preceded["body_temperature_count_24h"] == 0
    assert result["cases"][0]["cases"] == 1


def without_model(rows):
    return assess(None, rows)


def answering(rows, bands, decided_by="model"):
    return [replace(risk, band=band, decided_by=decided_by) for risk, band in zip(without_model(rows), bands, strict=True)]


def where_spo2_is_unknown(rows, band):
    return np.where(rows["spo2_last_24h"].isna(), band, "high")


def test_removal_reports_bands_of_news2_without_judging_them():
    """By hand: 3 + 2 + 2 points are high. Without the 3 it is 4: low. Without a 2 it is a single 3: medium."""
    observations = checked(reading(0, "spo2", 88), reading(0, "heart_rate", 115), reading(0, "body_temperature", 39.5))
    result = measure_removal(without_model, split_into_moments(observations, index_of(["a"], 1)), VIEWS)
    assert result["cases"] == [
        {"signal": "body_temperature", "decided_by": "news2", "cases": 1, "low": 0},
        {"signal": "heart_rate", "decided_by": "news2", "cases": 1, "low": 0},
        {"signal": "spo2", "decided_by": "news2", "cases": 1, "low": 1},
    ]
    assert (result["high"], result["removals"], result["low"], result["passed"]) == (1, 0, 0, True)


def test_removal_fails_an_answer_that_needs_one_signal(ward_moments):
    result = measure_removal(lambda rows: answering(rows, where_spo2_is_unknown(rows, "low")), ward_moments, VIEWS)
    assert not result["passed"]
    assert result["high"] == len(ward_moments)
    lows = {row["signal"]: row["low"] for row in result["cases"]}
    assert lows.pop("spo2") == len(ward_moments)
    assert set(lows.values()) == {0}
    assert result["share"] == 1 / 8


@pytest.mark.parametrize("band", ["unknown", "medium"])
def test_removal_accepts_unknown_and_medium(ward_moments, band):
    result = measure_removal(lambda rows: answering(rows, where_spo2_is_unknown(rows, band)), ward_moments, VIEWS)
    assert (result["passed"], result["low"], result["removals"]) == (True, 0, 8 * len(ward_moments))


def test_removal_without_a_patient_in_the_high_band_passes(ward_moments):
    result = measure_removal(lambda rows: answering(rows, ["medium"] * len(rows)), ward_moments, VIEWS)
    assert (result["high"], result["removals"], result["passed"]) == (0, 0, True)


def test_directional_tests_give_plain_json(ward_moments):
    for result in (
        measure_worsening(level, ward_moments, VIEWS),
        measure_history_effect(level, ward_moments, VIEWS),
        measure_removal(without_model, ward_moments, VIEWS),
    ):
        assert json.loads(json.dumps(result)) == result
