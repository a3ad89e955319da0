"""A subject against their personal baseline: unusual vital signs, and vital signs that are no longer measured."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from vigil.features.derived import MEASUREMENT_ERROR
from vigil.features.signals import SIGNALS
from vigil.serving.records.journal import Journal
from vigil.serving.records.timestamps import microsecond
from vigil.serving.scoring.subject_state import features_as_of

# Standard deviations from a patient's own usual that are called unusual: beyond them lies 1 of 400 of a normal distribution.
UNUSUAL: Final = 3.0
# Hours without a vital sign that is measured at other times. RCP 2017, chart 4: every 4 to 6 h for a score of 1 to 4.
GAP_HOURS: Final = 4
_VIEWS: Final = ("dynamics", "baseline")


@dataclass(frozen=True, slots=True)
class Anomaly:
    """One vital sign against the subject's own usual, in the signal's unit.

    Attributes:
        level: exponential average of the last 6 h.
        usual: mean of everything so far.
        deviation: level minus usual, in standard deviations of the subject and of the measurement together.
        unusual: whether that is :data:`UNUSUAL` or more.
    """

    signal: str
    unit: str
    level: float | None
    usual: float | None
    deviation: float | None
    unusual: bool


@dataclass(frozen=True, slots=True)
class Gap:
    """A vital sign that was measured before, and not within :data:`GAP_HOURS`."""

    signal: str
    hours_since_reading: float


def baseline_row(journal: Journal, subject: str, time: pd.Timestamp) -> dict[str, Any] | None:
    """Return the features of a subject's baseline as of a time; None: the journal does not know them."""
    with journal.snapshot() as snapshot:
        rows = features_as_of(snapshot, _VIEWS, [subject], microsecond(time))
    return None if rows.empty else dict(rows.iloc[0])


def anomalies(row: dict[str, Any]) -> list[Anomaly]:
    """Return every vital sign against the usual, the most unusual first. ``row``: of :func:`baseline_row`."""
    signals = []
    for vital in MEASUREMENT_ERROR:
        away, deviation = _number(row[f"{vital}_from_usual"]), _number(row[f"{vital}_anomaly"])
        level = _number(row[f"{vital}_ema_6h"])
        signals.append(
            Anomaly(
                signal=vital,
                unit=SIGNALS[vital].unit,
                level=level,
                usual=None if level is None or away is None else level - away,
                deviation=deviation,
                unusual=deviation is not None and abs(deviation) >= UNUSUAL,
            )
        )
    return sorted(signals, key=lambda anomaly: -abs(anomaly.deviation or 0))


def gaps(row: dict[str, Any]) -> list[Gap]:
    """Return the vital signs that were measured once, and not lately. ``row``: of :func:`baseline_row`."""
    ages = {vital: _number(row[f"{vital}_age_so_far"]) for vital in MEASUREMENT_ERROR}
    return [Gap(vital, age) for vital, age in ages.items() if age is not None and age >= GAP_HOURS]


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
