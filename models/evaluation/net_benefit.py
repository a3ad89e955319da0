"""Net benefit: whether acting on a risk does more good than treating all patients, none, or those that NEWS2 selects.

A threshold probability p states that missing one event weighs as much as (1 - p) / p false alarms. Net benefit is the share of
rows correctly acted on, minus the share wrongly acted on times the odds p / (1 - p). Its unit is true positives per row.

Source: Vickers AJ, Elkin EB. Decision curve analysis: a novel method for evaluating prediction models. Med Decis Making
2006;26:565-574.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vigil.models.statistics.bootstrap import Float64, Interval, Resamples, percentile_interval

POINTS: Final = 40


def choose_thresholds(prevalence: float) -> Float64:
    """Return threshold probabilities for a decision curve, ascending, shape (POINTS,).

    They run from a quarter of the prevalence to ten times it, at most one half. Below that range all patients would be
    treated; above it a ward would hear of hardly any.
    """
    return np.geomspace(prevalence / 4, max(min(prevalence * 10, 0.5), prevalence), POINTS)


def net_benefit(label: Float64, acted_on: NDArray[np.bool_], threshold: float) -> float:
    """Return the net benefit of acting on some rows, at one threshold probability.

    >>> import numpy as np
    >>> net_benefit(np.array([1.0, 0.0, 1.0, 0.0]), np.array([True, True, False, False]), 0.5)  # one right, one wrong
    0.0
    """
    odds = threshold / (1 - threshold)
    return float((np.sum(label[acted_on]) - odds * np.sum(1 - label[acted_on])) / len(label))


def compute_decision_curve(
    label: Float64, risks: Mapping[str, Float64], rules: Mapping[str, NDArray[np.bool_]], at: Float64
) -> pd.DataFrame:
    """Compute the net benefit of every strategy at every threshold probability.

    Args:
        label: 0 or 1, shape (n_rows,).
        risks: name -> probability. The strategy acts on rows that reach the threshold probability.
        rules: name -> rows that the strategy acts on at any threshold probability, such as NEWS2 of 5 or more.
        at: threshold probabilities.

    Returns:
        One row per threshold probability: ``threshold, treat_all, treat_none``, then the risks and the rules by name.
    """
    all_rows = np.ones(len(label), dtype=bool)
    curve = {"threshold": at, "treat_all": [net_benefit(label, all_rows, p) for p in at], "treat_none": np.zeros(len(at))}
    curve |= {name: [net_benefit(label, risk >= p, p) for p in at] for name, risk in risks.items()}
    curve |= {name: [net_benefit(label, acted_on, p) for p in at] for name, acted_on in rules.items()}
    return pd.DataFrame(curve)


def resample_net_benefit(label: Float64, probability: Float64, at: Float64, resamples: Resamples) -> Float64:
    """Return the net benefit of a risk in each resample, shape (RESAMPLES, n_thresholds); ``at`` must be ascending."""
    reached = np.searchsorted(at, probability, side="right")  # how many thresholds the risk reaches
    weight = _sum_acted_on(reached, label, resamples, len(at)) - at / (1 - at) * _sum_acted_on(
        reached, 1 - label, resamples, len(at)
    )
    rows = resamples.sums(np.ones_like(label))
    return np.asarray((resamples.times @ weight) / rows[:, None])


def compare_net_benefit(label: Float64, ours: Float64, theirs: Float64, at: Float64, resamples: Resamples) -> pd.DataFrame:
    """Compare the net benefit of two risks at each threshold probability, on the same resamples.

    Returns:
        One row per threshold probability: ``threshold, ours, ours_low, ours_high, theirs, gain, gain_low, gain_high``. The gain
        is ours minus theirs; intervals are 95 %.
    """
    our_draws, their_draws = (resample_net_benefit(label, risk, at, resamples) for risk in (ours, theirs))
    rows = []
    for column, p in enumerate(at):
        benefit, other = net_benefit(label, ours >= p, p), net_benefit(label, theirs >= p, p)
        interval: Interval = percentile_interval(our_draws[:, column])
        gain_interval: Interval = percentile_interval(our_draws[:, column] - their_draws[:, column])
        rows.append((p, benefit, *interval, other, benefit - other, *gain_interval))
    columns = ["threshold", "ours", "ours_low", "ours_high", "theirs", "gain", "gain_low", "gain_high"]
    return pd.DataFrame(rows, columns=columns)


def _sum_acted_on(reached: NDArray[np.int64], value: Float64, resamples: Resamples, n: int) -> Float64:
    """Return the sum of the values acted on, per patient and threshold; shape (n_patients, n)."""
    patients = resamples.times.shape[1]
    by_reach = np.bincount(resamples.patient * (n + 1) + reached, weights=value, minlength=patients * (n + 1))
    below = by_reach.reshape(patients, n + 1)[:, ::-1].cumsum(axis=1)[:, ::-1]
    return np.asarray(below[:, 1:])
