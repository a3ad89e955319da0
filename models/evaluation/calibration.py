"""Calibration: whether predicted risks equal observed frequencies."""

from typing import Final

import numba
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import brentq
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from vigil.models.statistics.bootstrap import Float64, Int64, Resamples, ratio
from vigil.models.statistics.proportions import group_proportions
from vigil.models.training.risk_model import from_log_odds, log_odds

BINS: Final = 10


def measure_calibration(label: Float64, probability: Float64) -> dict[str, float]:
    """Return Brier score, calibration slope, calibration intercept and expected calibration error.

    ``calibration_slope`` is the slope of a logistic regression of the label on the log-odds. 1 is right; below 1 the risks are
    too extreme. ``calibration_intercept`` is the shift of the log-odds that makes the mean risk equal the event rate, with the
    slope held at 1. 0 is right. ``ece`` is the mean absolute difference of observed and predicted, over ten
    groups of equal size.

    Source: Van Calster B, et al. Calibration: the Achilles heel of predictive analytics. BMC Med 2019;17:230.

    Args:
        label: 0 or 1 per row, shape (n_rows,).
        probability: risk per row, shape (n_rows,).
    """
    margin = log_odds(probability)
    groups = measure_reliability(label, probability)
    gap = (groups["observed"] - groups["predicted"]).abs()
    return {
        "brier": float(brier_score_loss(label, probability)),
        "calibration_slope": fit_line(label, margin)[1],
        "calibration_intercept": fit_shift(label, margin),
        "ece": float((gap * groups["n"]).sum() / groups["n"].sum()),
    }


def resample_calibration(label: Float64, probability: Float64, resamples: Resamples) -> dict[str, Float64]:
    """Return the metrics of :func:`measure_calibration` in each resample, each of shape (RESAMPLES,).

    Slope and intercept take one Newton step from the estimate instead of a new fit. That needs sums per patient only.

    Source: Moulton LH, Zeger SL. Analyzing repeated measures on generalized linear models via the bootstrap. Biometrics
    1989;45:381-394.
    """
    margin = log_odds(probability)
    rows = resamples.sums(np.ones_like(label))
    moved = fit_shift(label, margin)
    expected = from_log_odds(moved + margin)
    order = np.argsort(probability, kind="stable")
    gap = _calibration_errors(
        label[order], probability[order], resamples.patient[order], resamples.times, rows.astype(np.int64)
    )
    return {
        "brier": resamples.sums((probability - label) ** 2) / rows,
        "calibration_slope": resample_slope(label, probability, resamples),
        "calibration_intercept": moved + ratio(resamples.sums(label - expected), resamples.sums(expected * (1 - expected))),
        "ece": gap,
    }


def fit_slope(label: Float64, probability: Float64) -> float:
    """Return the calibration slope; NaN if all rows have the same label or the same probability."""
    if len(np.unique(label)) < 2 or np.ptp(probability) == 0:
        return float("nan")
    return fit_line(label, log_odds(probability))[1]


def resample_slope(label: Float64, probability: Float64, resamples: Resamples) -> Float64:
    """Return the calibration slope in each resample, shape (RESAMPLES,), as :func:`resample_calibration` does."""
    if np.ptp(probability) == 0:
        return np.full(len(resamples.times), np.nan)
    margin = log_odds(probability)
    intercept, estimate = fit_line(label, margin)
    expected = from_log_odds(intercept + estimate * margin)
    spread, residual = expected * (1 - expected), label - expected
    s0, s1 = resamples.sums(residual), resamples.sums(residual * margin)
    i00, i01, i11 = (resamples.sums(spread * margin**power) for power in (0, 1, 2))
    return estimate + ratio(i00 * s1 - i01 * s0, i00 * i11 - i01**2)


def measure_reliability(
    label: Float64, probability: Float64, subject_id: "pd.Series[str] | None" = None, *, groups: int = BINS
) -> pd.DataFrame:
    """Return mean predicted risk and observed frequency in groups of equal size by predicted risk.

    Args:
        label: 0 or 1 per row, shape (n_rows,).
        probability: risk per row, shape (n_rows,).
        subject_id: subject of each row; needed for intervals.
        groups: number of them.

    Returns:
        One row per group: ``predicted, observed, n``. With ``subject_id`` also ``observed_low, observed_high``: 95 % intervals
        that treat the rows of a patient as dependent.
    """
    group = assign_risk_groups(probability, groups)
    frame = pd.DataFrame({"predicted": probability, "observed": label})
    table = frame.groupby(group).mean().assign(n=frame.groupby(group).size())
    if subject_id is not None:
        table = table.assign(**group_proportions(label, group, subject_id)[["observed_low", "observed_high"]])
    return table.reset_index(drop=True)


def assign_risk_groups(probability: Float64, groups: int = BINS) -> Int64:
    """Return the group of equal size, by predicted risk, that each row belongs to, counted from 0; shape (n_rows,).

    >>> import numpy as np
    >>> assign_risk_groups(np.array([0.9, 0.1, 0.5])).tolist()
    [7, 2, 5]
    """
    rank = pd.Series(probability).rank(method="first").to_numpy(np.float64)
    return (rank * groups / (len(probability) + 1)).astype(np.int64)


def count_risks(label: Float64, probability: Float64, bins: int = 40) -> pd.DataFrame:
    """Count predicted risks in bars on a logarithmic axis.

    Returns:
        One row per bar: its limits ``low, high``, and the number of rows ``without`` and ``with_event`` in it.
    """
    edges = np.geomspace(max(probability.min(), 1e-5), max(probability.max(), 2e-5), bins + 1)
    bar = (np.searchsorted(edges, probability, side="right") - 1).clip(0, bins - 1)
    without, with_event = (np.bincount(bar[label == value], minlength=bins) for value in (0, 1))
    return pd.DataFrame({"low": edges[:-1], "high": edges[1:], "without": without, "with_event": with_event})


def fit_line(label: Float64, margin: Float64) -> tuple[float, float]:
    """Return intercept and slope of a logistic regression of the label on the log-odds."""
    fitted = LogisticRegression(C=np.inf, tol=1e-8).fit(margin[:, None], label)
    return float(fitted.intercept_[0]), float(fitted.coef_[0, 0])


def fit_shift(label: Float64, margin: Float64) -> float:
    """Return the number to add to the log-odds so that the mean risk equals the event rate."""
    return float(brentq(lambda by: float(np.mean(from_log_odds(margin + by)) - np.mean(label)), -20, 20))


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _calibration_errors(
    label: Float64, probability: Float64, patient: Int64, times: NDArray[np.int32], total: Int64
) -> NDArray[np.float64]:
    """Return the expected calibration error per resample; rows ascend by risk, and each resample has its own ten groups."""
    errors = np.empty(len(times))
    for resample in range(len(times)):
        gap, error, drawn = 0.0, 0.0, 0
        left = -(-(total[resample] + 1) // BINS) - 1  # rows until the next group begins
        group = 1
        for row in range(len(label)):
            times_drawn = times[resample, patient[row]]
            difference = label[row] - probability[row]
            while times_drawn > left:  # a row drawn several times may lie on both sides of a cut
                error += abs(gap + left * difference)
                drawn, times_drawn, gap, group = drawn + left, times_drawn - left, 0.0, group + 1
                left = -(-group * (total[resample] + 1) // BINS) - 1 - drawn if group < BINS else total[resample]
            drawn, left = drawn + times_drawn, left - times_drawn
            gap += times_drawn * difference
        errors[resample] = (error + abs(gap)) / total[resample]
    return errors
