"""Would acting on the model do more good than treating all, nobody, or those NEWS2 picks?

Vickers AJ, Elkin EB. Decision curve analysis: a novel method for evaluating prediction models. Med Decis Making
2006;26:565-574. A threshold probability p says that missing an event weighs as much as (1 - p) / p false alarms; the net
benefit is the share of rows rightly acted on less the share wrongly acted on, so weighed. Its unit is true positives a row.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.statistics.bootstrap import Float64, Interval, Resamples, percentile

POINTS: Final = 40


def thresholds(prevalence: float) -> Float64:
    """Threshold probabilities worth looking at: a quarter of the prevalence to ten times it, at most one half.

    Below, everybody would be treated; above, a ward would hear of next to nobody.
    """
    return np.geomspace(prevalence / 4, max(min(prevalence * 10, 0.5), prevalence), POINTS)


def net_benefit(label: Float64, acted_on: NDArray[np.bool_], threshold: float) -> float:
    """Net benefit of acting on some rows, at one threshold probability."""
    odds = threshold / (1 - threshold)
    return float((np.sum(label[acted_on]) - odds * np.sum(1 - label[acted_on])) / len(label))


def decision_curve(
    label: Float64, risks: Mapping[str, Float64], rules: Mapping[str, NDArray[np.bool_]], at: Float64
) -> pd.DataFrame:
    """Net benefit of every strategy at every threshold probability.

    Args:
        label: 0 or 1, shape (n_rows,).
        risks: name -> probability; acted on where it reaches the threshold probability.
        rules: name -> rows acted on whatever the threshold probability, such as NEWS2 at 5 points or more.
        at: threshold probabilities.

    Returns:
        One row a threshold probability: ``threshold, treat_all, treat_none``, the risks, the rules.
    """
    everyone = np.ones(len(label), dtype=bool)
    curve = {"threshold": at, "treat_all": [net_benefit(label, everyone, p) for p in at], "treat_none": np.zeros(len(at))}
    curve |= {name: [net_benefit(label, risk >= p, p) for p in at] for name, risk in risks.items()}
    curve |= {name: [net_benefit(label, acted_on, p) for p in at] for name, acted_on in rules.items()}
    return pd.DataFrame(curve)


def net_benefit_draws(label: Float64, probability: Float64, at: Float64, resamples: Resamples) -> Float64:
    """Net benefit of a risk in each resample, shape (RESAMPLES, n_thresholds); ``at`` ascending."""
    reached = np.searchsorted(at, probability, side="right")  # so many of the thresholds does the risk reach
    weight = _acted_on(reached, label, resamples, len(at)) - at / (1 - at) * _acted_on(reached, 1 - label, resamples, len(at))
    rows = resamples.sums(np.ones_like(label))
    return np.asarray((resamples.times @ weight) / rows[:, None])


def gain(label: Float64, ours: Float64, theirs: Float64, at: Float64, resamples: Resamples) -> pd.DataFrame:
    """Net benefit of one risk beyond another's at each threshold probability, patients drawn for both together.

    Returns:
        ``threshold, ours, ours_low, ours_high, theirs, gain, gain_low, gain_high``.
    """
    our_draws, their_draws = (net_benefit_draws(label, risk, at, resamples) for risk in (ours, theirs))
    rows = []
    for column, p in enumerate(at):
        benefit, beside = net_benefit(label, ours >= p, p), net_benefit(label, theirs >= p, p)
        own: Interval = percentile(our_draws[:, column])
        more: Interval = percentile(our_draws[:, column] - their_draws[:, column])
        rows.append((p, benefit, *own, beside, benefit - beside, *more))
    columns = ["threshold", "ours", "ours_low", "ours_high", "theirs", "gain", "gain_low", "gain_high"]
    return pd.DataFrame(rows, columns=columns)


def _acted_on(reached: NDArray[np.int64], value: Float64, resamples: Resamples, n: int) -> Float64:
    """Sum of the values acted on, by patient and threshold; shape (n_patients, n)."""
    patients = resamples.times.shape[1]
    by_reach = np.bincount(resamples.patient * (n + 1) + reached, weights=value, minlength=patients * (n + 1))
    below = by_reach.reshape(patients, n + 1)[:, ::-1].cumsum(axis=1)[:, ::-1]
    return np.asarray(below[:, 1:])
