"""Columns that drifted: patients count, not rows, and no more of many columns are called so than were promised."""

import numpy as np
import pandas as pd
import pytest

from models.monitoring.feature_drift import OtherFeaturesError, TooFewPatientsError, column_drift

COLUMNS = [f"f{number}" for number in range(20)]


def days(seed, patients, days_each=1, between=1.0):
    """Hours of patients who differ between each other more than from hour to hour."""
    rng = np.random.default_rng(seed)
    own = between * rng.normal(size=(patients, len(COLUMNS)))
    parts = [
        pd.DataFrame(own + 0.3 * rng.normal(size=own.shape), columns=COLUMNS).assign(
            subject_id=range(patients), day=day, hour=hour
        )
        for day in range(days_each)
        for hour in range(24)
    ]
    return pd.concat(parts, ignore_index=True)


def test_no_drift():
    for seed in range(5):
        assert not column_drift(days(99, 200, 3), days(seed, 40), COLUMNS)["drifted"].any()


def test_a_column_that_moved_is_first():
    current = days(1, 40)
    current["f7"] += 1.5
    found = column_drift(days(99, 200, 2), current, COLUMNS)
    assert found.loc[found["drifted"], "column"].tolist() == ["f7"]
    assert found["effect"].iloc[0] > 0.7


def test_a_column_that_is_missing_drifted():
    current = days(1, 40).assign(f3=np.nan)
    found = column_drift(days(99, 200), current, COLUMNS)
    assert found.loc[found["drifted"], "column"].tolist() == ["f3"]
    assert found["missing"].iloc[0] == 1


def test_hours_that_the_log_does_not_have_do_not_count():
    reference = days(99, 200)
    reference.loc[reference["hour"] < 6, "f2"] += 50
    current = days(1, 40)
    assert not column_drift(reference, current[current["hour"] >= 6], COLUMNS)["drifted"].any()


def test_other_features_are_said():
    with pytest.raises(OtherFeaturesError, match="f4"):
        column_drift(days(1, 20).drop(columns="f4"), days(2, 20), COLUMNS)


def test_too_few_patients_are_said():
    with pytest.raises(TooFewPatientsError, match="3 patients"):
        column_drift(days(1, 20), days(2, 3), COLUMNS)
