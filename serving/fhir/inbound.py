"""What FHIR clients send: Patients, Encounters and Observations become registrations, merges and readings.

The edge translates and decides nothing: :class:`vigil.serving.stream.ingestion.Ingestion` checks wards, quarantines and stores,
as for every door. An Observation is acknowledged when its readings are on the disk.
"""

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from vigil.features.pseudonyms import Pseudonyms
from vigil.features.revisions import RETRACTED
from vigil.serving.auth.access import OtherWardError
from vigil.serving.auth.tokens import Caller
from vigil.serving.fhir.answers import Answer, elsewhere, ignored, in_entry, overtaken_by_another, refused
from vigil.serving.fhir.devices import read_device_report
from vigil.serving.fhir.directory import Directory
from vigil.serving.fhir.intake import to_sent
from vigil.serving.fhir.observations import MappedObservation, ObservationMapper, Reading
from vigil.serving.fhir.operations import Operation
from vigil.serving.fhir.outcomes import FhirError, issue, refusal_issue
from vigil.serving.fhir.references import identifier_keys
from vigil.serving.fhir.refusals import explain
from vigil.serving.fhir.registrar import Found, Registrar, merging_links
from vigil.serving.fhir.times import write_instant
from vigil.serving.records.fhir_observations import FhirObservations, SentResource
from vigil.serving.records.journal import Journal
from vigil.serving.records.journal_readings import Interval, Wanted
from vigil.serving.records.journal_rows import Receipt
from vigil.serving.records.not_recorded import NotRecordedError
from vigil.serving.records.silence_rows import DeviceReport
from vigil.serving.records.silences import Silences
from vigil.serving.records.timestamps import instant, microsecond, present
from vigil.serving.stream.ingestion import Ingestion, SentObservation

_OBSERVATION: Final = "Observation"
_TRIES: Final = 5  # to come after an update that was faster
_DEVICE: Final = "Device"
_MOST_NEAR: Final = 10_000  # readings of one patient within the seconds by which a clock may be ahead


@dataclass(slots=True)
class _Sent:
    """An Observation on its way into the journal."""

    id: str
    version: int  # of the resource after it
    before: SentResource | None
    mapped: MappedObservation
    observations: list[SentObservation]
    is_deletion: bool = False
    updated_at: int = field(default_factory=lambda: microsecond(present()))  # microseconds

    @property
    def readings(self) -> list[Reading]:
        return self.mapped.readings


@dataclass(slots=True)
class _Preparing:
    """What the Observations of one request have in common: who sends them, and what was looked up already."""

    caller: Caller
    mapper: ObservationMapper
    known: Mapping[str, SentResource] = field(default_factory=dict)
    visible: set[str] = field(default_factory=set)


class Inbound:
    """Takes what the FHIR clients of one home send."""

    def __init__(
        self,
        directory: Directory,
        ingestion: Ingestion,
        journal: Journal,
        pseudonyms: Pseudonyms,
        observations: FhirObservations,
        own_codes: Callable[[], Mapping[tuple[str, str], str]],
        silences: Silences,
    ) -> None:
        """Hand over to ``ingestion``, and reports of devices to ``silences``.

        ``own_codes`` returns the hospital's signals by system and code.
        """
        self._registrar = Registrar(directory, ingestion, journal, pseudonyms)
        self._directory, self._ingestion, self._journal, self._pseudonyms = directory, ingestion, journal, pseudonyms
        self._observations, self._own_codes, self._silences = observations, own_codes, silences

    async def take(self, operations: Sequence[Operation | FhirError], caller: Caller) -> list[Answer]:
        """Do each operation that can be done, and answer each, in order: a batch.

        Patients come first, then Encounters, then all Observations in one commit. An update that names no version and was
        overtaken by another one comes after it.
        """
        answers, sent = await asyncio.to_thread(self._begin, operations, caller)
        answers |= await self._store(sent, caller)
        for _ in range(_TRIES):
            overtaken = (position for position, answer in answers.items() if answer.status == 412)
            again = [position for position in overtaken if getattr(operations[position], "if_match", 0) is None]
            if not again:
                break
            more, sent = await asyncio.to_thread(self._begin, [operations[position] for position in again], caller)
            more |= await self._store(sent, caller)
            answers |= {position: more[number] for number, position in enumerate(again)}
        return [answers[position] for position in range(len(operations))]

    def _begin(self, operations: Sequence[Operation | FhirError], caller: Caller) -> tuple[dict[int, Answer], dict[int, _Sent]]:
        """Register patients, and return what is answered by then, and the Observations that are to be stored."""
        answers: dict[int, Answer] = {}
        sent: dict[int, _Sent] = {}
        patients: Found = {}
        preparing = _Preparing(caller, ObservationMapper(self._registrar.finder(patients), self._own_codes(), "id"))
        names = {position: self._id_of(operation, caller) for position, operation in _observations(operations)}
        preparing.known = self._observations.find(names.values())
        for position, operation in _in_order(operations):
            try:
                if isinstance(operation, FhirError):
                    raise operation
                if operation.interaction == "ignore":
                    answers[position] = ignored(operation.type)
                    continue
                if operation.type == _DEVICE:
                    answers[position] = self._report(operation, caller)
                    continue
                if operation.type != _OBSERVATION:
                    answers[position] = self._registrar.register(operation, caller, patients)
                    continue
                prepared = self._prepare(operation, names[position], preparing)
                if isinstance(prepared, Answer):
                    answers[position] = prepared
                else:
                    sent[position] = prepared
            except FhirError as error:
                answers[position] = Answer(error.status_code, issues=[error.issue])
            except OtherWardError:
                answers[position] = elsewhere()
            except NotRecordedError as error:
                answers[position] = Answer(409, issues=[issue("conflict", f"link: {error.rule}", ["Patient.link"])])
        return answers, sent

    def _report(self, operation: Operation, caller: Caller) -> Answer:
        """Store whether a device is connected, under each name that Observations may call it by."""
        names, status = read_device_report(operation.resource or {})
        at = microsecond(present())
        wards = None if caller.wards is None else tuple(sorted(caller.wards))
        for name in names:
            self._silences.report(DeviceReport(caller.sub, name, wards, status, at), by=caller.sub)
        identity = operation.id or self._directory.ids.of_message(caller.sub, f"{_DEVICE} {names[0]}")
        return Answer(201 if operation.interaction == "create" else 200, _DEVICE, identity, 1, at)

    def check(self, operations: Sequence[Operation], caller: Caller) -> None:
        """Find what would be refused of a transaction, before anything is written.

        Raises:
            FhirError: something would be; it names the element.
        """
        patients: Found = {}
        mapper = ObservationMapper(self._registrar.finder(patients), self._own_codes(), "id")
        sent: list[SentObservation] = []
        readings: list[tuple[Reading, int]] = []
        for position, operation in _in_order(operations):
            assert isinstance(operation, Operation)
            if operation.interaction in ("ignore", "read"):
                continue
            try:
                mapped = self._check(operation, caller, patients, mapper)
            except FhirError as error:
                raise in_entry(position, error.issue, error.status_code) from None
            if mapped.readings:
                sent += to_sent(mapped, caller.sub, "")
                readings += [(reading, position) for reading in mapped.readings]
        for row, reason in sorted(self._ingestion.find_faults(sent).items() if sent else ()):
            reading, position = readings[row]
            raise in_entry(position, refusal_issue(explain(reading.path, reading.signal, reason)), 422)

    def _check(self, operation: Operation, caller: Caller, patients: Found, mapper: ObservationMapper) -> MappedObservation:
        """Return the readings of an operation of a transaction, if nothing else speaks against it.

        Raises:
            FhirError: something does.
        """
        if operation.type == _DEVICE:
            read_device_report(operation.resource or {})
            return MappedObservation()
        if operation.type != _OBSERVATION:
            patient_id = self._registrar.identify(operation, patients, caller)
            self._registrar.require_version(operation, patient_id)
            if operation.type == "Encounter":
                self._registrar.read_stay(operation.resource or {}, caller)
            elif any(merging_links(operation.resource or {})):
                raise FhirError(422, "link: send what merges patients alone, or in a batch", ["Patient.link"])
            self._ingestion.require_movable(patient_id, caller)
            return MappedObservation()
        if operation.if_match is not None:
            _require_version(operation, self._observations.find([operation.id or ""]).get(operation.id or ""))
        if operation.resource is None:
            return MappedObservation()
        mapped = mapper.map({**operation.resource, "id": operation.id or "new"})
        if operation.is_lenient and _is_of_no_signal(mapped):
            return MappedObservation()
        if mapped.refusals:
            raise refused(mapped.refusals)
        assert mapped.patient_id is not None
        self._ingestion.require_visible(mapped.patient_id, caller)
        return mapped

    def _prepare(self, operation: Operation, identity: str, preparing: "_Preparing") -> "_Sent | Answer":
        """Return an Observation as it goes into the journal, or the answer where nothing has to be stored."""
        before, caller = preparing.known.get(identity), preparing.caller
        if operation.interaction == "create" and operation.identifier is not None and before is not None:
            return Answer(200, _OBSERVATION, before.id, before.version, before.updated_at, is_unchanged=True)
        _require_version(operation, before)
        if operation.resource is None:
            return self._prepare_deletion(identity, before, preparing)
        is_update = operation.interaction == "update" or (before is not None and before.deleted)
        version = 1 if before is None else before.version + is_update
        resource = {**operation.resource, "id": identity}
        meta = resource.get("meta")
        own: Mapping[str, Any] = meta if isinstance(meta, Mapping) else {}
        if version > 1 and ("versionId" not in own or _is_returned(own, operation, before)):
            resource["meta"] = {**own, "versionId": str(version)}
        mapped = preparing.mapper.map(resource)
        if operation.is_lenient and _is_of_no_signal(mapped):
            return Answer(200, issues=[refusal_issue(mapped.refusals[0], "warning")])
        if mapped.patient_id is None:
            raise refused(mapped.refusals)
        self._require_visible(mapped.patient_id, preparing)
        if before is not None and not self._is_same_patient(before.subject_id, mapped.patient_id):
            raise FhirError(422, "subject: expected the patient of the version before", ["Observation.subject"])
        sent = to_sent(mapped, caller.sub, f"{_OBSERVATION}/{identity}")
        return _Sent(identity, version, before if is_update else None, mapped, sent)

    def _require_visible(self, patient_id: str, preparing: "_Preparing") -> None:
        """Refuse a caller who may not act for a patient; each patient is looked up once in a request."""
        if patient_id not in preparing.visible:
            self._ingestion.require_visible(patient_id, preparing.caller)
            preparing.visible.add(patient_id)

    def _is_same_patient(self, subject: str, patient_id: str) -> bool:
        own = self._pseudonyms.subject_key(patient_id)
        return own == subject or len(set(self._journal.survivors_of([own, subject]).values())) == 1

    def _prepare_deletion(self, identity: str, before: SentResource | None, preparing: "_Preparing") -> "_Sent | Answer":
        if before is None:
            raise FhirError(404, "id: no such Observation was sent here")
        patient_id = self._directory.find(self._directory.reference(before.subject_id))
        if patient_id is None:
            raise FhirError(404, "id: the patient of this Observation is not known any more")
        self._require_visible(patient_id, preparing)
        version = before.version + (not before.deleted)  # again: the server may have died before the retraction was stored
        readings = [Reading(signal, None, None, None, RETRACTED, message) for message, signal, _ in before.readings]
        observed_at = next((time for _, _, time in before.readings), None)
        mapped = MappedObservation(patient_id, observed_at, version=version, readings=readings)
        sent = to_sent(mapped, preparing.caller.sub, "")
        return _Sent(identity, version, None if before.deleted else before, mapped, sent, is_deletion=True)

    def _id_of(self, operation: Operation, caller: Caller) -> str:
        """Return the id of an Observation: that of the URL, or one that is always the same for its identifier, or its content.

        What is sent again without an identifier is so the same Observation, as its readings are the same readings.
        """
        if operation.id is not None:
            return operation.id
        resource = operation.resource or {}
        name = operation.identifier or next(identifier_keys(resource), None) or _content_of(resource)
        return self._directory.ids.of_message(caller.sub, name)

    async def _store(self, sent: Mapping[int, _Sent], caller: Caller) -> dict[int, Answer]:
        """Store Observations, and answer each when its readings are on the disk."""
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
        receipts = iter(await self._ingestion.accept(observations, caller)) if observations else iter(())
        own = {position: [next(receipts) for _ in each.observations] for position, each in stored.items()}
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

    def _settle_times(self, ahead: Sequence[_Sent], begun_at: int) -> None:
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

    def _row(self, sent: _Sent) -> SentResource:
        patient_id = sent.mapped.patient_id
        assert patient_id is not None
        readings = [
            (reading.message_id or "", reading.signal, sent.mapped.observed_at)
            for reading in sent.readings
            if reading.status != RETRACTED and reading.refusal is None
        ]
        kept = sent.before.readings if sent.is_deletion and sent.before is not None else readings
        subject = self._pseudonyms.subject_key(patient_id)
        return SentResource(sent.id, subject, sent.version, sent.updated_at, sent.is_deletion, kept)

    @staticmethod
    def _answer(sent: _Sent, receipts: Sequence[Receipt], *, is_new: bool) -> Answer:
        pairs = list(zip(sent.readings, receipts, strict=True))
        refusals = [
            reading.refusal or explain(reading.path, reading.signal, receipt.reason)
            for reading, receipt in pairs
            if receipt.status == "quarantined" and receipt.reason is not None
        ]
        if not _counts(receipts):
            return Answer(422, issues=[refusal_issue(refusal) for refusal in refusals])
        issues = [refusal_issue(refusal, "warning") for refusal in refusals]
        if sent.mapped.ignored:
            issues.append(issue("informational", f"{sent.mapped.ignored} values are of no signal here", severity="information"))
        if sent.mapped.absent:
            issues.append(
                issue("informational", f"{sent.mapped.absent} values are absent, with a reason", severity="information")
            )
        status = 204 if sent.is_deletion else 201 if is_new else 200
        is_unchanged = status == 200 and sent.before is None
        return Answer(status, _OBSERVATION, sent.id, sent.version, sent.updated_at, issues, is_unchanged)


def _require_version(operation: Operation, known: SentResource | None) -> None:
    """Check that the version that a client has seen, if it says which, is the present one."""
    if operation.if_match is not None and (known is None or known.version != operation.if_match):
        raise FhirError(412, "If-Match: another version is the present one; read it, and decide again")


def _is_returned(meta: Mapping[str, Any], operation: Operation, before: SentResource | None) -> bool:
    """Return whether a client sends back the ``meta`` that this server gave: then it numbers no versions of its own."""
    if before is None or meta.get("versionId") != str(before.version):
        return False
    return operation.if_match is not None or meta.get("lastUpdated") == write_instant(instant(before.updated_at))


def _content_of(resource: Mapping[str, Any]) -> str:
    """Return a name that two resources have in common if they say the same, whatever the sender calls them."""
    said = {name: value for name, value in resource.items() if name not in ("id", "meta")}
    return hashlib.blake2b(json.dumps(said, sort_keys=True).encode(), digest_size=16).hexdigest()


def _observations(operations: Sequence[Operation | FhirError]) -> list[tuple[int, Operation]]:
    return [
        (position, operation)
        for position, operation in enumerate(operations)
        if isinstance(operation, Operation) and operation.type == _OBSERVATION
    ]


def _in_order(operations: Sequence[Operation | FhirError]) -> list[tuple[int, Operation | FhirError]]:
    """Return operations with their positions in the order of the specification: deletions, Patients, Encounters, the others."""

    def rank(operation: Operation | FhirError) -> int:
        if isinstance(operation, FhirError) or operation.interaction == "delete":
            return 0
        return {"Patient": 1, "Encounter": 2}.get(operation.type, 3)

    return sorted(enumerate(operations), key=lambda pair: rank(pair[1]))


def _counts(receipts: Sequence[Receipt]) -> bool:
    """Return whether an Observation was taken: one of its readings was, or it has none."""
    return not receipts or any(receipt.status != "quarantined" for receipt in receipts)


def _is_of_no_signal(mapped: MappedObservation) -> bool:
    return len(mapped.readings) == 1 and any(refusal.reason == "unknown_signal" for refusal in mapped.refusals)
