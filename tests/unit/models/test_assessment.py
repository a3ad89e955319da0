"""The assessment: the model may raise the band of NEWS2 and never lower it, and an unknown risk is not low."""

import numpy as np
import pandas as pd
import pytest

from vigil.features.batch import build_features
from vigil.features.declarations import OWN_UNITS
from vigil.features.observations import check
from vigil.models.alarms.safety_net import join_reasons
from vigil.models.assessment import age_by_hours, assess, assess_registered, safety_net_scores
from vigil.models.registry import RegisteredModel

NOW = pd.Timestamp("2026-03-01T12:00Z").as_unit("us")
WELL = {
    "respiratory_rate": 16, "spo2": 97, "on_oxygen": 0, "systolic_bp": 122, "heart_rate": 74, "consciousness": 0,
    "body_temperature": 36.8,
}  # fmt: skip
SHOCK = {**WELL, "respiratory_rate": 31, "spo2": 90, "systolic_bp": 82, "heart_rate": 132, "consciousness": 1}  # NEWS2 15


class ConstantModel:
    """A model that gives every row one risk."""

    def __init__(self, probability, unusual=()):
        self.probability = probability
        self.domain_ = self if unusual is not None else None
        self._unusual = unusual
        self.rows_asked = 0

    def risk(self, rows):
        self.rows_asked += len(rows)
        return np.full(len(rows), self.probability)

    def band(self, p):
        return "high" if p >= 0.5 else "medium" if p >= 0.2 else "low"

    def unusual(self, rows):
        return [tuple(self._unusual)] * len(rows)


def rows(*sets, age=np.nan, pregnant=np.nan, at=NOW):
    """Return features at ``at`` of observations given as ``(minutes before, values)``."""
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
    return build_features(check(observations, at, declared=OWN_UNITS).accepted, index)


def assessed(model, *sets, **patient):
    (risk,) = assess(model, rows(*sets, **patient))
    return risk


def test_assess_keeps_an_emergency_by_news2_with_a_low_risk_of_the_model():
    risk = assessed(ConstantModel(0.0075), (0, SHOCK))
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
def test_assess_gives_at_least_the_band_of_the_news2_chart(change, band, reasons):
    risk = assessed(ConstantModel(0.01), (0, {**WELL, **change}))
    assert (risk.band, risk.reasons) == (band, reasons)
    assert risk.decided_by == ("model" if band == "low" else "news2")


def test_assess_lets_the_model_raise_the_band():
    risk = assessed(ConstantModel(0.9), (0, WELL))
    assert (risk.band, risk.decided_by, risk.reasons) == ("high", "model", ())
    assert assessed(ConstantModel(0.3), (0, SHOCK)).decided_by == "news2"
    assert assessed(ConstantModel(0.9), (0, SHOCK)).decided_by == "model"  # both agree


def test_assess_shows_an_artefact_of_a_minute_without_an_emergency():
    steady = [(minute, WELL) for minute in range(1, 20)]
    risk = assessed(ConstantModel(0.01), *steady, (0, SHOCK))
    assert (risk.news2, risk.band) == (15, "high")  # the chart's score, and its band
    assert (risk.net_score, risk.net_spot) == (3, 3)  # consciousness is charted: what a nurse charts counts at once
    assert not risk.is_emergency
    assert "momentary" in risk.findings


def test_assess_finds_an_emergency_that_lasted_although_the_latest_observation_is_well():
    ill = {name: value for name, value in SHOCK.items() if name != "consciousness"}
    risk = assessed(ConstantModel(0.01), *[(minute, ill) for minute in range(1, 20)], (0, {name: WELL[name] for name in ill}))
    assert (risk.news2, risk.net_score, risk.net_spot) == (0, 12, 0)
    assert (risk.band, risk.is_emergency) == ("high", True)


@pytest.mark.parametrize(("ago", "score", "spot"), [(80, 0, 0), (95, 12, 12)])
def test_assess_counts_the_last_minute_of_a_sensor_after_a_long_time_without_observations(ago, score, spot):
    readings = [(ago + minute, WELL) for minute in range(1, 20)] + [(ago, {**SHOCK, "consciousness": 0})]
    risk = assessed(ConstantModel(0.01), *readings)
    assert (risk.news2, risk.net_score, risk.net_spot) == (12, score, spot)


def test_assess_takes_sets_charted_in_a_row_for_spot_checks():
    risk = assessed(ConstantModel(0.01), (10, WELL), (5, WELL), (0, {**SHOCK, "consciousness": 0}))
    assert (risk.news2, risk.net_score, risk.band) == (12, 12, "high")


def test_assess_counts_hourly_checks_at_once():
    hourly = [(60 * hour, WELL) for hour in range(1, 7)]
    risk = assessed(ConstantModel(0.01), *hourly, (0, SHOCK))
    assert (risk.net_score, risk.net_spot) == (15, 15)


def test_assess_gives_the_unknown_band_to_a_patient_without_observations():
    risk = assessed(None)
    assert (risk.band, risk.decided_by, risk.net_score) == ("unknown", "nothing", None)
    assert {"no_recent_readings", "hardly_known", "no_model"} <= set(risk.findings)


@pytest.mark.parametrize("known", [{"heart_rate": 74}, {"glucose": 100}, {"heart_rate": 112}, {"on_oxygen": 0, "spo2": 97}])
def test_assess_calls_no_patient_low_by_one_vital_sign(known):
    for model in (None, ConstantModel(0.01, unusual=None)):
        risk = assessed(model, (0, known))
        assert (risk.band, risk.decided_by) == ("unknown", "nothing")
        assert "hardly_known" in risk.findings


def test_assess_raises_the_band_by_one_vital_sign():
    assert assessed(None, (0, {"spo2": 84})).band == "medium"  # a single component of 3
    assert assessed(ConstantModel(0.9, unusual=None), (0, {"heart_rate": 74})).band == "high"


def test_assess_does_not_ask_the_model_outside_its_domain_of_use():
    model = ConstantModel(0.9, unusual=("age", "combination of values"))
    risk = assessed(model, (0, WELL))
    assert (risk.basis, risk.probability, risk.band, risk.decided_by) == ("news2", None, "low", "news2")
    assert (risk.findings, risk.unusual) == (("outside_training",), ("age", "combination of values"))
    assert model.rows_asked == 0


def test_assess_gives_the_unknown_band_if_the_model_lacks_a_vital_sign():
    most = {name: WELL[name] for name in ("heart_rate", "respiratory_rate", "systolic_bp", "body_temperature")}
    assert assessed(ConstantModel(0.9, unusual=("not measured: spo2",)), (0, most)).band == "unknown"
    assert assessed(ConstantModel(0.9, unusual=("not measured: spo2",)), (0, {**most, "systolic_bp": 85})).band == "medium"


@pytest.mark.parametrize(
    ("patient", "score", "finding"),
    [
        ({"age": 2.0}, "PEWS", "news2_not_for_children"),
        ({"age": 15.9}, "PEWS", "news2_not_for_children"),
        ({"age": 30.0, "pregnant": 1.0}, "MEOWS", "news2_not_in_pregnancy"),
    ],
)
def test_assess_does_not_apply_news2_to_children_and_in_pregnancy(patient, score, finding):
    risk = assessed(None, (0, SHOCK), **patient)
    assert (risk.band, risk.decided_by, risk.net_score, risk.reasons) == ("unknown", "nothing", None, ())
    assert (risk.score, risk.is_emergency) == (score, False)
    assert finding in risk.findings


@pytest.mark.parametrize("patient", [{"age": 16.0}, {"age": 16.0, "pregnant": 0.0}, {}])
def test_assess_applies_news2_to_every_adult(patient):
    assert assessed(None, (0, SHOCK), **patient).is_emergency


def test_assess_asks_no_model_in_pregnancy():
    model = ConstantModel(0.9, unusual=None)
    risk = assessed(model, (0, WELL), age=30.0, pregnant=1.0)
    assert (risk.unusual, risk.basis, model.rows_asked) == (("pregnancy",), "news2", 0)


def test_assess_uses_the_chart_without_features_of_the_safety_net():
    frame = rows(*[(minute, WELL) for minute in range(1, 20)], (0, SHOCK)).drop(
        columns=["news2_sustained", "news2_sustained_worst", "news2_sustained_spot", "pregnant"]
    )
    (risk,) = assess(ConstantModel(0.01), frame)
    assert (risk.net_score, risk.net_spot, risk.is_emergency) == (15, 15, True)


def test_out_of_date_drops_components_older_than_a_day():
    frame = rows((60, {"respiratory_rate": 31, "spo2": 84}), (600, {**WELL, "heart_rate": 132}))
    (fresh,) = assess(None, frame)
    later = frame.assign(**{f"{name}_age_24h": 1.0 for name in ("respiratory_rate", "spo2")})
    later = later.assign(**{f"{name}_age_24h": 10.0 for name in ("heart_rate", "systolic_bp", "body_temperature")})
    (stale,) = assess(None, age_by_hours(later, np.array([15.0])), [("stale_data",)])
    assert (fresh.news2, fresh.net_score) == (9, 9)
    assert (stale.news2, stale.net_score) == (6, 6)


def test_assess_registered_does_not_ask_a_withdrawn_model():
    withdrawn = RegisteredModel(ConstantModel(0.9), "deterioration", "3", "run", withdrawn=True)
    (risk,) = assess_registered(withdrawn, rows((0, WELL)))
    assert (risk.basis, risk.findings, risk.band) == ("news2", ("withdrawn",), "low")
    (risk,) = assess_registered(None, rows((0, WELL)))
    assert risk.findings == ("no_model",)


def test_net_of_many_rows_agrees_with_each_assessment():
    frames = [rows((0, SHOCK)), rows((0, WELL)), rows(), rows((0, SHOCK), age=3.0), rows((0, {"spo2": 84}))]
    frame = pd.concat(frames, ignore_index=True)
    net = safety_net_scores(frame)
    for name in ("net_score", "net_spot"):
        each = [getattr(risk, name) for risk in assess(None, frame)]
        np.testing.assert_array_equal(net[name], [np.nan if value is None else value for value in each])


class FailingModel(ConstantModel):
    """A model that fails for one patient."""

    def risk(self, rows):
        if rows["subject_id"].eq("broken").any():
            raise ZeroDivisionError("heart rate 132 of sim-000017")
        return super().risk(rows)


def test_assess_answers_by_news2_if_the_model_fails():
    frame = pd.concat([rows((0, SHOCK)), rows((0, SHOCK)).assign(subject_id="broken"), rows((0, WELL))], ignore_index=True)
    first, broken, last = assess(FailingModel(0.01, unusual=None), frame)
    assert (broken.basis, broken.band, broken.findings, broken.is_emergency) == ("news2", "high", ("model_failed",), True)
    assert (first.basis, last.basis) == ("model", "model")


def test_assess_treats_a_risk_of_nan_as_a_failed_model():
    (risk,) = assess(ConstantModel(np.nan, unusual=None), rows((0, WELL)))
    assert (risk.basis, risk.findings) == ("news2", ("model_failed",))


def test_either_joins_the_rules_of_the_chart_and_of_sustained_values():
    assert join_reasons(("news2_single_3",), ("news2_5_or_6",)) == ("news2_5_or_6", "news2_single_3")
    assert join_reasons(("news2_7_or_more",), ("news2_5_or_6",)) == ("news2_7_or_more",)
