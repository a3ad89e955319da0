"""Risk ranges: whether the range given with a probability holds the observed frequency."""

import pandas as pd
from numpy.typing import ArrayLike

from vigil.models.evaluation.calibration import assign_risk_groups
from vigil.models.statistics.bootstrap import Float64
from vigil.models.statistics.proportions import group_proportions


def measure_coverage(label: Float64, probability: Float64, low: Float64, high: Float64, subject_id: ArrayLike) -> pd.DataFrame:
    """Compare risk ranges with observed frequencies, in ten groups of equal size by predicted risk.

    A single outcome is 0 or 1 and lies in no range. A range can be compared with the frequency of the event among rows of
    similar risk. That frequency is itself known only within an interval
    (:func:`vigil.models.statistics.proportions.group_proportions`).

    Args:
        label: 0 or 1, shape (n_rows,).
        probability, low, high: risk of each row and the limits of its range, each of shape (n_rows,).
        subject_id: subject of each row.

    Returns:
        One row per group, lowest risk first: ``n, patients, predicted, low, high`` (means), ``observed, observed_low,
        observed_high``, ``covered`` (the frequency lies in the mean range) and ``compatible`` (its interval meets the range).
    """
    group = assign_risk_groups(probability)
    means = pd.DataFrame({"predicted": probability, "low": low, "high": high}).groupby(group).mean()
    table = means.join(group_proportions(label, group, subject_id))
    table["covered"] = table["observed"].between(table["low"], table["high"])
    table["compatible"] = (table["observed_high"] >= table["low"]) & (table["observed_low"] <= table["high"])
    observed = ["observed", "observed_low", "observed_high", "covered", "compatible"]
    return table[["n", "patients", "predicted", "low", "high", *observed]].reset_index(drop=True)
