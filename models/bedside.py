"""NEWS2 at the bedside: a value counts for a limited time, and SpO2 by the scale that the patient needs.

The features of NEWS2 carry a value for a day and score SpO2 by scale 1, as retrospective protocols and models have them. What
staff see follows the terms here. The model's own features are not changed.
"""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.derived import SCORE_CARRY_HOURS
from features.derived_scores import SUSTAINED_NEWS2, read_sustained_levels, sum_sustained_news2
from features.scores import NEWS2_BANDS, assign_points, assign_spo2_scale_2
from features.signals import SIGNALS
from features.windows import WindowFeature

Spo2Scale = Literal[1, 2]
Float64 = NDArray[np.float64]

COMPONENTS: Final = tuple(NEWS2_BANDS)
_AGES: Final = tuple(f"{signal}_age_{SCORE_CARRY_HOURS}h" for signal in COMPONENTS)
_POINTS: Final = tuple(f"news2_{signal}" for signal in COMPONENTS)
SUSTAINED: Final = [feature.name for feature in SUSTAINED_NEWS2.features]
_LEVELS: Final = [need.name for need in SUSTAINED_NEWS2.needs if isinstance(need, WindowFeature)]  # what these are made of


@dataclass(frozen=True, slots=True)
class ScoreTerms:
    """The terms under which NEWS2 of one patient is made.

    Attributes:
        carry_hours: How long the value of each of :data:`COMPONENTS` counts, in their order.
        spo2_scale: The SpO2 scale of RCP 2017, chart 1.
    """

    carry_hours: tuple[float, ...] = tuple(SIGNALS[signal].carry_hours for signal in COMPONENTS)
    spo2_scale: Spo2Scale = 1

    def to_json(self) -> str:
        """Return the terms as the prediction log stores them."""
        return json.dumps({"carry_hours": self.carry_hours, "spo2_scale": self.spo2_scale})

    @classmethod
    def from_json(cls, text: str) -> "ScoreTerms":
        """Return the terms that :meth:`to_json` wrote."""
        stored = json.loads(text)
        return cls(tuple(stored["carry_hours"]), stored["spo2_scale"])


@dataclass(frozen=True, slots=True)
class Component:
    """One component of NEWS2, with the value behind it.

    Attributes:
        points: None if the value is unknown, or too old to count.
        value: the latest value, in the signal's unit; None if there was none within a day, or the features do not tell.
        hours: how old the value is.
        is_expired: whether it is too old to count.
    """

    points: int | None
    value: float | None = None
    hours: float | None = None
    is_expired: bool = False


USUAL_TERMS: Final = ScoreTerms()
# The terms of a retrospective protocol, and of answers before there were any others.
RETROSPECTIVE: Final = ScoreTerms(carry_hours=(SCORE_CARRY_HOURS,) * len(COMPONENTS))


def carries_from(limits: Mapping[str, float]) -> tuple[float, ...]:
    """Return ``carry_hours`` of :class:`ScoreTerms`, where some signals have a limit of their own.

    >>> carries_from({"spo2": 2})
    (12, 2, 12, 12, 12, 12, 12)
    """
    usual = zip(COMPONENTS, USUAL_TERMS.carry_hours, strict=True)
    return tuple(min(hours, limits.get(signal, hours)) for signal, hours in usual)


def has_ages(columns: Collection[str]) -> bool:
    """Return whether features tell how old the value of each component is."""
    return set(_AGES).issubset(columns)


def find_expired(rows: pd.DataFrame, terms: Sequence[ScoreTerms]) -> NDArray[np.bool_]:
    """Return which components have a value that is too old to count; shape (n_rows, 7).

    Args:
        rows: features. Without the ages of the values none is too old.
        terms: of each row.
    """
    if not has_ages(rows.columns):
        return np.zeros((len(rows), len(COMPONENTS)), dtype=bool)
    limits = np.array([row.carry_hours for row in terms], dtype=np.float64).reshape(-1, len(COMPONENTS))
    expired: NDArray[np.bool_] = rows[list(_AGES)].to_numpy(np.float64) >= np.minimum(limits, SCORE_CARRY_HOURS)
    return expired


def apply_terms(rows: pd.DataFrame, terms: Sequence[ScoreTerms], expired: NDArray[np.bool_]) -> pd.DataFrame:
    """Return rows in which the features of NEWS2 follow the terms of each patient.

    Where rows lack the view ``sustained_levels``, the latest values represent a patient whose components the terms change:
    what a sum of sustained values is made of cannot be told from it.

    Args:
        rows: features of the view ``scores``, and of ``vital_signs`` and ``support`` where a service has them.
        terms: of each row.
        expired: as :func:`find_expired` returns it.
    """
    by_scale_2 = np.array([row.spo2_scale == 2 for row in terms])
    if not expired.any() and not by_scale_2.any():
        return rows
    latest = {signal: read_column(rows, f"{signal}_last_{SCORE_CARRY_HOURS}h") for signal in ("spo2", "on_oxygen")}
    points = {signal: rows[name].to_numpy(np.float64) for signal, name in zip(COMPONENTS, _POINTS, strict=True)}
    own_points = _by_terms(points, latest, expired, by_scale_2)
    changed = rows.assign(**dict(zip(_POINTS, own_points.values(), strict=True)))
    if not set(SUSTAINED) <= set(rows.columns):
        return changed
    if set(_LEVELS) <= set(rows.columns):
        columns = {name: rows[name].to_numpy(np.float64) for name in _LEVELS}
        levels = read_sustained_levels(columns)
        points = {signal: assign_points(bands, levels[signal]) for signal, bands in NEWS2_BANDS.items()}
        sustained = sum_sustained_news2(_by_terms(points, levels, expired, by_scale_2), columns)
    else:
        is_changed = expired.any(axis=1) | by_scale_2
        sustained = {name: np.where(is_changed, np.nan, rows[name].to_numpy(np.float64)) for name in SUSTAINED}
    return changed.assign(**sustained)


def _by_terms(
    points: Mapping[str, Float64], values: Mapping[str, Float64], expired: NDArray[np.bool_], by_scale_2: NDArray[np.bool_]
) -> dict[str, Float64]:
    """Return the points of each component by the terms: SpO2 by its scale, and NaN where a value is too old."""
    oxygen = np.where(expired[:, COMPONENTS.index("on_oxygen")], np.nan, values["on_oxygen"])
    spo2 = np.where(by_scale_2, assign_spo2_scale_2(values["spo2"], oxygen), points["spo2"])
    return {
        signal: np.where(expired[:, position], np.nan, spo2 if signal == "spo2" else points[signal])
        for position, signal in enumerate(COMPONENTS)
    }


def read_components(rows: pd.DataFrame, expired: NDArray[np.bool_]) -> list[dict[str, Component]]:
    """Return the components of each row to which :func:`apply_terms` was applied, by signal."""
    of_signal = []
    for position, signal in enumerate(COMPONENTS):
        steps = SIGNALS[signal].steps_per_unit
        latest = np.rint(read_column(rows, f"{signal}_last_{SCORE_CARRY_HOURS}h") * steps) / steps
        points, hours = read_column(rows, _POINTS[position]), read_column(rows, _AGES[position])
        numbers = zip(points.tolist(), latest.tolist(), hours.tolist(), expired[:, position].tolist(), strict=True)
        of_signal.append(
            [
                Component(None if math.isnan(own) else int(own), _known(value), _known(age), is_expired)
                for own, value, age, is_expired in numbers
            ]
        )
    return [dict(zip(COMPONENTS, row, strict=True)) for row in zip(*of_signal, strict=True)]


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def read_column(rows: pd.DataFrame, name: str) -> Float64:
    """Return a feature; NaN if the rows lack it."""
    return rows[name].to_numpy(np.float64) if name in rows else np.full(len(rows), np.nan)
