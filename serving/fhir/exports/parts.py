"""What the types of resources of an export have in common: what they are made of, and what they yield."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from vigil.features.signals import measured_signal
from vigil.serving.fhir.directory import Directory
from vigil.serving.identity.identities import Identities
from vigil.serving.records.fhir_observations import FhirObservations
from vigil.serving.records.journal_exports import JournalExport, Member
from vigil.serving.records.journal_readings import Interval, StoredReading
from vigil.serving.records.registration import RecordedRegistration
from vigil.serving.records.ward_state import WardState

if TYPE_CHECKING:
    from vigil.serving.scoring.past_risks import PastRisks


class Gone(NamedTuple):
    """A resource that an export before may have told, and that is no more."""

    type: str
    id: str


Part = dict[str, Any] | Gone


class ReadingFilter(NamedTuple):
    """Which readings are told. ``signals``: None: all."""

    signals: frozenset[str] | None
    observed: Interval

    def matches(self, reading: StoredReading) -> bool:
        """Return whether a reading is one of them."""
        is_wanted = self.signals is None or reading.signal in self.signals or measured_signal(reading.signal) in self.signals
        return is_wanted and self.observed.since <= reading.observed_at <= self.observed.until


@dataclass(frozen=True, slots=True)
class Told:
    """What an export is made of.

    Attributes:
        journal: as it counted at the time of the export.
        directory: ids and references.
        identities: who the patients are.
        observations: that clients sent.
        ward_state: with the alarms.
        risks: returns those of the past.
        wards: of the patients; None: all.
        since, until: the time of the export before (None: there was none), and of this one, microseconds.
        filters: of readings, one of which has to match; empty: all are told.
    """

    journal: JournalExport
    directory: Directory
    identities: Identities
    observations: FhirObservations
    ward_state: WardState
    risks: "Callable[[], PastRisks]"
    wards: Sequence[str] | None
    since: int | None
    until: int
    filters: Sequence[ReadingFilter] = ()

    def is_told(self, member: Member, key: str, registration: RecordedRegistration | None) -> bool:
        """Return whether the registration of one key of a patient is told. That there is none is told each time."""
        return key in member.whole or self.since is None or registration is None or registration.recorded_at > self.since

    def matches(self, readings: Sequence[StoredReading]) -> bool:
        """Return whether an Observation of some readings is told."""
        return not self.filters or any(each.matches(reading) for each in self.filters for reading in readings)
