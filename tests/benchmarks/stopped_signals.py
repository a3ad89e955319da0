"""Stopped signals on the simulated ward: how many are named although nothing failed, and how soon a cut signal is named."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from tests.benchmarks.measure import Section
from vigil.features.declarations import UNDECLARED
from vigil.features.rhythm import MINUTE_US
from vigil.pipelines.sources import Batch
from vigil.pipelines.sources.simulated import SimulatedWard, devices
from vigil.serving.records.journal_arrivals import Arrival
from vigil.serving.records.silence_rows import Silence
from vigil.serving.stream.silence_watch import FORGOTTEN_US, SilenceWatch

PATIENTS: Final = 60
_CUT_SIGNALS: Final = ("spo2", "systolic_bp", "body_temperature", "glucose")
_LEAST_BEFORE_US, _LEAST_AFTER_US = 6 * 60 * MINUTE_US, 3 * 60 * MINUTE_US  # of a cut within a stay
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


def draw_cuts(batch: Batch, seed: int = 1) -> list[Cut]:
    """Return one signal of each patient with a device that measures it by itself, and when to cut it, hours into the stay."""
    rng = np.random.default_rng(seed)
    stays, rows = batch.stays, batch.observations
    own = rows[rows["device_id"].astype(str).str.match("wearable|cuff|patch|cgm")].groupby("subject_id", observed=True)
    measured = {subject: sorted(set(frame["signal"].astype(str)) & {*_CUT_SIGNALS}) for subject, frame in own}
    cuts = []
    for subject, start, end in zip(stays["subject_id"], microseconds(stays["start"]), microseconds(stays["end"]), strict=True):
        first, last = start + _LEAST_BEFORE_US, end - _LEAST_AFTER_US
        if first < last and measured.get(subject):
            cuts.append(Cut(subject, str(rng.choice(measured[subject])), None, int(rng.integers(first, last))))
    return cuts


def delays(found: Replay, cuts: Sequence[Cut]) -> dict[str, list[float | None]]:
    """Return by signal after how many minutes each cut was named; None: never. Signals that had stopped before do not count."""
    minutes: dict[str, list[float | None]] = {}
    for cut in cuts:
        own = [one for one in found.silences if (one.subject_id, one.signal) == (cut.subject, cut.signal)]
        named = [one for one in own if one.raised_at >= cut.at]
        if named or not own:
            minutes.setdefault(cut.signal or "", []).append((named[0].raised_at - cut.at) / MINUTE_US if named else None)
    return minutes


def dying_gateway(batch: Batch) -> Cut:
    """Return the moment at which a gateway serves the most patients, as its end."""
    rows = batch.observations
    hours = rows["recorded_at"].dt.floor("h")
    busiest = rows.groupby([hours, rows["source"]], observed=True)["subject_id"].nunique().idxmax()
    return Cut(None, None, str(busiest[1]), int(busiest[0].value // 1000) + 59 * MINUTE_US)


def stopped_signals_section() -> Section:
    """Measure the simulated ward without and with the gaps that it usually has."""
    lines, gateway = [], ""
    for name, gaps in (("nothing fails", False), ("devices taken off, connections lost", True)):
        batch = simulated(gaps=gaps)
        quiet, cuts = replay(batch), draw_cuts(batch)
        told = sum(one.subject_id is not None for one in quiet.silences)
        minutes = delays(replay(batch, cuts), cuts)
        cells = []
        for signal in _CUT_SIGNALS:
            after = [own for own in minutes.get(signal, ()) if own is not None]
            number = len(minutes.get(signal, ()))
            shown = f"{np.median(after):.0f} ({min(after):.0f}-{max(after):.0f})" if after else "-"
            cells.append(f"{shown}, {len(after)} of {number}")
        lines.append([name, f"{told / quiet.patient_days:.2f}", *cells])
        if not gaps:
            cut = dying_gateway(batch)
            after = [one for one in replay(batch, [cut]).silences if one.raised_at >= cut.at]
            sources = sum(one.subject_id is None for one in after)
            gateway = (
                f"A gateway that dies in the first ward: {sources} event names it, {len(after) - sources} name its signals."
            )
    return Section(
        "Stopped signals",
        f"{PATIENTS} patients of the simulated ward, watched from admission to discharge: how many stopped signals a "
        "patient-day has, and after how many minutes a signal that is cut for good is named (median, range, how many of "
        "them). In the second ward each device is taken off three times a day, for 20 minutes in the median, and the "
        "connection of a patient is lost 0.7 times a day: each such gap is of one to three signals, and real. A cut within "
        f"a gap that was named before does not count. {gateway}",
        ["ward", "events a patient-day", *(f"{signal}, cut" for signal in _CUT_SIGNALS)],
        lines,
    )
