"""Observations as callers read them: those that clients sent, by the id that they got, and all other readings one by one.

A reading that a client sent as a part of an Observation appears in that Observation, with all that it says and counts.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from vigil.features.codes import LOINC, MDC, SATURATION, resolve_codes
from vigil.features.signals import SIGNALS, signal_with_bounds
from vigil.serving.auth.tokens import Caller
from vigil.serving.fhir.chart import Chart
from vigil.serving.fhir.concepts import CODES_OF, PANELS
from vigil.serving.fhir.outcomes import FhirError
from vigil.serving.fhir.readings import category_of, of_reading, of_sent
from vigil.serving.fhir.search import Search
from vigil.serving.fhir.sent_readings import SLACK, find_sent, readings_of, several
from vigil.serving.records.fhir_observations import FhirObservations, SentResource
from vigil.serving.records.journal_readings import ALWAYS, StoredReading, Wanted
from vigil.serving.records.journal_snapshot import JournalSnapshot


class _Found(NamedTuple):
    """An Observation: one that a client sent, with those of its readings that count; or one reading (``sent``: None)."""

    sent: SentResource | None
    readings: Sequence[StoredReading]

    @property
    def subject(self) -> str:
        return self.readings[0].subject_id if self.sent is None else self.sent.subject_id

    @property
    def is_deleted(self) -> bool:
        return self.sent is not None and self.sent.deleted

    @property
    def updated_at(self) -> int:
        times = [reading.superseded_at or reading.recorded_at for reading in self.readings]
        return max(times) if self.sent is None else max(times, default=self.sent.updated_at)

    def place(self, *, by_time: bool) -> tuple[int, ...]:
        """Return what Observations are ordered by; what no longer counts comes first."""
        row = min((reading.row for reading in self.readings), default=0)
        return (min((reading.observed_at for reading in self.readings), default=0), row) if by_time else (row,)


class ObservationPages:
    """The Observations of one home."""

    def __init__(self, chart: Chart, observations: FhirObservations) -> None:
        self._chart, self._observations = chart, observations

    def read(self, identity: str, caller: Caller) -> dict[str, Any] | None:
        """Return an Observation by its id; None: there is none that the caller may see.

        Raises:
            FhirError: a client deleted it (410).
        """
        found = self._find(identity, caller)
        if found is not None and found.is_deleted:
            raise FhirError(410, "id: this Observation was deleted")
        return None if found is None else self._of(found)

    def search(self, search: Search, caller: Caller) -> tuple[list[dict[str, Any]], str | None]:
        """Return a page of the Observations that count, and where the next one begins; None: there is none.

        Raises:
            FhirError: the search names neither patient nor ids (400).
        """
        after = None if search.after is None else self._chart.directory.ids.row(search.after)
        if search.after is not None and after is None:
            return [], None
        if search.ids is not None:
            return self._search_ids(search, search.ids, caller, after or 0)
        subject = search.require_patient()
        if subject is None:
            return [], None
        with self._chart.journal.snapshot() as journal:
            wanted = Wanted(
                journal.keys(subject),
                signals_of(search),
                search.time("date"),
                search.time("_lastUpdated"),
                by_time=search.sort.removeprefix("-") == "date",
                newest_first=search.sort.startswith("-"),
            )
            rows = journal.readings(wanted, after, search.count + 1)
            page = rows[: search.count]
            resources = self._resources(journal, page, wanted)
        return resources, self._chart.directory.ids.of_row(page[-1].row) if len(rows) > len(page) else None

    def _search_ids(
        self, search: Search, ids: Iterable[str], caller: Caller, done: int
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Return a page of the Observations that have some ids and what else is asked for, after those that are done."""
        signals = signals_of(search)
        found = [each for each in (self._find(identity, caller) for identity in dict.fromkeys(ids)) if each is not None]
        found = [each for each in found if not each.is_deleted and self._is_asked(each, search, signals)]
        by_time = search.sort.removeprefix("-") == "date"
        found.sort(key=lambda each: each.place(by_time=by_time), reverse=search.sort.startswith("-"))
        end = done + search.count
        following = self._chart.directory.ids.of_row(end) if len(found) > end else None
        return [self._of(each) for each in found[done:end]], following

    def _find(self, identity: str, caller: Caller) -> _Found | None:
        """Return what an id stands for; None: nothing that the caller may see."""
        sent = self._observations.find([identity]).get(identity)
        with self._chart.journal.snapshot() as journal:
            if sent is None:
                row = self._chart.directory.ids.row(identity)
                rows = journal.rows([row]) if row is not None else []
                is_seen = rows and self._chart.may_see(caller, rows[0].subject_id)
                return _Found(None, rows) if is_seen else None
            if not self._chart.may_see(caller, sent.subject_id):
                return None
            return _Found(sent, self._readings_of(journal, [sent])[sent.id])

    def _is_asked(self, found: _Found, search: Search, signals: Sequence[str] | None) -> bool:
        """Return whether a search asks for an Observation, by all that it says beside the id."""
        if search.patient is not None and self._chart.survivor(found.subject) != search.subject:
            return False
        recorded, observed = search.time("_lastUpdated"), search.time("date")
        if not recorded.since <= found.updated_at <= recorded.until:
            return False
        return (signals is None and observed == ALWAYS) or any(
            (signals is None or reading.signal in signals) and observed.since <= reading.observed_at <= observed.until
            for reading in found.readings
        )

    def _of(self, found: _Found) -> dict[str, Any]:
        return self._of_row(found.readings[0]) if found.sent is None else self._of_sent(found.sent, found.readings)

    def _resources(self, journal: JournalSnapshot, page: Sequence[StoredReading], wanted: Wanted) -> list[dict[str, Any]]:
        """Return what a page of readings is, in its order: an Observation of several of them where the first of these is."""
        if not page:
            return []
        since = min(reading.recorded_at for reading in page) - SLACK
        own = find_sent(page, self._observations.of_subjects({reading.subject_id for reading in page}, since))
        whole = self._readings_of(journal, several(own))
        resources = []
        for reading in page:
            said_in = own.get(reading.row)
            if said_in is None:
                resources.append(self._of_row(reading))
                continue
            readings = whole.get(said_in.id, [reading])
            if reading.row == _first(readings, wanted):
                resources.append(self._of_sent(said_in, readings))
        return resources

    @staticmethod
    def _readings_of(journal: JournalSnapshot, resources: Sequence[SentResource]) -> dict[str, list[StoredReading]]:
        """Return the readings that count of Observations that clients sent, in the order in which each says them."""
        keys = sorted({sent.subject_id for sent in resources})
        times = sorted({at for sent in resources for _, _, at in sent.readings if at is not None})
        return readings_of(resources, journal.readings_at(keys, times) if times else [])

    def _of_row(self, reading: StoredReading) -> dict[str, Any]:
        return of_reading(self._chart.directory.ids.of_row(reading.row), reading, self._reference(reading.subject_id))

    def _of_sent(self, sent: SentResource, readings: Sequence[StoredReading]) -> dict[str, Any]:
        return of_sent(sent, readings, self._reference(sent.subject_id))

    def _reference(self, subject: str) -> str:
        return self._chart.directory.reference(self._chart.survivor(subject))


def _first(readings: Sequence[StoredReading], wanted: Wanted) -> int:
    """Return the row at which an Observation of several readings appears: the first of those that were asked for."""
    asked = [
        reading
        for reading in readings
        if (wanted.signals is None or reading.signal in wanted.signals)
        and wanted.recorded.since <= reading.recorded_at <= wanted.recorded.until
    ]
    rows = [reading.row for reading in asked]
    return max(rows) if wanted.newest_first else min(rows)


def signals_of(search: Search) -> list[str] | None:
    """Return the signals that codes and categories ask for, with those of their bounds; None: all."""
    chosen: set[str] | None = None
    if "code" in search.tokens:
        chosen = {signal for token in search.tokens["code"] for signal in _signals_of_code(token)}
    if "category" in search.tokens:
        categories = {token.rpartition("|")[2] for token in search.tokens["category"]}
        of_category = {signal for signal in SIGNALS if category_of(signal) in categories}
        chosen = of_category if chosen is None else chosen & of_category
    return None if chosen is None else sorted(name for signal in chosen for name in signal_with_bounds(signal))


def _signals_of_code(token: str) -> set[str]:
    """Return the signals that a code means: of a panel its signals, of 2708-6 both that share it; none if it is unknown."""
    system, has_system, code = token.rpartition("|")
    if code == SATURATION and system in ("", LOINC):
        return {"spo2", "sao2"}
    known: Mapping[tuple[str, str], Iterable[str]] = {**{pair: (name,) for pair, name in CODES_OF.items()}, **PANELS}
    found = {signal for (of, own), signals in known.items() if own == code and of == (system or of) for signal in signals}
    pairs = [(system, code)] if has_system and system else [(LOINC, code), (MDC, code)]
    return found | {signal for pair in pairs if (signal := resolve_codes([pair])[0]) is not None}
