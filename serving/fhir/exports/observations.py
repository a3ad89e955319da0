"""Observations in exports: those that clients sent under the id that they got, and every other reading by its own.

The same reading may be told as another resource later: a client's Observation is known a moment after its readings, and a new
version may have other readings. Then the former resource is gone.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from vigil.serving.fhir.exports.parts import Gone, Part, Told
from vigil.serving.fhir.readings import of_reading, of_sent
from vigil.serving.fhir.sent_readings import SLACK, find_sent, readings_of, several
from vigil.serving.records.fhir_observations import SentResource
from vigil.serving.records.journal_exports import Member
from vigil.serving.records.journal_readings import StoredReading

_TYPE: Final = "Observation"
_PAGE: Final = 1_000  # readings


def export_observations(told: Told, member: Member) -> Iterator[Part]:
    """Yield the Observations of a patient, and those that are gone."""
    of_patient = _OfPatient(told, member)
    for page in _pages(told.journal.readings(member)):
        yield from of_patient.stored(page)
    if told.since is not None:
        yield from of_patient.revised(told.since)
        yield from of_patient.gone(told.since)


class _OfPatient:
    """The Observations of one patient."""

    def __init__(self, told: Told, member: Member) -> None:
        self._told, self._member, self._keys = told, member, member.keys
        self._patient = told.directory.reference(member.subject)
        self._recent = None if told.since is None else told.since - SLACK

    def stored(self, page: Sequence[StoredReading]) -> Iterator[Part]:
        """Yield what readings are. All readings of a time are in one page."""
        own = self._find_sent(page, self._keys)
        whole = self._readings_of(several(own))
        done: set[str] = set()
        for reading in page:
            sent = own.get(reading.row)
            if sent is None:
                if self._told.matches([reading]):
                    yield of_reading(self._told.directory.ids.of_row(reading.row), reading, self._patient)
            elif sent.id not in done and not self._is_told_as_revised(sent):
                done.add(sent.id)
                readings = whole.get(sent.id, [reading])
                if self._told.matches(readings):
                    yield of_sent(self._as_of(sent), readings, self._patient)

    def revised(self, since: int) -> Iterator[Part]:
        """Yield the Observations that clients have sent since, changed or deleted."""
        store, member = self._told.observations, self._member
        for page in store.updated_since(sorted(member.later), since - SLACK) if member.later else ():
            readings = self._readings_of(page)
            for sent in page:
                yield from self._in_place_of_readings(sent, readings[sent.id], since)
        for page in store.updated_since(sorted(member.whole), 0, revised=True) if member.whole else ():
            readings = self._readings_of(page)
            for sent in page:
                if not (readings[sent.id] and self._told.matches(readings[sent.id])):
                    yield Gone(_TYPE, sent.id)

    def _in_place_of_readings(self, sent: SentResource, readings: Sequence[StoredReading], since: int) -> Iterator[Part]:
        """Yield an Observation, or that it is gone; so are its readings, which an export before may have told singly."""
        if readings and self._told.matches(readings):
            yield of_sent(self._as_of(sent), readings, self._patient)
        elif sent.deleted or sent.version > 1:
            yield Gone(_TYPE, sent.id)
        for reading in readings:
            if reading.recorded_at <= since:
                yield Gone(_TYPE, self._told.directory.ids.of_row(reading.row))

    def gone(self, since: int) -> Iterator[Part]:
        """Yield what no longer counts, or no longer for this patient."""
        ids, member = self._told.directory.ids, self._member
        for page in _pages(self._told.journal.superseded(member)):
            own = self._find_sent(page, self._keys)
            yield from (Gone(_TYPE, ids.of_row(reading.row)) for reading in page if reading.row not in own)
        if not member.lost:
            return
        lost = sorted(member.lost)
        for page in _pages(self._told.journal.lost(member)):
            own = self._find_sent(page, lost)
            names = [own[reading.row].id if reading.row in own else ids.of_row(reading.row) for reading in page]
            yield from (Gone(_TYPE, name) for name in dict.fromkeys(names))
        for sent_since in self._told.observations.updated_since(lost, since - SLACK):
            yield from (Gone(_TYPE, sent.id) for sent in sent_since)

    def _is_told_as_revised(self, sent: SentResource) -> bool:
        return self._recent is not None and sent.subject_id in self._member.later and sent.updated_at >= self._recent

    def _as_of(self, sent: SentResource) -> SentResource:
        """Return an Observation before the version that was stored after the time of this export, if there is one."""
        return replace(sent, version=max(sent.version - 1, 1), status=None) if sent.updated_at > self._told.until else sent

    def _find_sent(self, page: Sequence[StoredReading], keys: Sequence[str]) -> dict[int, SentResource]:
        """Return the Observation that a client sent each reading in, by row; the others are left out."""
        if not page:
            return {}
        times = [reading.observed_at for reading in page]
        return find_sent(page, self._told.observations.observed_between(keys, min(times), max(times)))

    def _readings_of(self, resources: Sequence[SentResource]) -> dict[str, list[StoredReading]]:
        """Return the readings that count of Observations that clients sent, in the order in which each says them."""
        times = {sent.observed_at for sent in resources}
        return readings_of(resources, self._told.journal.readings_at(self._keys, [time for time in times if time is not None]))


def _pages(readings: Iterable[StoredReading]) -> Iterator[list[StoredReading]]:
    """Yield readings in pages. Those of one time are in one page, if they come one after the other."""
    page: list[StoredReading] = []
    for reading in readings:
        if len(page) >= _PAGE and reading.observed_at != page[-1].observed_at:
            yield page
            page = []
        page.append(reading)
    if page:
        yield page
