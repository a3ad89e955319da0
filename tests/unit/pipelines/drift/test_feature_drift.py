"""Feature drift: patients count, not rows, and the false discovery rate holds over many columns."""

import numpy as np
import pandas as pd
import pytest

from vigil.models.monitoring.feature_drift import OtherFeaturesError, TooFewPatientsError, compare_columns

COLUMNS = [f"f{number}" for number in range(20)]


def days(seed, patients, days_each=1, between=1.0):
    """Return hours of patients who differ more from each other than from hour to hour."""
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


def test_column_drift_is_not_result_between_samples_of_one_population():
    for seed in range(5):
        assert not compare_columns(days(99, 200, 3), days(seed, 40), COLUMNS)["drifted"].any()


def test_column_drift_lists_a_shifted_column_first():
    current = days(1, 40)
    current["f7"] += 1.5
    result = compare_columns(days(99, 200, 2), current, COLUMNS)
    assert result.loc[result["drifted"], "column"].tolist() == ["f7"]
    assert result["effect"].iloc[0] > 0.7


def test_column_drift_finds_a_column_without_values():
    current = days(1, 40).assign(f3=np.nan)
    result = compare_columns(days(99, 200), current, COLUMNS)
    assert result.loc[result["drifted"], "column"].tolist() == ["f3"]
    assert result["missing"].iloc[0] == 1


def test_column_drift_compares_the_hours_of_the_log_only():
    reference = days(99, 200)
    reference.loc[reference["hour"] < 6, "f2"] += 50
    current = days(1, 40)
    assert not compare_columns(reference, current[current["hour"] >= 6], COLUMNS)["drifted"].any()


def test_column_drift_refuses_a_reference_with_other_features():
    with pytest.raises(OtherFeaturesError, match="f4"):
        compare_columns(days(1, 20).drop(columns="f4"), days(2, 20), COLUMNS)


def test_column_drift_refuses_too_few_patients():
    with pytest.raises(TooFewPatientsError, match="3 patients"):
        compare_columns(days(1, 20), days(2, 3), COLUMNS)
