"""Which readings of the journal are which Observation that a client sent, and the other way round.

They are found by what both say: subject key, signal and time of observation, and the message that the reading came in.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from vigil.features.measures import name_signal
from vigil.features.signals import measured_signal
from vigil.serving.records.fhir_observations import SentResource
from vigil.serving.records.journal_readings import StoredReading

SLACK: Final = 60_000_000  # microseconds between the time of a group and of the row that says how a client sent it

_Place = tuple[str, object, int | None]  # subject key, signal (None: unknown), observed at


def find_sent(readings: Iterable[StoredReading], resources: Iterable[SentResource]) -> dict[int, SentResource]:
    """Return which of some Observations each reading was sent in, by row; readings that were sent in none are left out."""
    by_place: dict[_Place, list[tuple[SentResource, str]]] = defaultdict(list)
    for sent in resources:
        for message, signal, at in sent.readings:
            by_place[sent.subject_id, name_signal(signal), at].append((sent, message))
    own: dict[int, SentResource] = {}
    for reading in readings:
        for sent, message in by_place.get(_place(reading), ()):
            if reading.is_of_message(message):
                own[reading.row] = sent
    return own


def several(own: dict[int, SentResource]) -> list[SentResource]:
    """Return the Observations of more than one reading among those that :func:`find_sent` found, each once."""
    return [sent for sent in {sent.id: sent for sent in own.values()}.values() if len(sent.readings) > 1]


def readings_of(resources: Iterable[SentResource], found: Iterable[StoredReading]) -> dict[str, list[StoredReading]]:
    """Return the readings of each Observation among those that were found, in the order in which it says them, by its id."""
    by_place: dict[_Place, list[StoredReading]] = defaultdict(list)
    for reading in found:
        by_place[_place(reading)].append(reading)
    return {sent.id: _in_order(sent, by_place) for sent in resources}


def _in_order(sent: SentResource, by_place: dict[_Place, list[StoredReading]]) -> list[StoredReading]:
    places = ((message, (sent.subject_id, name_signal(signal), at)) for message, signal, at in sent.readings)
    return [reading for message, place in places for reading in by_place.get(place, ()) if reading.is_of_message(message)]


def _place(reading: StoredReading) -> _Place:
    return reading.subject_id, measured_signal(reading.signal), reading.observed_at
