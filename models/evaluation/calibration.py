"""Can the probability be taken at its word?"""

from typing import Final

import numba
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import brentq
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from models.statistics.bootstrap import Float64, Int64, Resamples, ratio
from models.statistics.proportions import proportions
from models.training.risk_model import from_log_odds, log_odds

BINS: Final = 10


def calibration(label: Float64, probability: Float64) -> dict[str, float]:
    """Brier score, calibration slope, calibration-in-the-large and expected calibration error.

    ``calibration_slope``: of a logistic regression of the label on the log-odds; 1 is right, below 1 too extreme.
    ``calibration_intercept``: shift of the log-odds that makes the mean risk equal the event rate, slope held at 1; 0 is
    right. ``ece``: mean |observed - predicted| over ten groups of equal size. (Van Calster B, et al. Calibration: the
    Achilles heel of predictive analytics. BMC Med 2019;17:230.)
    """
    margin = log_odds(probability)
    groups = reliability(label, probability)
    gap = (groups["observed"] - groups["predicted"]).abs()
    return {
        "brier": float(brier_score_loss(label, probability)),
        "calibration_slope": line(label, margin)[1],
        "calibration_intercept": shift(label, margin),
        "ece": float((gap * groups["n"]).sum() / groups["n"].sum()),
    }


def calibration_draws(label: Float64, probability: Float64, resamples: Resamples) -> dict[str, Float64]:
    """The same in each resample, each of shape (RESAMPLES,).

    Slope and intercept take one Newton step from the estimate instead of a new fit (Moulton LH, Zeger SL. Analyzing repeated
    measures on generalized linear models via the bootstrap. Biometrics 1989;45:381-394), which needs sums by patient only.
    """
    margin = log_odds(probability)
    rows = resamples.sums(np.ones_like(label))
    moved = shift(label, margin)
    expected = from_log_odds(moved + margin)
    order = np.argsort(probability, kind="stable")
    gap = _expected_error(label[order], probability[order], resamples.patient[order], resamples.times, rows.astype(np.int64))
    return {
        "brier": resamples.sums((probability - label) ** 2) / rows,
        "calibration_slope": slope_draws(label, probability, resamples),
        "calibration_intercept": moved + ratio(resamples.sums(label - expected), resamples.sums(expected * (1 - expected))),
        "ece": gap,
    }


def slope(label: Float64, probability: Float64) -> float:
    """The calibration slope alone; NaN where all rows have one label or one probability."""
    if len(np.unique(label)) < 2 or np.ptp(probability) == 0:
        return float("nan")
    return line(label, log_odds(probability))[1]


def slope_draws(label: Float64, probability: Float64, resamples: Resamples) -> Float64:
    """The calibration slope in each resample, shape (RESAMPLES,); by one Newton step, see :func:`calibration_draws`."""
    if np.ptp(probability) == 0:
        return np.full(len(resamples.times), np.nan)
    margin = log_odds(probability)
    intercept, estimate = line(label, margin)
    expected = from_log_odds(intercept + estimate * margin)
    spread, residual = expected * (1 - expected), label - expected
    s0, s1 = resamples.sums(residual), resamples.sums(residual * margin)
    i00, i01, i11 = (resamples.sums(spread * margin**power) for power in (0, 1, 2))
    return estimate + ratio(i00 * s1 - i01 * s0, i00 * i11 - i01**2)


def reliability(label: Float64, probability: Float64, subject_id: "pd.Series[str] | None" = None) -> pd.DataFrame:
    """Mean predicted and observed risk in ten groups of equal size by predicted risk: ``predicted, observed, n``.

    With the patients of the rows also ``observed_low, observed_high``: 95 % intervals that respect them.
    """
    group = risk_groups(probability)
    frame = pd.DataFrame({"predicted": probability, "observed": label})
    groups = frame.groupby(group).mean().assign(n=frame.groupby(group).size())
    if subject_id is not None:
        groups = groups.assign(**proportions(label, group, subject_id)[["observed_low", "observed_high"]])
    return groups.reset_index(drop=True)


def risk_groups(probability: Float64) -> Int64:
    """The number, from 0, of the tenth of the rows by predicted risk that each row belongs to; shape (n_rows,)."""
    rank = pd.Series(probability).rank(method="first").to_numpy(np.float64)
    return (rank * BINS / (len(probability) + 1)).astype(np.int64)


def histogram(label: Float64, probability: Float64, bins: int = 40) -> pd.DataFrame:
    """How predicted risks are spread: ``low, high`` of bars on a logarithmic axis, rows in each ``without, with_event``."""
    edges = np.geomspace(max(probability.min(), 1e-5), max(probability.max(), 2e-5), bins + 1)
    place = (np.searchsorted(edges, probability, side="right") - 1).clip(0, bins - 1)
    without, with_event = (np.bincount(place[label == value], minlength=bins) for value in (0, 1))
    return pd.DataFrame({"low": edges[:-1], "high": edges[1:], "without": without, "with_event": with_event})


def line(label: Float64, margin: Float64) -> tuple[float, float]:
    """Intercept and slope of a logistic regression of the label on the log-odds."""
    fitted = LogisticRegression(C=np.inf, tol=1e-8).fit(margin[:, None], label)
    return float(fitted.intercept_[0]), float(fitted.coef_[0, 0])


def shift(label: Float64, margin: Float64) -> float:
    """What has to be added to log-odds for the mean risk to equal the event rate."""
    return float(brentq(lambda by: float(np.mean(from_log_odds(margin + by)) - np.mean(label)), -20, 20))


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _expected_error(
    label: Float64, probability: Float64, patient: Int64, times: NDArray[np.int32], total: Int64
) -> NDArray[np.float64]:
    """Expected calibration error of rows from the lowest risk up; the ten groups are cut anew in each resample."""
    found = np.empty(len(times))
    for resample in range(len(times)):
        gap, error, drawn = 0.0, 0.0, 0
        left = -(-(total[resample] + 1) // BINS) - 1  # rows until the next group begins
        group = 1
        for row in range(len(label)):
            times_drawn = times[resample, patient[row]]
            difference = label[row] - probability[row]
            while times_drawn > left:  # a row that was drawn often may lie on both sides of a cut
                error += abs(gap + left * difference)
                drawn, times_drawn, gap, group = drawn + left, times_drawn - left, 0.0, group + 1
                left = -(-group * (total[resample] + 1) // BINS) - 1 - drawn if group < BINS else total[resample]
            drawn, left = drawn + times_drawn, left - times_drawn
            gap += times_drawn * difference
        found[resample] = (error + abs(gap)) / total[resample]
    return found
