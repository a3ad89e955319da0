"""Which columns of the prediction log drifted, counting patients and not rows, with a bound on false alarms over all columns.

Hours of one patient resemble each other, so that one who stays long would look like drift: each patient is one value a column
and day, his mean. Nights are not compared with days: of the reference only the hours of day count that the log has.
"""

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from features.errors import VigilError

Float64 = NDArray[np.float64]

# Of the columns called drifted at most so many wrongly, on average; where nothing drifted it is the chance of any false alarm:
# one day in a thousand (Benjamini Y, Hochberg Y. J R Stat Soc B 1995;57:289-300).
FALSE_DISCOVERY_RATE: Final = 0.001
LEAST_EFFECT: Final = 0.1  # of what is compared: less is no drift that matters, however sure
LEAST_PATIENTS: Final = 10
COLUMNS: Final = ["column", "effect", "p", "q", "missing_before", "missing", "drifted"]  # of what is found
_EVERY_HOUR: Final = 24


class OtherFeaturesError(VigilError):
    """The reference and the log are not of the same features."""


class TooFewPatientsError(VigilError):
    """Too few patients to compare."""


def column_drift(reference: pd.DataFrame, current: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Each column of today's patients beside those of training.

    Values are compared by rank sum (Mann HB, Whitney DR. 1947), ties corrected; days of one training patient count as one. So
    is the share of a patient's hours without a value.

    Args:
        reference: ``subject_id, day, hour`` (of day, UTC) and the columns; a row is an hour of a patient.
        current: the same without ``day``, of one day.
        columns: to compare.

    Returns:
        One row a column, those that drifted first: ``column``, ``effect`` (probability that a patient of today has more than
        one of training; 0.5: no difference), ``p`` and ``q`` (of values or of missing ones, whichever is less; q is adjusted
        for the number of columns), ``missing_before``, ``missing`` (mean share of a patient's hours without a value),
        ``drifted``.

    Raises:
        OtherFeaturesError: a column is in one of the two only.
        TooFewPatientsError: fewer than :data:`LEAST_PATIENTS` patients on a side.
    """
    for name, frame in (("reference", reference), ("log", current)):
        if missing := [column for column in columns if column not in frame]:
            raise OtherFeaturesError(
                f"{name}: lacks {', '.join(missing[:3])}{' and more' if len(missing) > 3 else ''}; expected the features of "
                "the champion; it is of another feature version: train, or judge the version that made it"
            )
    hours = set(current["hour"].unique())
    if len(hours) < _EVERY_HOUR:
        reference = reference[reference["hour"].isin(hours).to_numpy()]
    trained, present = (frame["subject_id"].nunique() for frame in (reference, current))
    for name, patients in (("reference", trained), ("log", present)):
        if patients < LEAST_PATIENTS:
            raise TooFewPatientsError(
                f"{name}: {patients} patients; expected at least {LEAST_PATIENTS}; look at a longer time, or a larger ward"
            )
    before = _days(reference, columns, pd.MultiIndex.from_frame(reference[["subject_id", "day"]]).factorize()[0])
    now = _days(current, columns, pd.factorize(current["subject_id"])[0])
    effect, by_value = _compared(before[0], now[0], trained)
    more_missing, by_missing = _compared(before[1], now[1], trained)
    # Each of two questions counts where its own answer is large; of a rare feature that nobody has there is none.
    by_value[~(np.abs(effect - 0.5) >= LEAST_EFFECT)] = 1
    missing_before, missing = before[1].mean(axis=0), now[1].mean(axis=0)
    by_missing[~(np.abs(missing - missing_before) >= LEAST_EFFECT) | np.isnan(more_missing)] = 1
    p_value = np.minimum(1, 2 * np.minimum(by_value, by_missing))
    q_value = stats.false_discovery_control(p_value)
    found = pd.DataFrame(
        {
            "column": columns, "effect": effect, "p": p_value, "q": q_value,
            "missing_before": missing_before, "missing": missing, "drifted": q_value < FALSE_DISCOVERY_RATE,
        }
    )  # fmt: skip
    return found.sort_values(["drifted", "q"], ascending=[False, True], ignore_index=True, kind="stable")


def _days(frame: pd.DataFrame, columns: list[str], codes: NDArray[np.int64]) -> tuple[Float64, Float64]:
    """Mean and share of missing values of each group of rows by column, (n_groups, n_columns) each."""
    order = np.argsort(codes, kind="stable")
    values = frame[columns].to_numpy(np.float64)[order]
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    unknown = np.isnan(values)
    known = np.add.reduceat(~unknown, starts, axis=0, dtype=np.float64)
    sums = np.add.reduceat(np.where(unknown, 0.0, values), starts, axis=0)
    rows = np.diff(np.append(starts, len(values)))[:, None]
    return np.divide(sums, known, out=np.full_like(sums, np.nan), where=known > 0), 1 - known / rows


def _compared(before: Float64, now: Float64, trained: int) -> tuple[Float64, Float64]:
    """By column: probability that one of now has more than one of before, and two-sided p.

    Args:
        before, now: shape (n_days, n_columns), missing where unknown.
        trained: patients whose days ``before`` are.
    """
    effect, p_value = np.full(before.shape[1], np.nan), np.ones(before.shape[1])
    for place in range(before.shape[1]):
        b, a = before[:, place], now[:, place]
        b, a = b[~np.isnan(b)], a[~np.isnan(a)]
        if len(b) < LEAST_PATIENTS or len(a) < LEAST_PATIENTS:
            continue
        rank = stats.rankdata(np.concatenate([a, b]))
        effect[place] = (rank[: len(a)].sum() - len(a) * (len(a) + 1) / 2) / (len(a) * len(b))
        ties = np.bincount((2 * rank).astype(np.int64)).astype(np.float64)
        total = len(a) + len(b)
        spread = 1 - float((ties**3 - ties).sum()) / (total**3 - total)
        patients = min(len(b), trained)
        error = np.sqrt(spread * (len(a) + patients + 1) / (12 * len(a) * patients))
        if error > 0:
            p_value[place] = 2 * stats.norm.sf(abs(effect[place] - 0.5) / error)
    return effect, p_value
