"""NEWS2 at the bedside: values that are too old do not count, and SpO2 follows the scale of the patient."""

import numpy as np
import pandas as pd
import pytest

from vigil.features.batch import build_features
from vigil.features.catalogue import SUSTAINED_LEVELS, views_to_assess, views_to_compute
from vigil.features.declarations import OWN_UNITS
from vigil.features.observations import check
from vigil.features.scores import assign_spo2_scale_2
from vigil.models.assessment import assess
from vigil.models.bedside import COMPONENTS, RETROSPECTIVE, USUAL_TERMS, ScoreTerms, carries_from

NOW = pd.Timestamp("2026-03-01T12:00Z").as_unit("us")
LEVELS = (*views_to_compute("deterioration_v3"), SUSTAINED_LEVELS)
SHOCK = {
    "respiratory_rate": 31, "spo2": 90, "on_oxygen": 0, "systolic_bp": 82, "heart_rate": 132, "consciousness": 1,
    "body_temperature": 36.8,
}  # fmt: skip


def rows(readings, views=LEVELS):
    """Return features at NOW of readings given as ``(signal, value, hours before)``."""
    frame = pd.DataFrame(
        [("p", signal, float(value), NOW - pd.Timedelta(hours=hours)) for signal, value, hours in readings],
        columns=["subject_id", "signal", "value", "observed_at"],
    )
    never = pd.Series([pd.NaT], dtype="datetime64[us, UTC]")
    index = pd.DataFrame({"subject_id": ["p"], "index_time": [NOW], "age": [70.0], "sex": [1.0], "pregnant": [0.0]})
    index = index.assign(unit_admitted_at=never, hospital_admitted_at=never)
    return build_features(check(frame, declared=OWN_UNITS).accepted, index, views)


def assessed(readings, terms=USUAL_TERMS, views=LEVELS):
    (risk,) = assess(None, rows(readings, views), terms=[terms])
    return risk


@pytest.mark.parametrize(
    ("spo2", "on_air", "with_oxygen"),
    [
        (83, 3, 3), (83.49, 3, 3), (83.5, 2, 2), (84, 2, 2), (85, 2, 2), (85.5, 1, 1), (86, 1, 1), (87, 1, 1), (87.5, 0, 0),
        (88, 0, 0), (92, 0, 0), (92.49, 0, 0), (92.5, 0, 1), (93, 0, 1), (94, 0, 1), (94.5, 0, 2), (95, 0, 2), (96, 0, 2),
        (96.5, 0, 3), (97, 0, 3), (100, 0, 3),
    ],
)  # fmt: skip
def test_scale_2_at_every_edge(spo2, on_air, with_oxygen):
    assert assign_spo2_scale_2(np.full(2, spo2), np.array([0.0, 1.0])).tolist() == [on_air, with_oxygen]
    unknown = assign_spo2_scale_2(np.array([spo2]), np.array([np.nan]))[0]
    assert unknown == on_air if on_air == with_oxygen else np.isnan(unknown)


def test_value_counts_for_12_hours_and_is_shown_longer():
    counts = assessed([("heart_rate", 132, 11.99), ("spo2", 97, 0)])
    assert (counts.news2, counts.components["heart_rate"].points) == (3, 3)
    old = assessed([("heart_rate", 132, 12), ("spo2", 97, 0)])
    assert (old.news2, old.net_score) == (0, 0)
    heart_rate = old.components["heart_rate"]
    assert (heart_rate.points, heart_rate.value, heart_rate.hours, heart_rate.is_expired) == (None, 132, 12, True)
    assert "value_too_old" in old.findings
    assert "value_too_old" not in counts.findings
    assert old.news2_highest == counts.news2_highest
    assert assessed([("heart_rate", 132, 12), ("spo2", 97, 0)], RETROSPECTIVE).news2 == 3


def test_value_of_a_wearable_counts_as_long_as_its_source_declares():
    readings = [("heart_rate", 132, 2), ("systolic_bp", 82, 2)]
    risk = assessed(readings, ScoreTerms(carries_from({"heart_rate": 2})))
    assert {signal: part.points for signal, part in risk.components.items() if part.hours is not None} == {
        "heart_rate": None,
        "systolic_bp": 3,
    }
    assert (risk.news2, risk.net_score, risk.reasons) == (3, 3, ("news2_single_3",))


def test_source_cannot_make_a_value_count_for_longer():
    assert carries_from({"spo2": 24}) == USUAL_TERMS.carry_hours


@pytest.mark.parametrize("views", [LEVELS, views_to_compute("deterioration_v3")], ids=["levels", "no levels"])
def test_no_old_value_keeps_an_emergency_open(views):
    risk = assessed(
        [*((signal, value, 12.5) for signal, value in SHOCK.items() if signal != "spo2"), ("spo2", 97, 0)], views=views
    )
    assert (risk.news2, risk.net_score, risk.net_spot, risk.reasons) == (0, 0, 0, ())
    assert risk.band == "unknown"  # one vital sign does not make a patient low
    assert not risk.is_emergency


@pytest.mark.parametrize("seed", range(40))
def test_terms_give_what_the_record_without_old_values_gives(seed):
    generator = np.random.default_rng(seed)
    readings, fresh = [], []
    for signal in COMPONENTS:
        usual = (
            SHOCK[signal] if generator.random() < 0.5 else {"on_oxygen": 0, "consciousness": 0}.get(signal, SHOCK[signal] * 0.9)
        )
        first = generator.choice([0.1, 3, 11, 12, 12.3, 20])
        hours = first + np.sort(generator.choice([np.arange(30) / 60, np.arange(3) * 0.5][generator.integers(2)], 3))
        coded = signal in ("on_oxygen", "consciousness")
        series = [(signal, usual if coded else usual + generator.integers(-9, 9), hour) for hour in hours if hour < 24]
        readings += series
        fresh += series if min(hour for *_, hour in series) < 12 else []
    if not fresh:
        return
    got, expected = assessed(readings), assessed(fresh, RETROSPECTIVE)
    for output in ("news2", "news2_highest", "net_score", "net_spot", "reasons", "band"):
        assert getattr(got, output) == getattr(expected, output), output


def test_scale_2_spares_a_patient_with_a_target_of_88_to_92():
    vitals = [("respiratory_rate", 18, 0), ("systolic_bp", 130, 0), ("heart_rate", 84, 0), ("on_oxygen", 1, 0), ("spo2", 90, 0)]
    scale_1 = assessed(vitals)
    scale_2 = assessed(vitals, ScoreTerms(spo2_scale=2))
    assert (scale_1.news2, scale_1.net_score, scale_1.reasons) == (5, 5, ("news2_5_or_6", "news2_single_3"))
    assert (scale_2.news2, scale_2.net_score, scale_2.reasons) == (2, 2, ())


def test_scale_2_scores_too_much_oxygen():
    vitals = [("heart_rate", 84, 0), ("systolic_bp", 130, 0), ("on_oxygen", 1, 0), ("spo2", 97, 0)]
    assert assessed(vitals).news2 == 2
    too_much = assessed(vitals, ScoreTerms(spo2_scale=2))
    assert (too_much.news2, too_much.reasons) == (5, ("news2_5_or_6", "news2_single_3"))


def test_scale_2_uses_the_sustained_level_for_the_safety_net():
    minutes = [("spo2", 90, minute / 60) for minute in range(1, 15)] + [("spo2", 84, 0), ("heart_rate", 84, 0)]
    risk = assessed(minutes, ScoreTerms(spo2_scale=2))
    assert (risk.news2, risk.net_score) == (2, 0)  # an artefact of a minute


def test_scale_2_is_unknown_above_92_while_it_is_unknown_whether_oxygen_is_given():
    risk = assessed([("spo2", 97, 0), ("heart_rate", 84, 0)], ScoreTerms(spo2_scale=2))
    assert risk.components["spo2"].points is None
    assert (risk.news2, risk.news2_highest) == (0, 17)


def test_terms_survive_the_log():
    terms = ScoreTerms(carries_from({"spo2": 1.5}), spo2_scale=2)
    assert ScoreTerms.from_json(terms.to_json()) == terms


@pytest.mark.parametrize("service", ["deterioration_v3", "pressure_v2", "mortality_v3", "vital_signs_v1"])
def test_assessed_rows_of_every_service_tell_how_old_each_value_is(service):
    risk = assessed([("heart_rate", 132, 13), ("consciousness", 1, 13), ("spo2", 97, 0)], views=views_to_assess(service))
    assert (risk.news2, risk.components["consciousness"].is_expired) == (0, True)
