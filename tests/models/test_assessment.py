"""What an answer says of a patient: the model may add to NEWS2 and never hide it, and what is not known is not low."""

import numpy as np
import pandas as pd
import pytest

from features.batch import build_features
from features.observations import check
from models.alarms.safety_net import either
from models.assessment import assess, assess_registered, net_of, out_of_date
from models.registry import RegisteredModel

NOW = pd.Timestamp("2026-03-01T12:00Z").as_unit("us")
WELL = {
    "respiratory_rate": 16, "spo2": 97, "on_oxygen": 0, "systolic_bp": 122, "heart_rate": 74, "consciousness": 0,
    "body_temperature": 36.8,
}  # fmt: skip
SHOCK = {**WELL, "respiratory_rate": 31, "spo2": 90, "systolic_bp": 82, "heart_rate": 132, "consciousness": 1}  # NEWS2 15


class Says:
    """A model of one opinion."""

    def __init__(self, probability, unusual=()):
        self.probability = probability
        self.domain_ = self if unusual is not None else None
        self._unusual = unusual
        self.asked = 0

    def risk(self, rows):
        self.asked += len(rows)
        return np.full(len(rows), self.probability)

    def band(self, p):
        return "high" if p >= 0.5 else "medium" if p >= 0.2 else "low"

    def unusual(self, rows):
        return [tuple(self._unusual)] * len(rows)


def rows(*sets, age=np.nan, pregnant=np.nan, at=NOW):
    """Features at ``at`` of readings given as ``(minutes before, values)``."""
    readings = [
        {"subject_id": "p", "signal": name, "value": float(value), "observed_at": NOW - pd.Timedelta(minutes=minutes)}
        for minutes, values in sets
        for name, value in values.items()
    ]
    columns = {"subject_id": str, "signal": str, "value": float, "observed_at": "datetime64[us, UTC]"}
    observations = pd.DataFrame(readings, columns=list(columns)).astype(columns)
    index = pd.DataFrame({"subject_id": ["p"], "index_time": [at], "age": [age], "sex": [np.nan], "pregnant": [pregnant]})
    never = pd.Series([pd.NaT], dtype="datetime64[us, UTC]")
    index = index.assign(unit_admitted_at=never, hospital_admitted_at=never)
    return build_features(check(observations, at).accepted, index)


def said(model, *sets, **patient):
    (risk,) = assess(model, rows(*sets, **patient))
    return risk


def test_a_low_risk_of_the_model_does_not_hide_an_emergency():
    risk = said(Says(0.0075), (0, SHOCK))
    assert (risk.band, risk.decided_by, risk.basis, risk.probability) == ("high", "news2", "model", 0.0075)
    assert risk.reasons == ("news2_7_or_more", "news2_single_3")
    assert (risk.news2, risk.net_score, risk.net_spot) == (15, 15, 15)
    assert risk.is_emergency


@pytest.mark.parametrize(
    ("change", "band", "reasons"),
    [
        ({}, "low", ()),
        ({"heart_rate": 115}, "low", ()),  # 2 points
        ({"heart_rate": 115, "respiratory_rate": 22}, "low", ()),  # 4
        ({"systolic_bp": 89}, "medium", ("news2_single_3",)),
        ({"heart_rate": 115, "respiratory_rate": 22, "spo2": 95}, "medium", ("news2_5_or_6",)),
        ({"heart_rate": 115, "spo2": 91}, "medium", ("news2_5_or_6", "news2_single_3")),
        ({"heart_rate": 115, "respiratory_rate": 22, "spo2": 91}, "high", ("news2_7_or_more", "news2_single_3")),
    ],
)
def test_news2_asks_for_what_the_chart_says_whatever_the_model_does(change, band, reasons):
    risk = said(Says(0.01), (0, {**WELL, **change}))
    assert (risk.band, risk.reasons) == (band, reasons)
    assert risk.decided_by == ("model" if band == "low" else "news2")


def test_the_model_may_add_to_news2():
    risk = said(Says(0.9), (0, WELL))
    assert (risk.band, risk.decided_by, risk.reasons) == ("high", "model", ())
    assert said(Says(0.3), (0, SHOCK)).decided_by == "news2"
    assert said(Says(0.9), (0, SHOCK)).decided_by == "model"  # both agree


def test_an_artefact_of_a_minute_is_shown_and_does_not_ring():
    steady = [(minute, WELL) for minute in range(1, 20)]
    risk = said(Says(0.01), *steady, (0, SHOCK))
    assert (risk.news2, risk.band) == (15, "high")  # the chart's score, and its band
    assert (risk.net_score, risk.net_spot) == (3, 3)  # consciousness is charted: what a nurse writes counts at once
    assert not risk.is_emergency
    assert "momentary" in risk.findings


def test_what_lasts_rings_although_the_latest_reading_is_well():
    ill = {name: value for name, value in SHOCK.items() if name != "consciousness"}
    risk = said(Says(0.01), *[(minute, ill) for minute in range(1, 20)], (0, {name: WELL[name] for name in ill}))
    assert (risk.news2, risk.net_score, risk.net_spot) == (0, 12, 0)
    assert (risk.band, risk.is_emergency) == ("high", True)


@pytest.mark.parametrize(("ago", "score", "spot"), [(80, 0, 0), (95, 12, 12)])
def test_the_last_minute_of_a_sensor_that_falls_off_counts_once_nothing_has_come_for_long(ago, score, spot):
    readings = [(ago + minute, WELL) for minute in range(1, 20)] + [(ago, {**SHOCK, "consciousness": 0})]
    risk = said(Says(0.01), *readings)
    assert (risk.news2, risk.net_score, risk.net_spot) == (12, score, spot)


def test_sets_that_a_nurse_charts_in_a_row_are_no_continuous_median():
    risk = said(Says(0.01), (10, WELL), (5, WELL), (0, {**SHOCK, "consciousness": 0}))
    assert (risk.news2, risk.net_score, risk.band) == (12, 12, "high")


def test_hourly_checks_count_at_once():
    hourly = [(60 * hour, WELL) for hour in range(1, 7)]
    risk = said(Says(0.01), *hourly, (0, SHOCK))
    assert (risk.net_score, risk.net_spot) == (15, 15)


def test_a_patient_of_whom_nothing_is_known_is_not_low():
    risk = said(None)
    assert (risk.band, risk.decided_by, risk.net_score) == ("unknown", "nothing", None)
    assert {"no_recent_readings", "hardly_known", "no_model"} <= set(risk.findings)


@pytest.mark.parametrize("known", [{"heart_rate": 74}, {"glucose": 100}, {"heart_rate": 112}, {"on_oxygen": 0, "spo2": 97}])
def test_one_vital_sign_is_too_little_to_call_a_patient_low(known):
    for model in (None, Says(0.01, unusual=None)):
        risk = said(model, (0, known))
        assert (risk.band, risk.decided_by) == ("unknown", "nothing")
        assert "hardly_known" in risk.findings


def test_one_vital_sign_is_enough_to_alarm():
    assert said(None, (0, {"spo2": 84})).band == "medium"  # a single component of 3
    assert said(Says(0.9, unusual=None), (0, {"heart_rate": 74})).band == "high"


def test_outside_what_it_learned_from_the_model_is_not_asked():
    model = Says(0.9, unusual=("age", "combination of values"))
    risk = said(model, (0, WELL))
    assert (risk.basis, risk.probability, risk.band, risk.decided_by) == ("news2", None, "low", "news2")
    assert (risk.findings, risk.unusual) == (("outside_training",), ("age", "combination of values"))
    assert model.asked == 0


def test_a_vital_sign_that_the_model_misses_may_be_what_matters():
    most = {name: WELL[name] for name in ("heart_rate", "respiratory_rate", "systolic_bp", "body_temperature")}
    assert said(Says(0.9, unusual=("not measured: spo2",)), (0, most)).band == "unknown"
    assert said(Says(0.9, unusual=("not measured: spo2",)), (0, {**most, "systolic_bp": 85})).band == "medium"


@pytest.mark.parametrize(
    ("patient", "score", "finding"),
    [
        ({"age": 2.0}, "PEWS", "news2_not_for_children"),
        ({"age": 15.9}, "PEWS", "news2_not_for_children"),
        ({"age": 30.0, "pregnant": 1.0}, "MEOWS", "news2_not_in_pregnancy"),
    ],
)
def test_news2_says_nothing_of_those_for_whom_it_is_not_made(patient, score, finding):
    risk = said(None, (0, SHOCK), **patient)
    assert (risk.band, risk.decided_by, risk.net_score, risk.reasons) == ("unknown", "nothing", None, ())
    assert (risk.score, risk.is_emergency) == (score, False)
    assert finding in risk.findings


@pytest.mark.parametrize("patient", [{"age": 16.0}, {"age": 16.0, "pregnant": 0.0}, {}])
def test_news2_speaks_for_every_adult(patient):
    assert said(None, (0, SHOCK), **patient).is_emergency


def test_no_model_is_asked_of_the_pregnant_since_none_has_learned_from_them():
    model = Says(0.9, unusual=None)
    risk = said(model, (0, WELL), age=30.0, pregnant=1.0)
    assert (risk.unusual, risk.basis, model.asked) == (("pregnancy",), "news2", 0)


def test_without_the_features_of_the_net_the_chart_decides():
    frame = rows(*[(minute, WELL) for minute in range(1, 20)], (0, SHOCK)).drop(
        columns=["news2_sustained", "news2_sustained_worst", "news2_sustained_spot", "pregnant"]
    )
    (risk,) = assess(Says(0.01), frame)
    assert (risk.net_score, risk.net_spot, risk.is_emergency) == (15, 15, True)


def test_a_row_out_of_date_forgets_what_is_older_than_a_day():
    frame = rows((60, {"respiratory_rate": 31, "spo2": 84}), (600, {**WELL, "heart_rate": 132}))
    (fresh,) = assess(None, frame)
    later = frame.assign(**{f"{name}_age_24h": 1.0 for name in ("respiratory_rate", "spo2")})
    later = later.assign(**{f"{name}_age_24h": 10.0 for name in ("heart_rate", "systolic_bp", "body_temperature")})
    (stale,) = assess(None, out_of_date(later, np.array([15.0])), [("stale_data",)])
    assert (fresh.news2, fresh.net_score) == (9, 9)
    assert (stale.news2, stale.net_score) == (6, 6)


def test_a_model_that_was_withdrawn_decides_nothing():
    withdrawn = RegisteredModel(Says(0.9), "deterioration", "3", "run", withdrawn=True)
    (risk,) = assess_registered(withdrawn, rows((0, WELL)))
    assert (risk.basis, risk.findings, risk.band) == ("news2", ("withdrawn",), "low")
    (risk,) = assess_registered(None, rows((0, WELL)))
    assert risk.findings == ("no_model",)


def test_what_the_net_sees_of_many_rows_is_what_each_answer_says():
    frames = [rows((0, SHOCK)), rows((0, WELL)), rows(), rows((0, SHOCK), age=3.0), rows((0, {"spo2": 84}))]
    frame = pd.concat(frames, ignore_index=True)
    net = net_of(frame)
    for name in ("net_score", "net_spot"):
        each = [getattr(risk, name) for risk in assess(None, frame)]
        np.testing.assert_array_equal(net[name], [np.nan if value is None else value for value in each])


class Fails(Says):
    """A model that cannot compute the risk of one patient."""

    def risk(self, rows):
        if rows["subject_id"].eq("broken").any():
            raise ZeroDivisionError("heart rate 132 of sim-000017")
        return super().risk(rows)


def test_a_model_that_fails_does_not_take_news2_with_it():
    frame = pd.concat([rows((0, SHOCK)), rows((0, SHOCK)).assign(subject_id="broken"), rows((0, WELL))], ignore_index=True)
    first, broken, last = assess(Fails(0.01, unusual=None), frame)
    assert (broken.basis, broken.band, broken.findings, broken.is_emergency) == ("news2", "high", ("model_failed",), True)
    assert (first.basis, last.basis) == ("model", "model")


def test_a_risk_that_is_no_number_is_said_to_be_none():
    (risk,) = assess(Says(np.nan, unusual=None), rows((0, WELL)))
    assert (risk.basis, risk.findings) == ("news2", ("model_failed",))


def test_rules_of_the_chart_and_of_sustained_values_are_both_named():
    assert either(("news2_single_3",), ("news2_5_or_6",)) == ("news2_5_or_6", "news2_single_3")
    assert either(("news2_7_or_more",), ("news2_5_or_6",)) == ("news2_7_or_more",)
