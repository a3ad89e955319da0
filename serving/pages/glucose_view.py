"""The glucose of a home patient over the last days: time in range, and the ambulatory glucose profile."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import pandas as pd

from vigil.features.glucose import GLUCOSE, PERIOD_DAYS, RANGES, GlucoseError, glucose_profile, time_in_range
from vigil.features.signals import BOUNDS, SIGNALS, signal_with_bounds
from vigil.serving.pages.charts import Scale
from vigil.serving.records.journal import Journal
from vigil.serving.records.journal_readings import Interval, Wanted
from vigil.serving.records.timestamps import instant, microsecond, present

_MOST_READINGS: Final = 50_000
_DAY_MINUTES: Final = 24 * 60
_TOP: Final = 300.0  # mg/dL, of the chart, unless values are higher
_TARGET: Final = (70.0, 180.0)  # Battelino 2019, as features/glucose.py says


@dataclass(frozen=True, slots=True)
class GlucoseView:
    """What is shown.

    Attributes:
        figures: of :func:`vigil.features.glucose.time_in_range`.
        shares: percent of time by range, the highest range first.
        outer, inner: areas from the 5th to the 95th and from the 25th to the 75th percentile, as paths in a box of 1000 by 100.
        median: line, in the same box.
        target: heights of its ends, in percent.
        labels: heights with their text, of the vertical axis.
    """

    figures: Mapping[str, float]
    shares: Sequence[tuple[str, float]]
    outer: str
    inner: str
    median: str
    target: tuple[float, float]
    labels: Sequence[tuple[float, str]]


def glucose_view(journal: Journal, subject: str, zone: str) -> GlucoseView | None:
    """Return the glucose of a patient over the last days; None: nothing was measured.

    Args:
        journal: with the readings.
        subject: the patient.
        zone: by whose clock their day goes.
    """
    since = present() - timedelta(days=PERIOD_DAYS + 1)
    with journal.snapshot() as snapshot:
        wanted = Wanted(
            snapshot.keys(subject), signal_with_bounds(GLUCOSE), observed=Interval(microsecond(since)), by_time=True
        )
        readings = snapshot.readings(wanted, None, _MOST_READINGS)
    if not readings:
        return None
    frame = pd.DataFrame(
        {
            "subject_id": subject,
            "observed_at": [instant(reading.observed_at) for reading in readings],
            "signal": GLUCOSE,
            "value": [reading.value for reading in readings],
            "unit": SIGNALS[GLUCOSE].unit,
            "comparator": [_comparator(reading.signal) for reading in readings],
        }
    )
    try:
        figures = {str(name): value for name, value in time_in_range(frame).iloc[0].items()}
        profile = glucose_profile(frame, time_zone=zone, bin_minutes=30)
    except GlucoseError:
        return None
    known = profile[profile["median"].notna()]
    scale = Scale(0.0, max(_TOP, 1.05 * float(known["p95"].max())))
    return GlucoseView(
        figures=figures,
        shares=[(name, figures[name]) for name in reversed(RANGES)],
        outer=_area(known, "p05", "p95", scale),
        inner=_area(known, "p25", "p75", scale),
        median="M" + "L".join(_points(known, "median", scale)),
        target=(scale.place(_TARGET[1]), scale.place(_TARGET[0])),
        labels=[(scale.place(value), f"{value:.0f}") for value in (54.0, *_TARGET, 250.0)],
    )


def _comparator(signal: str) -> str | None:
    return None if signal not in BOUNDS else "<" if "_below_" in signal else ">"


def _points(profile: pd.DataFrame, column: str, scale: Scale) -> list[str]:
    """Return the points of a percentile, each in the middle of its bin."""
    return [
        f"{1000 * (minute + 15) / _DAY_MINUTES:.0f} {scale.place(value):.1f}"
        for minute, value in zip(profile["minute"], profile[column], strict=True)
    ]


def _area(profile: pd.DataFrame, low: str, high: str, scale: Scale) -> str:
    return "M" + "L".join([*_points(profile, low, scale), *reversed(_points(profile, high, scale))]) + "Z"
