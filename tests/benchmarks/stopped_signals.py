"""Stopped signals on the simulated ward: how many are named although nothing failed, and how soon a cut signal is named."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from features.declarations import UNDECLARED
from features.rhythm import MINUTE_US
from pipelines.sources import Batch
from pipelines.sources.simulated import SimulatedWard, devices
from serving.records.journal_arrivals import Arrival
from serving.records.silence_rows import Silence
from serving.stream.silence_watch import FORGOTTEN_US, SilenceWatch

PATIENTS: Final = 100
LOOK_US: Final = MINUTE_US // 2
_QUIET: Final = devices.Bouts(per_day=0.0, median_minutes=1, longest_minutes=1)


@dataclass(frozen=True)
class Cut:
    """A signal of a subject that is cut at a time; None: all that a source sends."""

    subject: str | None
    signal: str | None
    source: str | None
    at: int


@dataclass(frozen=True)
class Replay:
    """What a replay found: silences, and patient-days with a device."""

    silences: list[Silence]
    returned: Counter[str]
    patient_days: float


def microseconds(times: "pd.Series[pd.Timestamp]") -> list[int]:
    return times.to_numpy("datetime64[us]").astype(np.int64).tolist()


def arrivals_of(batch: Batch) -> list[Arrival]:
    """Return what the journal of a server would hold: originals, each once, in the order of arrival."""
    rows = batch.observations
    rows = rows[(rows["version"] == 1) & (rows["status"] == "final")].drop_duplicates(["message_id", "subject_id", "signal"])
    names = ("subject_id", "signal", "source", "device_id")
    columns = [rows[name].astype(object).tolist() for name in names]
    return [
        Arrival(*row)
        for row in zip(*columns, microseconds(rows["observed_at"]), microseconds(rows["recorded_at"]), strict=True)
    ]


def replay(batch: Batch, cuts: Sequence[Cut] = ()) -> Replay:
    """Watch a batch as if it were live; without what is cut from its time on."""
    by_place = {(cut.subject, cut.signal): cut.at for cut in cuts if cut.subject is not None}
    by_source = {cut.source: cut.at for cut in cuts if cut.source is not None}
    arrivals = [
        own
        for own in arrivals_of(batch)
        if own.recorded_at < min(by_place.get((own.subject_id, own.signal), 1 << 62), by_source.get(own.source, 1 << 62))
    ]
    stays = batch.stays
    spans = list(zip(stays["subject_id"].tolist(), microseconds(stays["start"]), microseconds(stays["end"]), strict=True))
    watch = SilenceWatch(0)
    known: dict[str, Silence] = {}
    found: list[Silence] = []
    returned: Counter[str] = Counter()
    position = 0
    for now in range(min(start for _, start, _ in spans), max(end for _, _, end in spans), LOOK_US):
        wards = {subject: "A" for subject, start, end in spans if start <= now < end}
        if not wards:
            while position < len(arrivals) and arrivals[position].recorded_at <= now:
                position += 1
            continue
        watch.keep(wards)
        for subject in wards:
            if not watch.knows(subject):
                watch.load(subject, ())
        begin = position
        while position < len(arrivals) and arrivals[position].recorded_at <= now:
            position += 1
        watch.take(arrivals[begin:position])
        changes = watch.look(now, wards, list(known.values()), (), UNDECLARED)
        for silence in (*changes.returned, *changes.ended):
            known.pop(silence.silence_id)
        returned.update(silence.signal or "source" for silence in changes.returned)
        known |= {silence.silence_id: silence for silence in changes.raised}
        found += changes.raised
    days = sum(end - start for _, start, end in spans) / FORGOTTEN_US
    return Replay(found, returned, days)


def simulated(*, gaps: bool, patients: int = PATIENTS) -> Batch:
    """Return a simulated ward; without gaps no device is taken off, and no connection lost."""
    before = devices.DROPOUTS, devices.OUTAGES
    try:
        if not gaps:
            devices.DROPOUTS, devices.OUTAGES = _QUIET, _QUIET  # type: ignore[misc]
        (batch,) = SimulatedWard(patients=patients, patients_per_batch=patients).batches()
    finally:
        devices.DROPOUTS, devices.OUTAGES = before  # type: ignore[misc]
    return batch
