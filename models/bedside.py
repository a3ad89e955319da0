"""NEWS2 at the bedside: a value counts for a limited time, and SpO2 by the scale that the patient needs.

The features of NEWS2 carry a value for a day and score SpO2 by scale 1, as retrospective protocols and models have them. What
staff see follows the terms here. The model's own features are not changed.
"""

import functools
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vigil.features.derived import SCORE_CARRY_HOURS, Columns, Float64
from vigil.features.derived_scores import SUSTAINED_NEWS2, read_sustained_levels, sum_sustained_news2
from vigil.features.scores import NEWS2_BANDS, assign_points, assign_spo2_scale_2
from vigil.features.signals import SIGNALS
from vigil.features.windows import WindowFeature

Spo2Scale = Literal[1, 2]

COMPONENTS: Final = tuple(NEWS2_BANDS)
_AGES: Final = tuple(f"{signal}_age_{SCORE_CARRY_HOURS}h" for signal in COMPONENTS)
_POINTS: Final = tuple(f"news2_{signal}" for signal in COMPONENTS)
SUSTAINED: Final = [feature.name for feature in SUSTAINED_NEWS2.features]
_LEVELS: Final = [need.name for need in SUSTAINED_NEWS2.needs if isinstance(need, WindowFeature)]  # what these are made of
_LATEST: Final = [f"{signal}_last_{SCORE_CARRY_HOURS}h" for signal in COMPONENTS]
_PATIENT: Final = ["age", "pregnant", "hours_since_reading"]  # whether a score applies
NEEDED: Final = pd.Index(  # for NEWS2 at the bedside
    dict.fromkeys([*_POINTS, *_AGES, *_LATEST, *SUSTAINED, *_LEVELS, *_PATIENT])
)


@dataclass(frozen=True, slots=True)
class ScoreTerms:
    """The terms under which NEWS2 of one patient is made.

    Attributes:
        carry_hours: How long the value of each of :data:`COMPONENTS` counts, in their order.
        spo2_scale: The SpO2 scale of RCP 2017, chart 1.
    """

    carry_hours: tuple[float, ...] = tuple(SIGNALS[signal].carry_hours for signal in COMPONENTS)
    spo2_scale: Spo2Scale = 1

    @functools.lru_cache(maxsize=1024)  # noqa: B019 - terms are few, and written with every risk
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


def read_columns(rows: pd.DataFrame, names: "pd.Index[str]" = NEEDED) -> Columns:
    """Return columns of feature rows, each of shape (n_rows,). Those that the rows lack are left out.

    All are taken from the frame at once: one by one, a frame of one row takes longer than everything that is made of them.
    """
    positions = rows.columns.get_indexer(names)
    matrix = rows.take(positions[positions >= 0], axis=1).to_numpy(np.float64)
    return dict(zip(names[positions >= 0], matrix.T, strict=True))


def find_expired(columns: Columns, terms: Sequence[ScoreTerms]) -> NDArray[np.bool_]:
    """Return which components have a value that is too old to count; shape (n_rows, 7).

    Args:
        columns: features. Without the ages of the values none is too old.
        terms: of each row.
    """
    if not has_ages(columns):
        return np.zeros((len(terms), len(COMPONENTS)), dtype=bool)
    limits = np.array([row.carry_hours for row in terms], dtype=np.float64).reshape(-1, len(COMPONENTS))
    ages = np.column_stack([columns[name] for name in _AGES])
    expired: NDArray[np.bool_] = ages >= np.minimum(limits, SCORE_CARRY_HOURS)
    return expired


def apply_terms(columns: Columns, terms: Sequence[ScoreTerms], expired: NDArray[np.bool_]) -> Columns:
    """Return columns in which the features of NEWS2 follow the terms of each patient.

    Where columns lack the view ``sustained_levels``, the latest values represent a patient whose components the terms change:
    what a sum of sustained values is made of cannot be told from it.

    Args:
        columns: features of the view ``scores``, and of ``vital_signs`` and ``support`` where a service has them.
        terms: of each row.
        expired: as :func:`find_expired` returns it.
    """
    by_scale_2 = np.array([row.spo2_scale == 2 for row in terms])
    if not expired.any() and not by_scale_2.any():
        return columns
    latest = {signal: read_column(columns, f"{signal}_last_{SCORE_CARRY_HOURS}h") for signal in ("spo2", "on_oxygen")}
    points = {signal: columns[name] for signal, name in zip(COMPONENTS, _POINTS, strict=True)}
    own_points = _by_terms(points, latest, expired, by_scale_2)
    changed = {**columns, **dict(zip(_POINTS, own_points.values(), strict=True))}
    if not columns.keys() >= set(SUSTAINED):
        return changed
    if columns.keys() >= set(_LEVELS):
        levels = read_sustained_levels(columns)
        points = {signal: assign_points(bands, levels[signal]) for signal, bands in NEWS2_BANDS.items()}
        return {**changed, **sum_sustained_news2(_by_terms(points, levels, expired, by_scale_2), columns)}
    is_changed = expired.any(axis=1) | by_scale_2
    return changed | {name: np.where(is_changed, np.nan, columns[name]) for name in SUSTAINED}


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


def read_components(columns: Columns, expired: NDArray[np.bool_]) -> list[dict[str, Component]]:
    """Return the components of each row to whose columns :func:`apply_terms` was applied, by signal."""
    of_signal = []
    for position, signal in enumerate(COMPONENTS):
        steps = SIGNALS[signal].steps_per_unit
        latest = np.rint(read_column(columns, f"{signal}_last_{SCORE_CARRY_HOURS}h") * steps) / steps
        points, hours = read_column(columns, _POINTS[position]), read_column(columns, _AGES[position])
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


def read_column(columns: Columns, name: str) -> Float64:
    """Return a column of :func:`read_columns`; NaN if the rows lack it."""
    return columns[name] if name in columns else np.full(len(columns[_POINTS[0]]), np.nan)
