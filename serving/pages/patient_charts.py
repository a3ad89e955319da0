"""The charts of a patient: risk, NEWS2 and signals on one axis of time, with all that does not hold marked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import pandas as pd

from vigil.features.display_names import capitalise
from vigil.features.measures import name_signal
from vigil.features.scores import NEWS2_BANDS, NEWS2_SPO2_SCALE_2_ON_OXYGEN, Bands
from vigil.features.signals import BOUNDS, SIGNALS, measured_signal
from vigil.models.alarms.critical_bounds import Bound
from vigil.models.alarms.patient_terms import PatientTerms
from vigil.serving.pages.charts import Mark, Panel, Scale, Span, find_gaps, thin
from vigil.serving.records.journal import Journal
from vigil.serving.records.journal_readings import Interval, StoredReading, Wanted
from vigil.serving.records.timestamps import microsecond
from vigil.serving.records.ward_rows import Alarm
from vigil.serving.scoring.history import RiskPoint
from vigil.serving.words import Words

_ORDER: Final = (
    "respiratory_rate", "spo2", "on_oxygen", "fio2", "systolic_bp", "diastolic_bp", "mean_bp", "heart_rate", "consciousness",
    "body_temperature", "glucose",
)  # fmt: skip
_MOST_READINGS: Final = 200_000


def _without_points(bands: Bands) -> tuple[float, float]:
    """Return the edges between which NEWS2 gives no point.

    >>> _without_points(NEWS2_BANDS["heart_rate"]), _without_points(NEWS2_SPO2_SCALE_2_ON_OXYGEN)
    ((50.5, 90.5), (87.5, 92.5))
    """
    edges, points = bands
    place = points.index(0)
    return edges[place - 1] if place else -np.inf, edges[place] if place < len(edges) else np.inf


# Where no point is given by NEWS2; of glucose the consensus target range (Battelino 2019, features/glucose.py).
_USUAL: Final[Mapping[str, tuple[float, float]]] = {
    "glucose": (70.0, 180.0),
    **{signal: _without_points(bands) for signal, bands in NEWS2_BANDS.items()},
}
_USUAL_SPO2_SCALE_2: Final = _without_points(NEWS2_SPO2_SCALE_2_ON_OXYGEN)  # the target: 88 to 92 % (RCP 2017, chart 1)


@dataclass(frozen=True, slots=True)
class Readings:
    """What was sent of a patient in a time.

    Attributes:
        stored: readings that count, and those that counted once, in order of observation.
        retracted: rows of those that were retracted and not corrected.
        quarantined: time, signal, value (NaN: none) and reason of what could not be used.
        cut_before: before which time readings are left out, as there are too many, microseconds; None: all are here.
    """

    stored: Sequence[StoredReading]
    retracted: frozenset[int]
    quarantined: Sequence[tuple[int, str, float, str]]
    cut_before: int | None = None


def read_readings(journal: Journal, subject: str, span: Span, most: int = _MOST_READINGS) -> Readings:
    """Return what was sent of a patient and observed in a time; at most so many readings, the newest."""
    with journal.snapshot() as snapshot:
        keys = snapshot.keys(subject)
        wanted = Wanted(keys, observed=Interval(span.since, span.until), by_time=True, newest_first=True, with_superseded=True)
        newest = snapshot.readings(wanted, None, most + 1)
        stored = newest[:most][::-1]
        retracted = frozenset(reading.row for reading in stored if snapshot.is_retracted(reading))
        refused = snapshot.quarantined(span.since, span.until)
    refused = refused[refused["subject_id"].isin(keys) & refused["observed_at"].notna()]
    values = pd.to_numeric(refused["value"], errors="coerce")
    quarantined = [
        (microsecond(at), str(name_signal(signal) or ""), float(value), str(reason))
        for at, signal, value, reason in zip(refused["observed_at"], refused["signal"], values, refused["reason"], strict=True)
        if reason not in ("duplicate_message", "duplicate_reading") and isinstance(signal, str)
    ]
    return Readings(stored, retracted, quarantined, stored[0].observed_at if len(newest) > most else None)


def signal_panels(readings: Readings, span: Span, words: Words, terms: PatientTerms | None, now: int) -> list[Panel]:
    """Return a chart of each signal that was measured, vital signs first. ``now``: microseconds, for the ages."""
    by_signal: dict[str, list[StoredReading]] = {}
    for reading in readings.stored:
        by_signal.setdefault(measured_signal(reading.signal), []).append(reading)
    for _, signal, _, _ in readings.quarantined:
        if signal in SIGNALS:
            by_signal.setdefault(signal, [])
    names = sorted(by_signal, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name))
    return [_signal_panel(name, by_signal[name], readings, span, words, terms, now) for name in names]


def _signal_panel(
    name: str,
    stored: Sequence[StoredReading],
    readings: Readings,
    span: Span,
    words: Words,
    terms: PatientTerms | None,
    now: int,
) -> Panel:
    counting = [each for each in stored if each.superseded_at is None]
    exact = [each for each in counting if each.signal not in BOUNDS]
    times = np.array([each.observed_at for each in exact], dtype=np.int64)
    values = np.array([each.value for each in exact], dtype=np.float64)
    measured = np.array([each.observed_at for each in counting], dtype=np.int64)  # a bound was measured, too
    latest = max(counting, key=lambda each: (each.observed_at, each.signal in BOUNDS), default=None)
    refused = [(at, value, reason) for at, signal, value, reason in readings.quarantined if signal == name]
    low, high = _usual(name, terms)
    limits = [] if terms is None or name not in terms.limits else [terms.limits[name].low, terms.limits[name].high]
    own_limits = [limit for limit in limits if limit is not None]
    scale = _scale(name, [*values.tolist(), *(each.value for each in stored), *own_limits], (low, high))
    marks = []
    for each in stored:
        if each.superseded_at is not None:
            kind = "retracted" if each.row in readings.retracted else "corrected"
            text = f"{words(f'mark.{kind}')} {_shown(each, words)}"
        elif each.signal in BOUNDS:
            kind, text = "bound", capitalise(_shown(each, words))
        else:
            continue
        marks.append(Mark(span.place(each.observed_at), scale.place(each.value), kind, text, each.observed_at))
    for at, value, reason in refused:
        shown = "" if np.isnan(value) else f" {words.value(name, value)}"
        y = 100.0 if np.isnan(value) else scale.place(value)
        marks.append(
            Mark(span.place(at), y, "quarantined", words("mark.quarantined") + shown + f": {words.quarantine(reason)}", at)
        )
    return Panel(
        label=words.label(name),
        name=words.signal(name),
        latest="" if latest is None else _shown(latest, words),
        latest_hours=None if latest is None else (now - latest.observed_at) / 3.6e9,
        is_step=SIGNALS[name].coded,
        bands=_bands(low, high, scale),
        lines=[(scale.place(limit), "limit") for limit in own_limits],
        gaps=[(span.place(start), span.place(end)) for start, end in find_gaps(measured, span.until)],
        breaks=[span.place(each.observed_at) for each in counting if each.signal in BOUNDS],
        marks=marks,
        labels=_labels(name, scale, words),
        points=[
            (span.place(int(times[row])), scale.place(float(values[row])), words.value(name, float(values[row])))
            for row in thin(times, values, span)
        ],
    )


def _usual(name: str, terms: PatientTerms | None) -> tuple[float, float]:
    """Return the usual range of a signal, NaN: it has none; of SpO2 by the scale that the patient needs."""
    if name == "spo2" and terms is not None and terms.spo2_scale == 2:
        return _USUAL_SPO2_SCALE_2
    return _USUAL.get(name, (np.nan, np.nan))


def _shown(reading: StoredReading, words: Words) -> str:
    """Return a value, or on which side of its limit a bound is, in words."""
    if reading.signal not in BOUNDS:
        return words.value(reading.signal, reading.value)
    bound = Bound(reading.signal, reading.value, reading.observed_at)
    return words.bound(bound.signal, bound.side, bound.limit)


def _scale(name: str, values: Sequence[float], usual: tuple[float, float]) -> Scale:
    if SIGNALS[name].coded:
        return Scale(SIGNALS[name].low - 0.3, SIGNALS[name].high + 0.3)
    known = [*values, *(edge for edge in usual if np.isfinite(edge))]
    return Scale.around(known or [SIGNALS[name].low, SIGNALS[name].high])


def _bands(low: float, high: float, scale: Scale) -> list[tuple[float, float, str]]:
    if np.isnan(low) or np.isnan(high):
        return []
    top, bottom = scale.place(min(high, scale.high)), scale.place(max(low, scale.low))
    return [(top, bottom, "usual")]


def _labels(name: str, scale: Scale, words: Words) -> list[tuple[float, str]]:
    """Return the values at the axis: the codes of a coded signal, else three round ones."""
    if SIGNALS[name].coded:
        values = np.arange(SIGNALS[name].low, SIGNALS[name].high + 1)
        return [(scale.place(float(value)), words.value(name, float(value))) for value in values[:5]]
    return [(scale.place(value), f"{value:g}") for value in round_values(scale)]


def round_values(scale: Scale, number: int = 3) -> list[float]:
    """Return a few round values of a scale.

    >>> round_values(Scale(0.0, 100.0)), round_values(Scale(36.1, 38.2))
    ([0.0, 50.0, 100.0], [37.0, 38.0])
    """
    span = scale.high - scale.low
    unit = 10.0 ** np.floor(np.log10(span / number))
    step = next(step * unit for step in (1, 2, 5, 10) if span / (step * unit) <= number)
    first = np.ceil(scale.low / step) * step
    return [round(float(value), 6) for value in np.arange(first, scale.high + step / 1e6, step)]


def risk_panels(
    points: Sequence[RiskPoint], alarms: Sequence[Alarm], span: Span, words: Words, threshold: float | None
) -> list[Panel]:
    """Return the charts of risk and NEWS2, with the alarms as marks."""
    known = [point for point in points if point.probability is not None]
    times = np.array([microsecond(point.index_time) for point in known], dtype=np.int64)
    values = np.array([100 * (point.probability or 0.0) for point in known], dtype=np.float64)
    gaps = {**_unasked(points, span.until), **dict(find_gaps(times, span.until))}
    present = points[-1].probability if points else None
    top = max([20.0, *values, 100 * (threshold or 0.0)])
    scale = Scale(0.0, 1.06 * top)
    panels = []
    if len(values):
        panels.append(
            Panel(
                label=words("patient.risk_axis"),
                name=words("patient.risk"),
                latest=words("patient.no_probability") if present is None else words.percent(present),
                lines=[] if threshold is None else [(scale.place(100 * threshold), "threshold")],
                gaps=[(span.place(start), span.place(end)) for start, end in sorted(gaps.items())],
                marks=_alarm_marks(alarms, span, words),
                labels=[(scale.place(value), f"{value:g}") for value in round_values(scale)],
                points=[
                    (span.place(int(times[row])), scale.place(float(values[row])), words.percent(float(values[row]) / 100))
                    for row in thin(times, values, span)
                ],
            )
        )
    return [*panels, *_news2_panel(points, [] if panels else alarms, span, words)]


def _unasked(points: Sequence[RiskPoint], until: int) -> dict[int, int]:
    """Return from when to when there was no probability: from the last one before to the next one, or to the present."""
    gaps: dict[int, int] = {}
    known = since = None
    for point in points:
        at = microsecond(point.index_time)
        if since is not None:
            gaps[since] = at
        if point.probability is not None:
            known, since = at, None
        elif since is None:
            since = at if known is None else known
    return gaps if since is None else gaps | {since: until}


def _news2_panel(points: Sequence[RiskPoint], alarms: Sequence[Alarm], span: Span, words: Words) -> list[Panel]:
    if not points:
        return []
    times = np.array([microsecond(point.index_time) for point in points], dtype=np.int64)
    values = np.array([point.news2 for point in points], dtype=np.float64)
    scale = Scale(0.0, max(10.0, float(values.max()) + 1))
    return [
        Panel(
            label="NEWS2",
            name="NEWS2",
            latest=f"{values[-1]:.0f}",
            is_step=True,
            bands=[(0.0, scale.place(6.5), "urgent"), (scale.place(6.5), scale.place(4.5), "attention")],
            gaps=[(span.place(start), span.place(end)) for start, end in find_gaps(times, span.until)],
            marks=_alarm_marks(alarms, span, words),
            labels=[(scale.place(value), f"{value:g}") for value in (0.0, 5.0, 7.0)],
            points=[
                (span.place(int(times[row])), scale.place(float(values[row])), f"NEWS2 {values[row]:.0f}")
                for row in thin(times, values, span)
            ],
        )
    ]


def _alarm_marks(alarms: Sequence[Alarm], span: Span, words: Words) -> list[Mark]:
    return [
        Mark(
            span.place(alarm.opened_at),
            0.0,
            "alarm",
            words("mark.alarm" if alarm.sounded else "mark.withheld"),
            alarm.opened_at,
        )
        for alarm in alarms
        if span.since <= alarm.opened_at <= span.until
    ]


def choose_span(now: datetime, hours: float, since: datetime | None, until: datetime | None) -> Span:
    """Return the time that a page shows: the last hours, or a time that was chosen, of at least ten minutes."""
    if since is None or until is None:
        end = int(now.timestamp() * 1e6)
        return Span(end - round(hours * 3.6e9), end)
    start, end = int(since.timestamp() * 1e6), int(until.timestamp() * 1e6)
    return Span(start, max(end, start + 600_000_000))
