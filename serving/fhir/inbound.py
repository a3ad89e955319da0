"""What FHIR clients send: Patients, Encounters and Observations become registrations, merges and readings.

The edge translates and decides nothing: :class:`vigil.serving.stream.ingestion.Ingestion` checks wards, quarantines and stores,
as for every door. An Observation is acknowledged when its readings are on the disk.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from vigil.features.pseudonyms import Pseudonyms
from vigil.serving.auth.access import OtherWardError
from vigil.serving.auth.tokens import Caller
from vigil.serving.fhir.answers import Answer, elsewhere, ignored, in_entry, refused
from vigil.serving.fhir.devices import read_device_report
from vigil.serving.fhir.directory import Directory
from vigil.serving.fhir.observation_writer import OBSERVATION, ObservationWriter, Sent
from vigil.serving.fhir.observations import ObservationMapper, Reading
from vigil.serving.fhir.operations import Operation
from vigil.serving.fhir.outcomes import FhirError, issue, refusal_issue
from vigil.serving.fhir.refusals import explain
from vigil.serving.fhir.registrar import Found, Registrar, merging_links
from vigil.serving.records.fhir_observations import FhirObservations
from vigil.serving.records.journal import Journal
from vigil.serving.records.not_recorded import NotRecordedError
from vigil.serving.records.silence_rows import DeviceReport
from vigil.serving.records.silences import Silences
from vigil.serving.records.timestamps import microsecond, present
from vigil.serving.stream.ingestion import Ingestion, SentObservation

_TRIES: Final = 5  # to come after an update that was faster
_DEVICE: Final = "Device"


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
        self._writer = ObservationWriter(directory, ingestion, journal, pseudonyms, observations)
        self._directory, self._ingestion = directory, ingestion
        self._own_codes, self._silences = own_codes, silences

    async def take(self, operations: Sequence[Operation | FhirError], caller: Caller) -> list[Answer]:
        """Do each operation that can be done, and answer each, in order: a batch.

        Patients come first, then Encounters, then all Observations in one commit. An update that names no version and was
        overtaken by another one comes after it.
        """
        answers, sent = await asyncio.to_thread(self._begin, operations, caller)
        answers |= await self._writer.store(sent, caller)
        for _ in range(_TRIES):
            overtaken = (position for position, answer in answers.items() if answer.status == 412)
            again = [position for position in overtaken if getattr(operations[position], "if_match", 0) is None]
            if not again:
                break
            more, sent = await asyncio.to_thread(self._begin, [operations[position] for position in again], caller)
            more |= await self._writer.store(sent, caller)
            answers |= {position: more[number] for number, position in enumerate(again)}
        return [answers[position] for position in range(len(operations))]

    def _begin(self, operations: Sequence[Operation | FhirError], caller: Caller) -> tuple[dict[int, Answer], dict[int, Sent]]:
        """Register patients, and return what is answered by then, and the Observations that are to be stored."""
        answers: dict[int, Answer] = {}
        sent: dict[int, Sent] = {}
        patients: Found = {}
        preparing = self._writer.begin(_observations(operations), caller, self._mapper(patients))
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
                if operation.type != OBSERVATION:
                    answers[position] = self._registrar.register(operation, caller, patients)
                    continue
                prepared = self._writer.prepare(operation, preparing)
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
        preparing = self._writer.begin(_observations(operations), caller, self._mapper(patients))
        sent: list[SentObservation] = []
        readings: list[tuple[Reading, int]] = []
        for position, operation in _in_order(operations):
            assert isinstance(operation, Operation)
            if operation.interaction in ("ignore", "read"):
                continue
            try:
                if operation.type != OBSERVATION:
                    self._check(operation, caller, patients)
                    continue
                prepared = self._writer.prepare(operation, preparing)
                if isinstance(prepared, Answer):
                    continue
                if prepared.mapped.refusals:
                    raise refused(prepared.mapped.refusals)
            except FhirError as error:
                raise in_entry(position, error.issue, error.status_code) from None
            sent += prepared.observations
            readings += [(reading, position) for reading in prepared.readings]
        for row, reason in sorted(self._ingestion.find_faults(sent).items() if sent else ()):
            reading, position = readings[row]
            raise in_entry(position, refusal_issue(explain(reading.path, reading.signal, reason)), 422)

    def _check(self, operation: Operation, caller: Caller, patients: Found) -> None:
        """Check an operation of a transaction that is of no Observation.

        Raises:
            FhirError: something speaks against it.
        """
        if operation.type == _DEVICE:
            read_device_report(operation.resource or {})
            return
        patient_id = self._registrar.identify(operation, patients, caller)
        self._registrar.require_version(operation, patient_id)
        if operation.type == "Encounter":
            self._registrar.read_stay(operation.resource or {}, caller)
        elif any(merging_links(operation.resource or {})):
            raise FhirError(422, "link: send what merges patients alone, or in a batch", ["Patient.link"])
        self._ingestion.require_movable(patient_id, caller)

    def _mapper(self, patients: Found) -> ObservationMapper:
        return ObservationMapper(self._registrar.finder(patients), self._own_codes(), "id")


def _observations(operations: Sequence[Operation | FhirError]) -> list[Operation]:
    """Return the operations that write Observations."""
    return [
        operation
        for operation in operations
        if isinstance(operation, Operation)
        and operation.type == OBSERVATION
        and operation.interaction not in ("ignore", "read")
    ]


def _in_order(operations: Sequence[Operation | FhirError]) -> list[tuple[int, Operation | FhirError]]:
    """Return operations with their positions in the order of the specification: deletions, Patients, Encounters, the others."""

    def rank(operation: Operation | FhirError) -> int:
        if isinstance(operation, FhirError) or operation.interaction == "delete":
            return 0
        return {"Patient": 1, "Encounter": 2}.get(operation.type, 3)

    return sorted(enumerate(operations), key=lambda pair: rank(pair[1]))
