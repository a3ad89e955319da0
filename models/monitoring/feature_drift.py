"""Feature drift: features and risks that differ from the reference, with a bound on false alarms over all columns.

Patients are compared, not rows: hours of one patient resemble each other, so one long stay would look like drift. Each patient
is one value a column and day, their mean. Nights are not compared with days: only those hours of the reference count that occur
in the log.
"""

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from vigil.features.errors import VigilError
from vigil.models.statistics.ranks import compare_clustered

Float64 = NDArray[np.float64]

# At most this share of the columns called drifted is wrong, on average. Where nothing drifted it is the chance of any false
# alarm: one day in a thousand (Benjamini Y, Hochberg Y. J R Stat Soc B 1995;57:289-300).
FALSE_DISCOVERY_RATE: Final = 0.001
LEAST_EFFECT: Final = 0.1  # a smaller difference does not matter, however sure it is
LEAST_PATIENTS: Final = 10
COLUMNS: Final = ["column", "effect", "p", "q", "missing_before", "missing", "drifted"]  # of the result
_HOURS_A_DAY: Final = 24


class OtherFeaturesError(VigilError):
    """The reference and the log hold different features."""


class TooFewPatientsError(VigilError):
    """There are too few patients to compare."""


def compare_columns(reference: pd.DataFrame, current: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Compare each column of today's patients with the patients of training.

    Values are compared by rank sum (Mann HB, Whitney DR. 1947), corrected for ties. Days of one training patient count as one
    patient. The share of a patient's hours without a value is compared in the same way.

    Args:
        reference: ``subject_id, day, hour`` (of day, UTC) and the columns; a row is an hour of a patient.
        current: the same without ``day``, of one day.
        columns: to compare.

    Returns:
        One row a column, those that drifted first (:data:`COLUMNS`):

        - ``effect``: probability that a patient of today has a higher value than one of training; 0.5 is no difference;
        - ``p``: of the values or of the missing values, whichever is smaller;
        - ``q``: ``p`` adjusted for the number of columns;
        - ``missing_before``, ``missing``: mean share of a patient's hours without a value;
        - ``drifted``: whether ``q`` is below :data:`FALSE_DISCOVERY_RATE`.

    Raises:
        OtherFeaturesError: a column is in one of the two only.
        TooFewPatientsError: one side has fewer than :data:`LEAST_PATIENTS` patients.
    """
    for name, frame in (("reference", reference), ("log", current)):
        if missing := [column for column in columns if column not in frame]:
            raise OtherFeaturesError(
                f"{name}: lacks {', '.join(missing[:3])}{' and more' if len(missing) > 3 else ''}; expected the features of "
                "the champion; it is of another feature version: train again, or judge the version that made it"
            )
    hours = set(current["hour"].unique())
    if len(hours) < _HOURS_A_DAY:
        reference = reference[reference["hour"].isin(hours).to_numpy()]
    trained, present = (frame["subject_id"].nunique() for frame in (reference, current))
    for name, patients in (("reference", trained), ("log", present)):
        if patients < LEAST_PATIENTS:
            raise TooFewPatientsError(
                f"{name}: {patients} patients; expected at least {LEAST_PATIENTS}; look at a longer time, or a larger ward"
            )
    before = _average_groups(reference, columns, pd.MultiIndex.from_frame(reference[["subject_id", "day"]]).factorize()[0])
    now = _average_groups(current, columns, pd.factorize(current["subject_id"])[0])
    effect, by_value = _compare_ranks(before[0], now[0], trained)
    more_missing, by_missing = _compare_ranks(before[1], now[1], trained)
    # Each test counts only where its own effect is large. A rare feature that no patient has today has no effect of values.
    by_value[~(np.abs(effect - 0.5) >= LEAST_EFFECT)] = 1
    missing_before, missing = before[1].mean(axis=0), now[1].mean(axis=0)
    by_missing[~(np.abs(missing - missing_before) >= LEAST_EFFECT) | np.isnan(more_missing)] = 1
    p_value = np.minimum(1, 2 * np.minimum(by_value, by_missing))
    q_value = stats.false_discovery_control(p_value)
    result = pd.DataFrame(
        {
            "column": columns, "effect": effect, "p": p_value, "q": q_value,
            "missing_before": missing_before, "missing": missing, "drifted": q_value < FALSE_DISCOVERY_RATE,
        }
    )  # fmt: skip
    return result.sort_values(["drifted", "q"], ascending=[False, True], ignore_index=True, kind="stable")


def _average_groups(frame: pd.DataFrame, columns: list[str], codes: NDArray[np.int64]) -> tuple[Float64, Float64]:
    """Return mean and share of missing values of each group of rows by column, shape (n_groups, n_columns) each."""
    order = np.argsort(codes, kind="stable")
    values = frame[columns].to_numpy(np.float64)[order]
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    unknown = np.isnan(values)
    known = np.add.reduceat(~unknown, starts, axis=0, dtype=np.float64)
    sums = np.add.reduceat(np.where(unknown, 0.0, values), starts, axis=0)
    rows = np.diff(np.append(starts, len(values)))[:, None]
    return np.divide(sums, known, out=np.full_like(sums, np.nan), where=known > 0), 1 - known / rows


def _compare_ranks(before: Float64, now: Float64, trained: int) -> tuple[Float64, Float64]:
    """Return by column the probability that a value of now is higher than one of before, and the two-sided p.

    Args:
        before, now: shape (n_days, n_columns), NaN where unknown.
        trained: how many patients the days of ``before`` belong to.
    """
    effect, p_value = np.full(before.shape[1], np.nan), np.ones(before.shape[1])
    for column in range(before.shape[1]):
        b, a = before[:, column], now[:, column]
        b, a = b[~np.isnan(b)], a[~np.isnan(a)]
        if len(b) < LEAST_PATIENTS or len(a) < LEAST_PATIENTS:
            continue
        effect[column], p_value[column] = compare_clustered(a, b, trained)
    return effect, p_value
