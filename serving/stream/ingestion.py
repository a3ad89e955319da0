"""Ingestion: the one way in. Every door (HTTP today) hands over here what arrives about patients.

These functions replace patient identifiers by subject keys, check that the caller may act for the patients' wards, and store
everything durably. What cannot be used is quarantined with a reason, never dropped.
"""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import pandas as pd
from pydantic import TypeAdapter, ValidationError

from vigil.features.bounds import join_comparators, read_text
from vigil.features.declarations import UNDECLARED, Declarations, SourceDeclaration
from vigil.features.observations import TIME, check
from vigil.features.pseudonyms import Pseudonyms, SubjectKey
from vigil.features.revisions import RETRACTED
from vigil.models.alarms.patient_terms import PatientTerms
from vigil.serving.auth.access import Access
from vigil.serving.auth.tokens import Caller
from vigil.serving.identity.identities import Identities
from vigil.serving.instant import Instant
from vigil.serving.records.journal import Journal
from vigil.serving.records.journal_rows import Receipt
from vigil.serving.records.registration import Registration
from vigil.serving.records.timestamps import not_ahead, present, utc
from vigil.serving.stream.group_commit import GroupCommit

_INSTANT: Final[TypeAdapter[datetime]] = TypeAdapter(Instant)
_OF_OTHERS: Final = frozenset(("duplicate_message", "duplicate_reading", "superseded"))  # what other observations already say


@dataclass(frozen=True, slots=True)
class SentObservation:
    """An observation as a sender wrote it: value and time may be anything.

    Attributes:
        patient_id: the patient identifier.
        signal, unit: names that may be unknown; ``unit`` None: none was sent.
        value: a number, if it can be used; or a text that is a bound (:mod:`vigil.features.bounds`).
        comparator: ``<``, ``<=``, ``>`` or ``>=`` makes the value a bound; None: it is what it says.
        observed_at: ISO 8601 with a time zone, if it can be used.
        message_id: the sender's name of the message; one sent again counts once.
        received_at: when the gateway received it, by its own clock; None: not sent.
        status, version: whether it corrects or retracts what this message said before (:mod:`vigil.features.revisions`).
        refused: why the door refuses it, a key of :data:`vigil.features.observations.REASONS`; it goes into the quarantine.
    """

    message_id: str
    patient_id: str
    signal: str
    value: float | str | bool | None
    observed_at: str | float | bool | None
    unit: str | None = None
    device_id: str | None = None
    source: str | None = None
    status: str = "final"
    version: int | None = None
    comparator: str | None = None
    received_at: str | float | bool | None = None
    refused: str | None = None


class Ingestion:
    """Accepts observations and registrations for one home."""

    def __init__(
        self,
        *,
        pseudonyms: Pseudonyms,
        identities: Identities,
        journal: Journal,
        access: Access,
        group_commit: GroupCommit,
        declared: Callable[[], Declarations] = lambda: UNDECLARED,
    ) -> None:
        self._pseudonyms = pseudonyms
        self._identities = identities
        self._journal = journal
        self._access = access
        self._group_commit = group_commit
        self._declared = declared

    async def accept(self, observations: Sequence[SentObservation], caller: Caller) -> list[Receipt]:
        """Store observations, and return what became of each, in order, once they are on the disk.

        Raises:
            OtherWardError: some are of patients in wards that the caller may not see; nothing was stored.
            TooManyRefusalsError: the caller was refused too often.
            OverloadedError: more arrives than can be written; nothing was stored.
            DatabaseError: nothing was stored.
        """
        keys = self._keys_of(observations)
        declared = self._declared()
        rows = self._rows_of(observations, keys, declared)
        identifiers: dict[str, str] = {key: name for name, key in keys.items()}
        future = self._group_commit.submit(
            rows, identifiers, check=lambda: self._access.require_visible(caller, keys.values()), declared=declared
        )
        return await asyncio.wrap_future(future)

    def require_visible(self, patient_id: str, caller: Caller) -> None:
        """Refuse a caller who may not act for a patient.

        Raises:
            OtherWardError: the patient is in another ward.
            TooManyRefusalsError: the caller was refused too often.
        """
        self._access.require_visible(caller, [self._pseudonyms.subject_key(patient_id)])

    def require_movable(self, patient_id: str, caller: Caller) -> None:
        """Refuse a caller who may not register a patient; raises as :meth:`register`."""
        self._access.require_movable(caller, [self._pseudonyms.subject_key(patient_id)])

    def find_faults(self, observations: Sequence[SentObservation]) -> dict[int, str]:
        """Return why observations would be quarantined, by position. Nothing is stored.

        What is stored already is not looked at: a repetition or an old version is no fault.
        """
        declared, now = self._declared(), present()
        rows = self._rows_of(observations, self._keys_of(observations), declared)
        frame = pd.DataFrame.from_records(rows).assign(recorded_at=now, position=range(len(rows)))
        frame["observed_at"] = not_ahead(frame["observed_at"].astype(TIME), now)
        found = check(frame[frame["status"] != RETRACTED], now, declared).quarantined
        reasons = dict(zip(found["position"].tolist(), found["reason"].tolist(), strict=True))
        return {position: reason for position, reason in reasons.items() if reason not in _OF_OTHERS}

    def _keys_of(self, observations: Sequence[SentObservation]) -> dict[str, SubjectKey]:
        return {name: self._pseudonyms.subject_key(name) for name in {sent.patient_id for sent in observations}}

    @staticmethod
    def _rows_of(
        observations: Sequence[SentObservation], keys: Mapping[str, SubjectKey], declared: Declarations
    ) -> list[dict[str, Any]]:
        return [to_row(keys[sent.patient_id], sent, declared.of(sent.source)) for sent in observations]

    def register(
        self,
        registrations: Sequence[tuple[str, Registration]],
        caller: Caller,
        first: Callable[[], object] = lambda: None,
    ) -> None:
        """Store who patients are and where, from now on; on the disk when this returns.

        Args:
            registrations: patient identifiers, and what is said of each; the subject key in it is filled in here.
            caller: must be allowed to see the wards they are registered into.
            first: called inside the transaction, before anything is written; what it raises ends it.

        Raises:
            OtherWardError: another ward has some of the patients; nothing was stored.
            TooManyRefusalsError: the caller was refused too often.
            DatabaseError: nothing was stored.
        """
        names: dict[str, str] = {self._pseudonyms.subject_key(name): name for name, _ in registrations}
        rows = [replace(row, subject_id=self._pseudonyms.subject_key(name)) for name, row in registrations]

        def check_and_identify() -> None:
            """Run inside the transaction: of two wards that register a patient at once, one is refused."""
            first()
            self._access.require_movable(caller, names)
            self._identities.store(names)

        self._journal.register(rows, first=check_and_identify)

    def merge(self, patient_id: str, into: str, caller: Caller) -> bool:
        """Let a patient identifier count for another from now on: both are of one person. On the disk when this returns.

        Returns:
            Whether anything was stored: False if it counts for the other already.

        Raises:
            NotRecordedError: they cannot be merged.
            OtherWardError: another ward has one of them; nothing was stored.
            TooManyRefusalsError: the caller was refused too often.
            DatabaseError: nothing was stored.
        """
        subject, survivor = (self._pseudonyms.subject_key(name) for name in (patient_id, into))
        return self._journal.merge(subject, survivor, first=lambda: self._access.require_mergeable(caller, [subject, survivor]))

    def unmerge(self, patient_id: str, caller: Caller) -> bool:
        """Let a merged patient identifier count for itself again from now on. On the disk when this returns.

        Returns:
            Whether anything was stored: False if it counts for itself already.

        Raises:
            NotRecordedError: it was never merged.
            OtherWardError: another ward has the patient, or had them before; nothing was stored.
            TooManyRefusalsError: the caller was refused too often.
            DatabaseError: nothing was stored.
        """
        subject = self._pseudonyms.subject_key(patient_id)
        return self._journal.unmerge(subject, first=lambda: self._access.require_mergeable(caller, [subject]))

    def set_terms(self, patient_id: str, terms: PatientTerms, caller: Caller) -> PatientTerms:
        """Let terms of a patient hold from now on, and return them as they are recorded. On the disk when this returns.

        Raises:
            NotRecordedError: the journal does not know the patient, or the terms are over already.
            OtherWardError: another ward has the patient; nothing was stored.
            TooManyRefusalsError: the caller was refused too often.
            DatabaseError: nothing was stored.
        """
        subject = self._pseudonyms.subject_key(patient_id)
        return self._journal.set_terms(subject, terms, first=lambda: self._access.require_visible(caller, [subject]))


def to_row(key: str, sent: SentObservation, declaration: SourceDeclaration) -> dict[str, Any]:
    """Return an observation as :meth:`vigil.serving.records.journal.Journal.append` takes it."""
    limit, of_text = read_text(sent.value) if isinstance(sent.value, str) else (_number(sent.value), None)
    return {
        "subject_id": key,
        "signal": sent.signal,
        "value": limit,
        "comparator": join_comparators(of_text, sent.comparator),
        "unit": sent.unit,
        "observed_at": _time(sent.received_at if declaration.counts_reception else sent.observed_at, declaration),
        "received_at": _time(sent.received_at, declaration),
        "device_id": sent.device_id,
        "source": sent.source,
        "message_id": sent.message_id,
        "status": sent.status,
        "version": sent.version,
        **({} if sent.refused is None else {"refused": sent.refused}),
        "sent": {"value": sent.value, "comparator": sent.comparator, "observed_at": sent.observed_at}
        | ({} if sent.received_at is None else {"received_at": sent.received_at}),
    }


def _time(value: str | float | bool | None, declaration: SourceDeclaration) -> pd.Timestamp | None:
    try:
        return utc(_INSTANT.validate_python(_with_zone(value, declaration)))
    except ValidationError:
        return None


def _with_zone(value: str | float | bool | None, declaration: SourceDeclaration) -> str | float | bool | datetime | None:
    """Return a time as it was sent, or as an instant where its source declares the zone or the format of its times."""
    is_declared = declaration.time_zone is not None or declaration.time_format is not None
    if not is_declared or not isinstance(value, str):
        return value
    time = declaration.read_time(value)
    return declaration.localise(time) if time is not None and time.tzinfo is None else time


def _number(value: float | bool | None) -> float:
    """Return a number, or NaN for anything else. A text is not read as a number, since its decimal sign is unknown."""
    return float(value) if isinstance(value, float | int) and not isinstance(value, bool) else math.nan
