"""What a model makes of each signal: how its contribution to the log-odds of the risk depends on the latest value.

Contributions are those of TreeSHAP (:meth:`vigil.models.training.risk_model.RiskModel.contributions`), of a sample of rows. A
contribution says what the model uses, not what causes the outcome.

A report holds no row of a patient. Curves are of groups of rows of similar value. The dots of each signal are sorted by
themselves, and have ranks instead of values, so that no dots of two signals can be put together again.
"""

from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vigil.features.signals import SIGNALS
from vigil.models.training.risk_model import RiskModel

_ROWS: Final = 1_000  # sampled; TreeSHAP takes a millisecond a row and member
_SIGNALS: Final = 8  # shown: those with the largest mean contribution
_FEATURES: Final = 12
_DOTS: Final = 200  # of a signal or feature; a page holds a drawn element a dot
_GROUPS: Final = 10  # of rows by value, as equal as ties allow
_LEAST: Final = 20  # rows in a group
_BINS: Final = 24  # of the density of values
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
        group without a value has ``value`` None. Signals without a latest value have no groups. ``density``: ``low, high`` (1st
        and 99th percentile of the latest value) and ``counts`` of rows in equal bins between them; None without a latest value.
        ``swarm``: as of :func:`explain_features`.
    """
    if not model.can_explain or frame.empty:
        return []
    rows = sample_rows(frame, _ROWS, seed)
    contributions = model.contributions(rows).drop(columns="baseline")
    return [
        {
            "signal": str(signal),
            "unit": SIGNALS[signal].unit if signal in SIGNALS else "",
            "mean": float(mean),
            "groups": _group(latest_values(rows, str(signal)), contributions[signal].to_numpy(np.float64)),
            "density": _count_values(latest_values(rows, str(signal))),
            "swarm": _swarm(latest_values(rows, str(signal)), contributions[signal].to_numpy(np.float64)),
        }
        for signal, mean in _strongest(contributions, _SIGNALS).items()
    ]


def explain_features(model: RiskModel, frame: pd.DataFrame, seed: int) -> list[dict[str, Any]]:
    """Return the dots of the strongest features, the strongest first; none for a model that cannot say.

    Args:
        model, frame, seed: as :func:`explain_signals` takes them.

    Returns:
        For each feature ``feature, mean`` and ``swarm``: ``contribution`` (log-odds, ascending) and ``rank`` of the value
        among the rows, 0 to 1; None where it is not known.
    """
    if not model.can_explain or frame.empty:
        return []
    rows = sample_rows(frame, _DOTS, seed)
    contributions = model.contributions(rows, by="feature").drop(columns="baseline")
    return [
        {
            "feature": str(name),
            "mean": float(mean),
            "swarm": _swarm(rows[name].to_numpy(np.float64), contributions[name].to_numpy(np.float64)),
        }
        for name, mean in _strongest(contributions, _FEATURES).items()
    ]


def explain_row(model: RiskModel, row: pd.DataFrame, by: Literal["signal", "feature"] = "signal") -> dict[str, Any] | None:
    """Return what makes up the risk of one row; None for a model that cannot say.

    Args:
        model: whose contributions they are.
        row: one row with the model's features.
        by: whether to sum the contributions over the features of each signal.

    Returns:
        ``baseline`` (log-odds of the average patient), ``risk`` (probability of this row) and ``parts``, the strongest first:
        ``name, contribution`` (log-odds) and ``value``, the latest one of a signal; None: it is not known. The log-odds of the
        risk are the baseline and all contributions.
    """
    if not model.can_explain:
        return None
    contributions = model.contributions(row, by).iloc[0]
    baseline = float(contributions.pop("baseline"))
    parts = []
    for name, contribution in contributions.sort_values(key=abs, ascending=False).items():
        values = latest_values(row, str(name))
        value = None if values is None or np.isnan(values[0]) else float(values[0])
        parts.append({"name": str(name), "contribution": float(contribution), "value": value})
    return {"baseline": baseline, "risk": float(model.risk(row)[0]), "parts": parts}


def sample_rows(frame: pd.DataFrame, at_most: int, seed: int) -> pd.DataFrame:
    """Return a random sample of rows, in their order."""
    chosen = np.random.default_rng(seed).choice(len(frame), min(at_most, len(frame)), replace=False)
    return frame.iloc[np.sort(chosen)]


def latest_values(rows: pd.DataFrame, name: str) -> NDArray[np.float64] | None:
    """Return the latest values of a signal, or a feature of that name, such as the age; None: there is none."""
    names = [name, *(f"{name}_last_{hours}h" for hours in _WINDOWS)]
    column = next((name for name in names if name in rows), None)
    return None if column is None else rows[column].to_numpy(np.float64)


def _strongest(contributions: pd.DataFrame, number: int) -> "pd.Series[float]":
    return contributions.abs().mean().sort_values(ascending=False, kind="stable")[:number]


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


def _count_values(value: NDArray[np.float64] | None) -> dict[str, Any] | None:
    if value is None or np.isnan(value).all():
        return None
    low, high = (float(end) for end in np.nanquantile(value, [0.01, 0.99]))
    if low == high:
        return None
    counts, _ = np.histogram(value, bins=_BINS, range=(low, high))
    return {"low": low, "high": high, "counts": counts.tolist()}


def _swarm(value: NDArray[np.float64] | None, contribution: NDArray[np.float64]) -> dict[str, Any]:
    step = -(-len(contribution) // _DOTS)
    rank = pd.Series(np.nan if value is None else value, index=range(len(contribution))).rank(pct=True)
    dots = pd.DataFrame({"contribution": contribution, "rank": rank})[::step].round(3).sort_values(["contribution", "rank"])
    return {
        "contribution": dots["contribution"].tolist(),
        "rank": [None if np.isnan(one) else one for one in dots["rank"].tolist()],
    }
