"""Decides which signals stopped and which sources fell silent: from what arrived, the present, and what is known already.

A signal of a patient has *stopped* when it is overdue while another signal of the patient goes on. If everything of a patient
ceases that is no stopped signal, and if everything of a source ceases it is one event that names the source. So the source
comes first: no signal is called stopped before its source has sent something since.

Pure: no database and no clock. All times are microseconds, and the present is the server's; what goes on is told by
``recorded_at``, and how fast by the longer rhythm of both times (:mod:`vigil.features.rhythm`).
"""

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from vigil.features.declarations import Declarations
from vigil.features.rhythm import LEAST_US, MINUTE_US, MISSED, Rhythm, Turns, rhythm_of
from vigil.serving.records.journal_arrivals import Arrival
from vigil.serving.records.silence_rows import Cause, DeviceReport, Silence, SilenceChanges

SEVERAL: Final = 2  # patients: a source of one patient is no gateway; ours
# What a gateway stored comes back device by device: a signal is called stopped when the others have gone on for so long.
SETTLED_US: Final = MINUTE_US  # ours
SOURCE_LEAST_US: Final = 2 * MINUTE_US  # sooner no source is called silent; ours
# A signal that was not sent for a day is no part of how a patient is monitored: no feature of a score reaches further back.
FORGOTTEN_US: Final = 24 * 60 * MINUTE_US


class _Sender(NamedTuple):
    source: str | None
    device_id: str | None


@dataclass(slots=True)
class _Stream:
    """One signal of one subject as one device sends it.

    Attributes:
        last: when its last observation was recorded.
        goes_on_from: its silence is counted from here at the earliest.
        suspected_at: since when it has been overdue while others go on; None: it is not.
    """

    rhythm: Rhythm
    last: int
    goes_on_from: int = 0
    suspected_at: int | None = None

    @property
    def quiet_since(self) -> int:
        return max(self.last, self.goes_on_from)


@dataclass(slots=True)
class _Source:
    """A gateway: when it sent last, how often it sends, and whether it is silent."""

    last: int = 0
    turns: Turns = field(default_factory=Turns)
    is_silent: bool = False

    def silent_after(self) -> int:
        interval = self.turns.interval()
        return SOURCE_LEAST_US if interval is None else max(SOURCE_LEAST_US, MISSED * interval)


_Streams = dict[str, dict[_Sender, _Stream]]  # by signal


class SilenceWatch:
    """What is remembered of the signals of subjects, in memory; made of their observations again when the process starts."""

    def __init__(self, begins_at: int) -> None:
        """Watch from a time on: nothing is called overdue for a time in which no one watched."""
        self._begins_at = begins_at
        self._subjects: dict[str, _Streams] = {}
        self._sources: dict[str, _Source] = {}

    def knows(self, subject: str) -> bool:
        """Return whether a subject's past observations were taken in."""
        return subject in self._subjects

    def load(self, subject: str, past: Iterable[Arrival]) -> None:
        """Learn a subject's rhythms from their past observations."""
        by_stream: dict[tuple[str, _Sender], list[Arrival]] = {}
        for arrival in past:
            by_stream.setdefault((arrival.signal, _Sender(arrival.source, arrival.device_id)), []).append(arrival)
        streams: _Streams = {}
        for (signal, sender), arrivals in by_stream.items():
            rhythm = rhythm_of((arrival.observed_at, arrival.recorded_at) for arrival in arrivals)
            last = max(arrival.recorded_at for arrival in arrivals)
            streams.setdefault(signal, {})[sender] = _Stream(rhythm, last, self._begins_at)
            if sender.source is not None:
                source = self._sources.setdefault(sender.source, _Source())
                source.last = max(source.last, last)
        self._subjects[subject] = streams

    def forget(self, subjects: Iterable[str]) -> None:
        """Forget subjects, so that they are loaded again when they are needed."""
        for subject in list(subjects):
            self._subjects.pop(subject, None)

    def keep(self, subjects: Collection[str]) -> None:
        """Forget all subjects but some."""
        self.forget(self._subjects.keys() - set(subjects))

    def take(self, arrivals: Sequence[Arrival]) -> None:
        """Take in new observations, in the order in which they were recorded. Those of subjects that are not loaded wait."""
        for arrival in arrivals:
            if arrival.source is not None:
                self._take_of_source(arrival.source, arrival.recorded_at)
            streams = self._subjects.get(arrival.subject_id)
            if streams is None:
                continue
            senders = streams.setdefault(arrival.signal, {})
            sender = _Sender(arrival.source, arrival.device_id)
            stream = senders.get(sender)
            if stream is None:
                stream = senders[sender] = _Stream(Rhythm(), arrival.recorded_at)
            stream.rhythm.add(arrival.observed_at, arrival.recorded_at)
            stream.last = max(stream.last, arrival.recorded_at)
            stream.suspected_at = None

    def _take_of_source(self, name: str, at: int) -> None:
        source = self._sources.setdefault(name, _Source())
        if source.is_silent:
            source.is_silent = False
            self._grant_time(name, None, at)
        source.last = max(source.last, at)
        source.turns.add(at)

    def _grant_time(self, name: str, device_id: str | None, at: int, subjects: Collection[str] | None = None) -> None:
        """Count the silence of everything behind a source, or of one of its devices, from its return on."""
        for subject, streams in self._subjects.items():
            if subjects is not None and subject not in subjects:
                continue
            for senders in streams.values():
                for sender, stream in senders.items():
                    if sender.source == name and device_id in (None, sender.device_id):
                        stream.goes_on_from, stream.suspected_at = at, None

    def look(
        self,
        now: int,
        wards: Mapping[str, str],
        known: Sequence[Silence],
        reports: Sequence[DeviceReport],
        declared: Declarations,
    ) -> SilenceChanges:
        """Return what changed.

        Args:
            now: the present.
            wards: of the subjects that are followed.
            known: silences that have not ended.
            reports: the last ones of devices and gateways.
            declared: what sources declare.
        """
        last = self._last_of_devices() if reports else {}
        settled = [own for own in reports if own.status == "connected" or last.get((own.source, own.device_id), 0) > own.at]
        look = _Look(self._subjects, self._sources, now, wards, reports, declared)
        ended = [
            own
            for own in known
            if (own.subject_id is not None and own.subject_id not in wards) or now - own.since > FORGOTTEN_US
        ]
        returned = [own for own in known if own not in ended and look.has_returned(own)]
        for report in settled:
            if report.status == "connected":
                allowed = {subject for subject, ward in wards.items() if report.speaks_for(ward)}
                self._grant_time(report.source, report.device_id, now, allowed)
        standing = [report for report in reports if report not in settled]
        look = _Look(self._subjects, self._sources, now, wards, standing, declared)
        known_places = {own.place for own in known if own not in ended and own not in returned}
        raised = [own for own in look.silences() if own.place not in known_places]
        return SilenceChanges(tuple(raised), tuple(returned), tuple(ended), tuple(settled))

    def _last_of_devices(self) -> dict[tuple[str | None, str | None], int]:
        """Return when each device sent last, and, without a device, each source."""
        found: dict[tuple[str | None, str | None], int] = {}
        for streams in self._subjects.values():
            for senders in streams.values():
                for sender, stream in senders.items():
                    device = (sender.source, sender.device_id)
                    found[device] = max(stream.last, found.get(device, 0))
        return found | {(name, None): source.last for name, source in self._sources.items()}


class _Look:
    """One look at everything that is remembered."""

    def __init__(
        self,
        subjects: Mapping[str, _Streams],
        sources: Mapping[str, _Source],
        now: int,
        wards: Mapping[str, str],
        reports: Sequence[DeviceReport],
        declared: Declarations,
    ) -> None:
        self._subjects = {subject: streams for subject, streams in subjects.items() if subject in wards}
        self._sources = sources
        self._now = now
        self._wards = wards
        self._reports: dict[tuple[str, str | None], list[DeviceReport]] = {}
        for report in reports:
            self._reports.setdefault((report.source, report.device_id), []).append(report)
        self._declared = declared
        self._served: dict[str, dict[str, bool]] = {}
        self._silent: dict[str, tuple[Cause, set[str]]] = {}

    def silences(self) -> list[Silence]:
        """Return what is silent now: first the sources, since of a silent source no signal is told."""
        self._served = self._find_served()
        self._silent = self._find_silent_sources()
        return [*self._silent_sources(), *self._stopped_signals()]

    def _silent_sources(self) -> list[Silence]:
        """Return a silence for each ward of each source that is silent now."""
        found = []
        for name, (cause, wards) in self._silent.items():
            source = self._sources[name]
            source.is_silent = True
            found += [self._silence(ward, cause, source.last, source.silent_after(), name) for ward in sorted(wards)]
        return found

    def _stopped_signals(self) -> list[Silence]:
        """Return a silence for each signal that has stopped; of a source that is silent there is none."""
        found = (
            self._find_stopped(subject, signal, senders)
            for subject, streams in self._subjects.items()
            for signal, senders in streams.items()
        )
        return [silence for silence in found if silence is not None]

    def has_returned(self, silence: Silence) -> bool:
        """Return whether a silence has ended: by a new observation, or by a report."""
        if silence.source is not None and silence.cause == "disconnected":
            reports = self._reports.get((silence.source, silence.device_id), ())
            ward = self._wards.get(silence.subject_id or "", silence.ward)
            own_reports = (report for report in reports if report.status == "connected" and report.speaks_for(ward))
            if any(report.at > silence.raised_at for report in own_reports):
                return True
        if silence.subject_id is None:
            source = self._sources.get(silence.source or "")
            return source is not None and source.last > silence.since
        signal = silence.signal or ""
        senders = self._subjects.get(silence.subject_id, {}).get(signal, {})
        own = senders.get(_Sender(silence.source, silence.device_id))
        if own is not None and own.last > silence.since:
            return True
        # Another device has taken over, if it sends about as often. A nurse's chart does not take over from a monitor.
        as_often = 2 * silence.overdue_after
        return any(
            (after := self._overdue_after(signal, sender, stream)) is not None
            and after <= as_often
            and self._now - stream.last <= after
            for sender, stream in senders.items()
            if stream is not own
        )

    def _find_stopped(self, subject: str, signal: str, senders: Mapping[_Sender, _Stream]) -> Silence | None:
        after: int | None
        ward, (sender, stream) = self._wards[subject], _latest(senders)
        quiet = self._now - stream.quiet_since
        if quiet > FORGOTTEN_US or (sender.source in self._silent and ward in self._silent[sender.source][1]):
            stream.suspected_at = None
            return None
        if self._is_reported(sender, ward) and not self._has_another(signal, senders, sender):
            after = self._overdue_after(signal, sender, stream) or LEAST_US
            return self._silence(ward, "disconnected", stream.last, after, *sender, subject, signal)
        if quiet <= MINUTE_US:
            return None
        # The fastest sender tells how soon the signal is overdue: a value of a chart does not excuse a monitor that ceased.
        sender, stream, after = self._fastest(signal, senders)
        if after is None or quiet <= after or not self._go_on(subject, signal, sender, stream.quiet_since + after // 2):
            stream.suspected_at = None
            return None
        if stream.suspected_at is None:
            stream.suspected_at = self._now
        if self._now - stream.suspected_at < SETTLED_US:
            return None
        return self._silence(ward, "overdue", stream.last, after, *sender, subject, signal)

    def _fastest(self, signal: str, senders: Mapping[_Sender, _Stream]) -> tuple[_Sender, _Stream, int | None]:
        """Return the sender of a signal that is overdue soonest after its last observation, among those of the last day."""
        limits = {
            sender: after
            for sender, stream in senders.items()
            if self._now - stream.last <= FORGOTTEN_US and (after := self._overdue_after(signal, sender, stream)) is not None
        }
        if not limits:
            return *_latest(senders), None
        sender = min(limits, key=lambda own: (limits[own], -senders[own].last))
        return sender, senders[sender], limits[sender]

    def _has_another(self, signal: str, senders: Mapping[_Sender, _Stream], sender: _Sender) -> bool:
        """Return whether another device sends a signal, too, and is not overdue."""
        return any(
            (after := self._overdue_after(signal, other, stream)) is not None and self._now - stream.quiet_since <= after
            for other, stream in senders.items()
            if other != sender
        )

    def _go_on(self, subject: str, signal: str, sender: _Sender, since: int) -> bool:
        """Return whether another signal of the subject was recorded after a time, and the gateway itself has sent since."""
        others = (stream for name, senders in self._subjects[subject].items() if name != signal for stream in senders.values())
        if not any(stream.last > since for stream in others):
            return False
        is_gateway = sender.source is not None and len(self._served.get(sender.source, ())) >= SEVERAL
        return not is_gateway or self._sources[sender.source or ""].last > since

    def _find_served(self) -> dict[str, dict[str, bool]]:
        """Return by source the subjects of which it sent a signal last, and whether one of these signals is overdue."""
        served: dict[str, dict[str, bool]] = {}
        for subject, streams in self._subjects.items():
            for signal, senders in streams.items():
                sender, stream = _latest(senders)
                if sender.source is None or (quiet := self._now - stream.quiet_since) > FORGOTTEN_US:
                    continue
                own = served.setdefault(sender.source, {})
                is_overdue = own.get(subject, False)
                if not is_overdue and quiet > MINUTE_US:
                    after = self._overdue_after(signal, sender, stream)
                    is_overdue = after is not None and quiet > after
                own[subject] = is_overdue
        return served

    def _find_silent_sources(self) -> dict[str, tuple[Cause, set[str]]]:
        """Return the sources that are silent, with the wards of the subjects that they served."""
        found: dict[str, tuple[Cause, set[str]]] = {}
        for name, served in self._served.items():
            reported = {ward for subject in served if self._is_reported(_Sender(name, None), ward := self._wards[subject])}
            source = self._sources[name]
            if reported:
                found[name] = ("disconnected", reported)
            elif self._now - source.last > source.silent_after() and sum(served.values()) >= SEVERAL:
                found[name] = ("overdue", {self._wards[subject] for subject in served})
        return found

    def _overdue_after(self, signal: str, sender: _Sender, stream: _Stream) -> int | None:
        minutes = self._declared.of(sender.source).stopped_after_minutes.get(signal)
        return stream.rhythm.overdue_after(None if minutes is None else round(minutes * MINUTE_US))

    def _is_reported(self, sender: _Sender, ward: str) -> bool:
        """Return whether a device is reported as disconnected by one who may see a ward; without a device its gateway."""
        if sender.source is None:
            return False
        reports = self._reports.get((sender.source, sender.device_id), ())
        return any(report.status == "disconnected" and report.speaks_for(ward) for report in reports)

    def _silence(
        self,
        ward: str,
        cause: Cause,
        since: int,
        after: int,
        source: str | None,
        device_id: str | None = None,
        subject: str | None = None,
        signal: str | None = None,
    ) -> Silence:
        return Silence(str(uuid.uuid4()), ward, subject, signal, source, device_id, since, after, cause, self._now)


def _latest(senders: Mapping[_Sender, _Stream]) -> tuple[_Sender, _Stream]:
    """Return the sender that sent last, and what it sends."""
    if len(senders) == 1:
        return next(iter(senders.items()))
    return max(senders.items(), key=lambda item: item[1].last)
