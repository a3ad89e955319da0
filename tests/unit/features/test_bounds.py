"""Bounds: how they may be written, what is stored of them, and that no number is made of them."""

import numpy as np
import pandas as pd
import pytest

from vigil.features.batch import build_features
from vigil.features.bounds import read_text
from vigil.features.catalogue import STANDARD, VIEWS, views_to_compute
from vigil.features.declarations import UNDECLARED, Declarations, SourceDeclaration
from vigil.features.observations import check
from vigil.features.signals import BOUNDS, SIGNALS
from vigil.models.tasks import TASKS

TIME = pd.Timestamp("2026-01-31T08:00:00Z")
DECLARED = Declarations(sources={"g": SourceDeclaration(ranges={"glucose": (40, 400)})})
MOLES = Declarations(sources={"g": SourceDeclaration(ranges={"glucose": (2.2, 22.2)}, units={"glucose": "mmol/L"})})


def reading(value, signal="glucose", unit="mg/dL", minutes=0, **more):
    return {"subject_id": "a", "observed_at": TIME + pd.Timedelta(minutes=minutes), "signal": signal, "value": value} | {
        "unit": unit,
        "source": "g",
        **more,
    }


def checked(*readings, declared=UNDECLARED):
    """Return what is accepted, as signal and value, and the reasons of the others."""
    result = check(pd.DataFrame(readings), declared=declared)
    return list(map(tuple, result.accepted[["signal", "value"]].to_numpy())), result.quarantined["reason"].tolist()


@pytest.mark.parametrize(
    ("value", "comparator", "expected"),
    [
        ("<40", None, ("glucose_below_range", 40.0)),
        (" <= 40.5 ", None, ("glucose_below_range", 40.5)),
        ("≤40", None, ("glucose_below_range", 40.0)),
        ("> 400", None, ("glucose_above_range", 400.0)),
        (">=400", None, ("glucose_above_range", 400.0)),
        ("≥400", None, ("glucose_above_range", 400.0)),
        ("Low", None, ("glucose_below_range", 40.0)),
        ("LO", None, ("glucose_below_range", 40.0)),
        ("High", None, ("glucose_above_range", 400.0)),
        ("hi", None, ("glucose_above_range", 400.0)),
        (40, "<", ("glucose_below_range", 40.0)),
        (400.0, ">=", ("glucose_above_range", 400.0)),
        (400.0, None, ("glucose", 400.0)),
        ("400", None, ("glucose", 400.0)),
    ],
)
def test_bound_is_stored_under_a_signal_of_its_own(value, comparator, expected):
    assert checked(reading(value, comparator=comparator), declared=DECLARED) == ([expected], [])


@pytest.mark.parametrize(
    ("value", "comparator", "reason"),
    [
        ("Low", None, "undeclared_range"),
        ("<>40", None, "not_exact"),
        ("=^23", None, "not_exact"),
        ("100-200", None, "not_exact"),
        ("2+", None, "not_exact"),
        ("<0,5", None, "not_exact"),
        (40.0, "about", "not_exact"),
        ("<40", "<", "not_exact"),
        ("eighty", None, "not_a_number"),
        (None, "<", "not_a_number"),
        ("<4000", None, "implausible"),
    ],
)
def test_what_is_neither_a_number_nor_a_bound_is_quarantined_with_its_reason(value, comparator, reason):
    assert checked(reading(value, comparator=comparator)) == ([], [reason])


@pytest.mark.parametrize("name", [name for name in SIGNALS if f"{name}_below_range" not in BOUNDS])
def test_comparator_of_a_signal_without_bounds_is_not_exact(name):
    signal = SIGNALS[name]
    assert checked(reading(signal.usual, name, signal.unit, comparator="<")) == ([], ["not_exact"])


def test_limit_follows_the_rules_of_units():
    assert checked(reading("<2.2", unit="mmol/L")) == ([("glucose_below_range", 39.63)], [])
    assert checked(reading("<5", unit=None)) == ([], ["missing_unit"])
    assert checked(reading("<40", unit="mmHg")) == ([], ["unknown_unit"])
    assert checked(reading("Low", unit=None), declared=MOLES) == ([("glucose_below_range", 39.63)], [])
    assert checked(reading("High", "15074-8", unit=None), declared=DECLARED) == ([("glucose_above_range", 400.0)], [])
    assert checked(reading("<0.01", "10839-9", unit="ng/mL")) == ([("troponin_i_below_range", 0.01)], [])


def test_checked_bounds_can_be_checked_again():
    accepted = check(pd.DataFrame([reading("<40"), reading(90.0, minutes=5)])).accepted
    pd.testing.assert_frame_equal(check(accepted).accepted, accepted)


def test_message_that_says_a_bound_after_a_number_is_a_duplicate_of_its_first_delivery():
    late = {"recorded_at": TIME + pd.Timedelta(hours=1), "message_id": "m"}
    early = late | {"recorded_at": TIME}
    assert checked(reading("<40", **early), reading(40.0, **late)) == ([("glucose_below_range", 40.0)], ["duplicate_message"])
    assert checked(reading("<40", **late), reading(40.0, **early)) == ([("glucose", 40.0)], ["duplicate_message"])


def test_correction_replaces_a_bound_by_a_value_and_a_retraction_removes_it():
    first = reading("<40", message_id="m", recorded_at=TIME, status="final")
    later = first | {"recorded_at": TIME + pd.Timedelta(hours=1)}
    accepted = check(pd.DataFrame([first, later | {"value": 40.0, "status": "corrected"}])).accepted
    by_signal = accepted.set_index("signal")["superseded_at"]
    assert by_signal["glucose_below_range"] == later["recorded_at"]
    assert pd.isna(by_signal["glucose"])
    result = check(pd.DataFrame([first, later | {"value": None, "status": "retracted"}]))
    assert result.accepted["superseded_at"].tolist() == [later["recorded_at"]]


def features_of(*readings):
    observations = check(pd.DataFrame(readings), declared=DECLARED).accepted
    index = pd.DataFrame({"subject_id": ["a"], "index_time": [TIME + pd.Timedelta(hours=2)], "age": [70.0], "sex": [0.0]})
    index = index.assign(unit_admitted_at=TIME, hospital_admitted_at=TIME)
    return build_features(observations, index, tuple(VIEWS)).iloc[0]


def test_bounds_are_features_of_their_own_and_change_no_other():
    exact = [reading(90.0), reading(84.0, minutes=30), reading(97.0, "spo2", "%", minutes=31)]
    bounds = [reading("Low", minutes=60), reading("Low", minutes=65), reading("<70", "spo2", "%", minutes=66)]
    without, row = features_of(*exact), features_of(*exact, *bounds)
    changed = [name for name in row.index if not (row[name] == without[name] or (row[name] != row[name]))]
    assert changed == ["glucose_below_range_count_24h", "glucose_below_range_age_24h"]
    assert without["glucose_below_range_count_24h"] == 0
    assert row["glucose_below_range_count_24h"] == 2
    assert row["glucose_below_range_age_24h"] == pytest.approx(55 / 60)
    assert np.isnan(row["glucose_above_range_age_24h"])
    assert row["glucose_last_24h"] == 84


def test_view_of_bounds_is_computed_only_where_a_model_reads_it():
    assert "beyond_range" not in STANDARD
    assert all("beyond_range" not in views_to_compute(task.feature_service) for task in TASKS.values())


@pytest.mark.parametrize(
    ("text", "comparator"), [("", None), ("n/a", None), ("lower", None), ("-5", None), ("1:128", "inexact"), ("<", "inexact")]
)
def test_text_without_a_limit_has_none(text, comparator):
    limit, found = read_text(text)
    assert np.isnan(limit)
    assert found == comparator
