"""What a model makes of each signal: how its contribution to the log-odds of the risk depends on the latest value.

Contributions are those of TreeSHAP (:meth:`vigil.models.training.risk_model.RiskModel.contributions`), of a sample of rows.
They are reported for groups of rows of similar value, so that a report holds no row of a patient. A contribution says what the
model uses, not what causes the outcome.
"""

from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vigil.features.signals import SIGNALS
from vigil.models.training.risk_model import RiskModel

_ROWS: Final = 1_000  # sampled; TreeSHAP takes a millisecond a row and member
_SIGNALS: Final = 8  # shown: those with the largest mean contribution
_GROUPS: Final = 10  # of rows by value, as equal as ties allow
_LEAST: Final = 20  # rows in a group
_WINDOWS: Final = (24, 72)  # hours, by which the latest value of a signal is a feature


def explain_signals(model: RiskModel, frame: pd.DataFrame, seed: int) -> list[dict[str, Any]]:
    """Return how the strongest signals move the risk, the strongest first; none for a model that cannot say.

    Args:
        model: whose contributions they are.
        frame: rows with the model's features.
        seed: of the sample.

    Returns:
        For each signal ``signal, unit, mean`` (of the absolute contribution, log-odds) and ``groups``: ``value`` (median of
        the latest value in the group), ``contribution`` (its mean), ``low, high`` (10th and 90th percentile) and ``rows``. The
        group without a value has ``value`` None. Signals without a latest value have no groups.
    """
    if not model.can_explain or frame.empty:
        return []
    chosen = np.random.default_rng(seed).choice(len(frame), min(_ROWS, len(frame)), replace=False)
    rows = frame.iloc[np.sort(chosen)]
    contributions = model.contributions(rows).drop(columns="baseline")
    strongest = contributions.abs().mean().sort_values(ascending=False)[:_SIGNALS]
    return [
        {
            "signal": str(signal),
            "unit": SIGNALS[signal].unit if signal in SIGNALS else "",
            "mean": float(mean),
            "groups": _group(_latest(rows, str(signal)), contributions[signal].to_numpy(np.float64)),
        }
        for signal, mean in strongest.items()
    ]


def _latest(rows: pd.DataFrame, signal: str) -> NDArray[np.float64] | None:
    """Return the latest values of a signal, or a feature of that name, such as the age; None: there is none."""
    names = [signal, *(f"{signal}_last_{hours}h" for hours in _WINDOWS)]
    name = next((name for name in names if name in rows), None)
    return None if name is None else rows[name].to_numpy(np.float64)


def _group(value: NDArray[np.float64] | None, contribution: NDArray[np.float64]) -> list[dict[str, Any]]:
    if value is None or np.isnan(value).all():
        return []
    edges = np.unique(np.nanquantile(value, np.linspace(0, 1, _GROUPS + 1)[1:-1]))
    group = np.where(np.isnan(value), -1, np.searchsorted(edges, value, side="left"))
    members = [group == number for number in np.unique(group)]
    return [_describe(value[rows], contribution[rows]) for rows in members if rows.sum() >= _LEAST]


def _describe(value: NDArray[np.float64], contribution: NDArray[np.float64]) -> dict[str, Any]:
    low, high = np.quantile(contribution, [0.1, 0.9])
    return {
        "value": None if np.isnan(value[0]) else float(np.median(value)),
        "contribution": float(contribution.mean()),
        "low": float(low),
        "high": float(high),
        "rows": len(value),
    }
