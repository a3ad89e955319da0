"""Observations of FHIR clients on their way into the journal, and which version of each is the present one.

An Observation is acknowledged when its readings are on the disk. All versions are of the client that
sent the first: another client corrects or deletes the same readings.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from vigil.features.measures import name_signal
from vigil.features.pseudonyms import Pseudonyms
from vigil.features.revisions import RETRACTED
from vigil.serving.auth.tokens import Caller
from vigil.serving.fhir.answers import Answer, overtaken_by_another, refused
from vigil.serving.fhir.directory import Directory
from vigil.serving.fhir.intake import to_sent
from vigil.serving.fhir.news2 import ID_PREFIX
from vigil.serving.fhir.observation_versions import (
    REVISING,
    content_of,
    is_old,
    name_of,
    newest,
    next_number,
    numbered,
    require_version,
)
from vigil.serving.fhir.observations import MappedObservation, ObservationMapper, Reading
from vigil.serving.fhir.operations import Operation
from vigil.serving.fhir.outcomes import FhirError, issue, refusal_issue
from vigil.serving.fhir.refusals import explain
from vigil.serving.records.fhir_observations import FhirObservations, SentResource
from vigil.serving.records.journal import Journal
from vigil.serving.records.journal_readings import Interval, Wanted
from vigil.serving.records.journal_rows import Receipt
from vigil.serving.records.timestamps import microsecond, present
from vigil.serving.stream.ingestion import Ingestion, SentObservation

OBSERVATION: Final = "Observation"
_PRELIMINARY: Final = "preliminary"
_MOST_NEAR: Final = 10_000  # readings of one patient within the seconds by which a clock may be ahead


@dataclass(slots=True)
class Sent:
    """An Observation on its way into the journal.

    Attributes:
        id, version: of the resource after it.
        before: what is stored of the resource; None: this is no new version of one.
        mapped: what it says.
        observations: its readings, as the journal takes them.
        source: the client whose readings they are.
        content: digest of what it says; None of a deletion.
        status: of R4; None of a deletion.
        is_deletion: whether the client deletes it.
        updated_at: microseconds.
    """

    id: str
    version: int
    before: SentResource | None
    mapped: MappedObservation
    observations: list[SentObservation]
    source: str
    content: str | None = None
    status: str | None = None
    is_deletion: bool = False
    updated_at: int = field(default_factory=lambda: microsecond(present()))

    @property
    def readings(self) -> list[Reading]:
        """Its readings, those too that cannot be used."""
        return self.mapped.readings


@dataclass(slots=True)
class Preparing:
    """What the Observations of one request have in common.

    Attributes:
        caller: who sends them.
        mapper: reads them.
        known: what is stored, by id.
        visible: patients for whom the caller may act.
        contents: what was prepared in this request, by id.
    """

    caller: Caller
    mapper: ObservationMapper
    known: dict[str, SentResource] = field(default_factory=dict)
    visible: set[str] = field(default_factory=set)
    contents: dict[str, str] = field(default_factory=dict)


class ObservationWriter:
    """Stores the Observations of one home."""

    def __init__(
        self,
        directory: Directory,
        ingestion: Ingestion,
        journal: Journal,
        pseudonyms: Pseudonyms,
        observations: FhirObservations,
    ) -> None:
        """Hand over to ``ingestion``."""
        self._directory, self._ingestion, self._journal = directory, ingestion, journal
        self._pseudonyms, self._observations = pseudonyms, observations

    def begin(self, operations: Sequence[Operation], caller: Caller, mapper: ObservationMapper) -> Preparing:
        """Return what the Observations of one request have in common."""
        ids = {self._id_of(operation, caller, None) for operation in operations}
        return Preparing(caller, mapper, self._observations.find(ids))

    def prepare(self, operation: Operation, preparing: Preparing) -> Sent | Answer:
        """Return an Observation as it goes into the journal, or the answer where nothing has to be stored.

        Raises:
            FhirError: it cannot be stored.
            OtherWardError: its patient is in another ward.
        """
        if operation.resource is None:
            return self._prepare_deletion(operation, preparing)
        content = content_of(operation.resource)
        identity = self._identify(operation, content, preparing)
        before = preparing.known.get(identity)
        is_conditional = operation.interaction == "create" and operation.identifier is not None
        if before is not None and not before.deleted and is_conditional:
            return _unchanged(before)
        require_version(operation, before)
        if before is None and operation.id is not None and self._is_of_server(operation.id):
            raise FhirError(405, "id: this Observation was not sent as one; correct it where it was sent", ["Observation.id"])
        mapped, is_update = _read(operation, identity, content, before, preparing.mapper)
        if operation.is_lenient and _is_of_no_signal(mapped):
            return Answer(200, issues=[refusal_issue(mapped.refusals[0], "warning")])
        if mapped.patient_id is None:
            raise refused(mapped.refusals)
        self._require_visible(mapped.patient_id, preparing)
        source = preparing.caller.sub
        if before is not None:
            self._require_same_patient(before, mapped, source)
            source = before.source or source
        name = f"{OBSERVATION}/{identity}"
        if before is not None and is_update:
            if is_old(mapped, before):
                return _unchanged(before)
            mapped.readings += self._dropped(before, mapped, source, name)
        preparing.contents[identity] = content
        sent = to_sent(mapped, source, name)
        status = operation.resource.get("status")
        version = 1 if before is None else before.version + is_update
        return Sent(identity, version, before if is_update else None, mapped, sent, source, content, status)

    def _prepare_deletion(self, operation: Operation, preparing: Preparing) -> Sent:
        assert operation.id is not None
        before = preparing.known.get(operation.id)
        require_version(operation, before)
        if before is None:
            raise FhirError(404, "id: no such Observation was sent here")
        patient_id = self._directory.find(self._directory.reference(before.subject_id))
        if patient_id is None:
            raise FhirError(404, "id: the patient of this Observation is not known any more")
        self._require_visible(patient_id, preparing)
        # Without a number it is newer than all that the client numbered. Sent again, it is stored again: the server may have
        # died before the retraction was.
        readings = [Reading(signal, None, None, None, RETRACTED, message) for message, signal, _ in before.readings]
        mapped = MappedObservation(patient_id, before.observed_at, readings=readings)
        source = before.source or preparing.caller.sub
        own = None if before.deleted else before
        version = before.version + (own is not None)
        return Sent(before.id, version, own, mapped, to_sent(mapped, source, ""), source, is_deletion=True)

    def _identify(self, operation: Operation, content: str, preparing: Preparing) -> str:
        """Return the id of what is sent.

        A second Observation under an identifier, which says something else and corrects nothing, is one of its own: senders
        give one identifier to all that belongs to an order.
        """
        identity = self._id_of(operation, preparing.caller, content)
        if operation.interaction != "create" or operation.identifier is not None or operation.resource is None:
            return identity
        before = preparing.known.get(identity)
        stored = None if before is None or before.deleted else before.content
        others = {stored, preparing.contents.get(identity)} - {None, content}
        status = operation.resource.get("status")
        if not others or status in REVISING or (before is not None and before.status == _PRELIMINARY):
            return identity
        own = self._directory.ids.of_message(preparing.caller.sub, f"{name_of(operation, content)} {content}")
        preparing.known |= self._observations.find([own])
        return own

    def _id_of(self, operation: Operation, caller: Caller, content: str | None) -> str:
        """Return the id of an Observation: that of the URL, or one that is always the same for its identifier, or its content.

        What is sent again without an identifier is so the same Observation, as its readings are the same readings.
        """
        return operation.id or self._directory.ids.of_message(caller.sub, name_of(operation, content))

    def _is_of_server(self, identity: str) -> bool:
        """Return whether an id is one under which this server shows what no client sent as an Observation."""
        return identity.startswith(ID_PREFIX) or self._directory.ids.row(identity) is not None

    def _require_visible(self, patient_id: str, preparing: Preparing) -> None:
        """Refuse a caller who may not act for a patient; each patient is looked up once in a request."""
        if patient_id not in preparing.visible:
            self._ingestion.require_visible(patient_id, preparing.caller)
            preparing.visible.add(patient_id)

    def _require_same_patient(self, before: SentResource, mapped: MappedObservation, caller: str) -> None:
        """Check that a version is of the patient of the one before; after a merge it stays with the identifier of then.

        Raises:
            FhirError: it is of somebody else.
        """
        assert mapped.patient_id is not None
        own = self._pseudonyms.subject_key(mapped.patient_id)
        if own == before.subject_id:
            return
        if len(set(self._journal.survivors_of([own, before.subject_id]).values())) == 1:
            mapped.patient_id = self._directory.find(self._directory.reference(before.subject_id)) or mapped.patient_id
            return
        path = ["Observation.subject"]
        if before.source is not None and before.source != caller:
            raise FhirError(409, "id: another client has it for another patient; POST with an identifier, for an own id", path)
        raise FhirError(422, "subject: expected the patient of the version before", path)

    def _dropped(self, before: SentResource, mapped: MappedObservation, source: str, name: str) -> list[Reading]:
        """Return retractions of what the version before said and this one does not say any more, if this one can be used."""
        kept = {(reading.message_id or name, name_signal(reading.signal)) for reading in mapped.readings}
        dropped = [
            Reading(signal, None, None, None, RETRACTED, message)
            for message, signal, _ in before.readings
            if (message, name_signal(signal)) not in kept
        ]
        if not dropped or not mapped.readings:
            return dropped
        faults = self._ingestion.find_faults(to_sent(mapped, source, name))
        return dropped if len(faults) < len(mapped.readings) else []

    async def store(self, sent: Mapping[int, Sent], caller: Caller) -> dict[int, Answer]:
        """Store Observations, and answer each when its readings are on the disk.

        Raises:
            VigilError: nothing was stored (:meth:`vigil.serving.stream.ingestion.Ingestion.accept`).
        """
        if not sent:
            return {}
        overtaken = {
            position
            for position, each in sent.items()
            if each.before is not None and not await asyncio.to_thread(self._observations.renew, self._row(each))
        }
        answers = {position: overtaken_by_another() for position in overtaken}
        stored = {position: each for position, each in sent.items() if position not in overtaken}
        observations = [observation for each in stored.values() for observation in each.observations]
        begun_at = microsecond(present())
        try:
            receipts = iter(await self._ingestion.accept(observations, caller)) if observations else iter(())
        except BaseException:
            await asyncio.to_thread(self._put_back, list(stored.values()))
            raise
        own = {position: [next(receipts) for _ in each.observations] for position, each in stored.items()}
        unused = [position for position, each in stored.items() if not each.is_deletion and _is_unused(own[position])]
        if unused:
            await asyncio.to_thread(self._put_back, [stored[position] for position in unused])
        ahead = [each for each in stored.values() if (each.mapped.observed_at or 0) > begun_at]
        if ahead:
            await asyncio.to_thread(self._settle_times, ahead, begun_at)
        new = [
            self._row(each)
            for position, each in stored.items()
            if each.before is None and not each.is_deletion and _counts(own[position])
        ]
        added = await asyncio.to_thread(self._observations.add, new) if new else set()
        for position, each in stored.items():
            answers[position] = self._answer(each, own[position], is_new=each.id in added)
            added.discard(each.id)  # one that is twice in a bundle is created once
        return answers

    def _put_back(self, sent: Sequence[Sent]) -> None:
        """Let the version before be the present one again, where nothing of a new one was stored."""
        for each in sent:
            if each.before is not None:
                self._observations.put_back(each.before)

    def _settle_times(self, ahead: Sequence[Sent], begun_at: int) -> None:
        """Give Observations whose time was a little ahead of the clock the time under which the journal has them."""
        for each in ahead:
            row = self._row(each)
            with self._journal.snapshot() as journal:
                keys = [row.subject_id, *journal.keys(self._journal.survivors_of([row.subject_id])[row.subject_id])]
                wanted = Wanted(keys, observed=Interval(begun_at, each.mapped.observed_at or begun_at))
                near = journal.readings(wanted, None, _MOST_NEAR)
            messages = {message for message, _, _ in row.readings}
            found = next((one for one in near if any(one.is_of_message(message) for message in messages)), None)
            if found is None:
                continue
            each.mapped.observed_at = found.observed_at
            if each.before is not None:  # it was stored before the journal told
                self._observations.retime(self._row(each))

    def _row(self, sent: Sent) -> SentResource:
        patient_id = sent.mapped.patient_id
        assert patient_id is not None
        if sent.is_deletion and sent.before is not None:
            number = newest(sent.before) + 1
            return replace(sent.before, version=sent.version, updated_at=sent.updated_at, deleted=True, number=number)
        readings = [
            (reading.message_id or "", reading.signal, sent.mapped.observed_at)
            for reading in sent.readings
            if reading.status != RETRACTED and reading.refusal is None
        ]
        return SentResource(
            sent.id,
            self._pseudonyms.subject_key(patient_id),
            sent.version,
            sent.updated_at,
            sent.is_deletion,
            readings,
            sent.source,
            sent.content,
            sent.status,
            sent.mapped.version,
        )

    @staticmethod
    def _answer(sent: Sent, receipts: Sequence[Receipt], *, is_new: bool) -> Answer:
        pairs = list(zip(sent.readings, receipts, strict=True))
        refusals = [
            reading.refusal or explain(reading.path, reading.signal, receipt.reason)
            for reading, receipt in pairs
            if receipt.status == "quarantined" and receipt.reason is not None
        ]
        if not _counts(receipts):
            return Answer(422, issues=[refusal_issue(refusal) for refusal in refusals])
        if sent.before is not None and not sent.is_deletion and _is_unused(receipts):
            return _unchanged(sent.before)
        issues = [refusal_issue(refusal, "warning") for refusal in refusals]
        if sent.mapped.ignored:
            issues.append(issue("informational", f"{sent.mapped.ignored} values are of no signal here", severity="information"))
        if sent.mapped.absent:
            issues.append(
                issue("informational", f"{sent.mapped.absent} values are absent, with a reason", severity="information")
            )
        status = 204 if sent.is_deletion else 201 if is_new else 200
        is_unchanged = status == 200 and sent.before is None
        return Answer(status, OBSERVATION, sent.id, sent.version, sent.updated_at, issues, is_unchanged)


def _read(
    operation: Operation, identity: str, content: str, before: SentResource | None, mapper: ObservationMapper
) -> tuple[MappedObservation, bool]:
    """Return what is sent, with the number by which the journal takes it, and whether it is a new version of a resource."""
    resource = operation.resource or {}
    if before is None:
        mapped = mapper.map({**resource, "id": identity})
        if mapped.version is None and resource.get("status") in REVISING:
            mapped.version = 2  # as the journal would number it, so that the next one is newer
        return mapped, False
    is_same = not before.deleted and before.content == content
    is_revised = operation.interaction == "update" or before.deleted or before.content is not None
    is_update = is_revised and not is_same
    number = next_number(operation, before, is_update=is_update)
    mapped = mapper.map(numbered(resource, identity, number))
    mapped.version = number or mapped.version
    return mapped, is_update or (is_same and (mapped.version or 0) > newest(before))  # its client may number it anew


def _unchanged(known: SentResource) -> Answer:
    return Answer(200, OBSERVATION, known.id, known.version, known.updated_at, is_unchanged=True)


def _is_unused(receipts: Sequence[Receipt]) -> bool:
    """Return whether an Observation has readings, and none of them was stored as a new version."""
    return bool(receipts) and all(each.status == "quarantined" or each.reason == "superseded" for each in receipts)


def _counts(receipts: Sequence[Receipt]) -> bool:
    """Return whether an Observation was taken: one of its readings was, or it has none."""
    return not receipts or any(receipt.status != "quarantined" for receipt in receipts)


def _is_of_no_signal(mapped: MappedObservation) -> bool:
    return len(mapped.readings) == 1 and any(refusal.reason == "unknown_signal" for refusal in mapped.refusals)
