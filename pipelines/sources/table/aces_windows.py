"""Realisations of the windows of an ACES task (:mod:`vigil.pipelines.sources.table.aces`) over the events of patients."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vigil.features.observations import TIME
from vigil.pipelines.sources import SourceError
from vigil.pipelines.sources.table.aces import ANY_EVENT, RECORD_END, RECORD_START, AcesTask, Boundary, Predicate, Window

Int64 = NDArray[np.int64]

COLUMNS: Final = ("patient", "trigger", "asked_at", "label", "onset")
NONE: Final = np.iinfo(np.int64).min  # a time that does not exist; as pandas stores NaT


def realise(task: AcesTask, events: pd.DataFrame) -> pd.DataFrame:
    """Return the realisations of a task.

    Args:
        task: the windows.
        events: ``patient, time`` (UTC; NaT: a fact of the patient), ``code`` and ``value``, in any order.

    Returns:
        A row a realisation, by patient and trigger: ``patient, trigger, asked_at``, ``label`` (number of events in the window
        with the label) and ``onset`` (the first of them; NaT: none).

    Raises:
        SourceError: a window with the label begins before the question is asked.
    """
    counted = _count(task, events)
    parts = [_realise_patient(task, patient, own) for patient, own in counted.groupby("patient", sort=True)]
    if not parts:
        return pd.DataFrame({name: pd.Series(dtype=TIME if name != "patient" else "string") for name in COLUMNS})
    rows = pd.concat(parts, ignore_index=True)
    if (rows.pop("labelled_from") < rows["asked_at"]).any():
        raise SourceError(
            f"windows.{task.labelled}: it begins before the question is asked ({task.index_window}."
            f"{task.windows[task.index_window].index_timestamp}), so its label would be known; expected a window after it"
        )
    return rows


def _count(task: AcesTask, events: pd.DataFrame) -> pd.DataFrame:
    """Return how many events of each predicate there are at each time of each patient who has the demographics."""
    codes = events["code"].astype("category")
    static = events["time"].isna()
    plain = {name: _matches(predicate, codes, events["value"]) for name, predicate in task.predicates.items() if predicate.code}
    is_wanted = pd.Series(data=True, index=events.index)
    for predicate in task.patient_demographics.values():
        with_it = events.loc[static & _matches(predicate, codes, events["value"]), "patient"]
        is_wanted &= events["patient"].isin(with_it)
    kept = is_wanted & ~static
    rows = pd.DataFrame({"patient": events["patient"], "time": events["time"], **plain})[kept]
    counted = rows.groupby(["patient", "time"], sort=True, observed=True).sum().astype(np.int64)
    while missing := [name for name in task.predicates if name not in counted]:
        for name in missing:
            predicate = task.predicates[name]
            if set(predicate.parts) <= set(counted):
                present = counted[list(predicate.parts)] > 0
                counted[name] = (present.all(axis=1) if predicate.needs_all else present.any(axis=1)).astype(np.int64)
    return counted.reset_index()


def _matches(predicate: Predicate, codes: "pd.Series[Any]", values: "pd.Series[float]") -> "pd.Series[bool]":
    names = pd.Series(codes.cat.categories.astype(str))
    if predicate.code is None:
        raise SourceError("patient_demographics: expected code, not expr")
    if isinstance(predicate.code, str):
        is_meant = names == predicate.code
    elif predicate.code.any is not None:
        is_meant = names.isin(predicate.code.any)
    else:
        is_meant = names.str.contains(str(predicate.code.regex), regex=True)
    matches = pd.Series(is_meant.to_numpy(bool)[codes.cat.codes] & (codes.cat.codes >= 0), index=codes.index)
    if predicate.value_min is not None:
        matches &= values >= predicate.value_min if predicate.value_min_inclusive else values > predicate.value_min
    if predicate.value_max is not None:
        matches &= values <= predicate.value_max if predicate.value_max_inclusive else values < predicate.value_max
    return matches


class _Record:
    """The events of one patient: ascending times, and the number of events of each predicate at each of them."""

    def __init__(self, rows: pd.DataFrame) -> None:
        self.times = rows["time"].to_numpy("datetime64[us]").astype(np.int64)
        position = np.arange(len(rows))
        special = {ANY_EVENT: position >= 0, RECORD_START: position == 0, RECORD_END: position == len(rows) - 1}
        counts = {name: rows[name].to_numpy(np.int64) for name in rows.columns.difference(["patient", "time"])}
        self.counts: Mapping[str, Int64] = counts | {name: own.astype(np.int64) for name, own in special.items()}

    def count(self, predicate: str, window: Window, start: Int64, end: Int64) -> Int64:
        """Return the number of events between starts and ends."""
        total = np.concatenate([[0], np.cumsum(self.counts[predicate])])
        first, last = self._range(window, start, end)
        return np.asarray(total[np.maximum(first, last)] - total[first])

    def first(self, predicate: str, window: Window, start: Int64, end: Int64) -> Int64:
        """Return the time of the first event between starts and ends; :data:`NONE`: there is none."""
        at = self.times[self.counts[predicate] > 0]
        if not len(at):
            return np.full(len(start), NONE)
        found = np.searchsorted(at, start, "left" if window.start_inclusive else "right")
        times = at[np.minimum(found, len(at) - 1)]
        is_in = (found < len(at)) & ((times <= end) if window.end_inclusive else (times < end))
        return np.where(is_in, times, NONE)

    def _range(self, window: Window, start: Int64, end: Int64) -> tuple[Int64, Int64]:
        first = np.searchsorted(self.times, start, "left" if window.start_inclusive else "right")
        return first, np.searchsorted(self.times, end, "right" if window.end_inclusive else "left")

    def move(self, boundary: Boundary, reference: Int64, *, may_stay: bool) -> Int64:
        """Return where a boundary lies, from where its reference lies.

        Args:
            boundary: of a window.
            reference: times; those that do not exist have none that depend on them.
            may_stay: whether the event may be at the time of the reference itself.
        """
        exists = reference != NONE
        if boundary.event is None:
            return np.where(exists, reference + int(boundary.offset.total_seconds() * 1_000_000), NONE)
        at = self.times[self.counts[boundary.event] > 0]
        if not len(at):
            return np.full(len(reference), NONE)
        if boundary.is_before:
            found = np.searchsorted(at, reference, "right" if may_stay else "left") - 1
        else:
            found = np.searchsorted(at, reference, "left" if may_stay else "right")
        is_there = exists & (found >= 0) & (found < len(at))
        return np.where(is_there, at[np.clip(found, 0, len(at) - 1)], NONE)


def _realise_patient(task: AcesTask, patient: Any, rows: pd.DataFrame) -> pd.DataFrame:
    record = _Record(rows)
    trigger = record.times[record.counts[task.trigger] > 0]
    at = {"trigger": trigger}
    is_valid = np.full(len(trigger), fill_value=True)
    for name in task.in_order():
        window = task.windows[name]
        for side, boundary in _sides(window):
            is_inner = boundary.reference in {"start", "end"}
            reference = f"{name}.{boundary.reference}" if is_inner else boundary.reference
            # Only a boundary that depends on the other one of its window may be an event at the very time of it.
            may_stay = is_inner and (window.start_inclusive if side == "end" else window.end_inclusive)
            at[f"{name}.{side}"] = record.move(boundary, at[reference], may_stay=may_stay)
        start, end = at[f"{name}.start"], at[f"{name}.end"]
        is_valid &= (start != NONE) & (end != NONE)
        for predicate, (least, most) in window.has.items():
            number = record.count(ANY_EVENT if predicate == "*" else predicate, window, start, end)
            is_valid &= (number >= (least or 0)) & (number <= (np.inf if most is None else most))
    window = task.windows[task.labelled]
    start, end = at[f"{task.labelled}.start"], at[f"{task.labelled}.end"]
    index = task.windows[task.index_window].index_timestamp
    table = {
        "trigger": _times(trigger),
        "asked_at": _times(at[f"{task.index_window}.{index}"]),
        "label": record.count(task.label, window, start, end),
        "onset": _times(record.first(task.label, window, start, end)),
        "labelled_from": _times(start),
    }
    realised = pd.DataFrame(table)[is_valid]
    realised.insert(0, "patient", patient)
    return realised


def _sides(window: Window) -> Iterator[tuple[str, Boundary]]:
    """Yield the boundaries of a window, the one that depends on the other last."""
    sides = list(zip(("start", "end"), window.boundaries, strict=True))
    yield from sides if window.anchor == "start" else reversed(sides)


def _times(microseconds: Int64) -> "pd.Series[pd.Timestamp]":
    return pd.Series(microseconds.astype("datetime64[us]")).dt.tz_localize("UTC")
