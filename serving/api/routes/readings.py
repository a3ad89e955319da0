"""Readings in, and who the patients are: ``POST /v1/observations`` and ``POST /v1/patients``."""

import asyncio
import math
from collections.abc import Callable, Collection
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Security
from pydantic import BaseModel, Field, StrictBool, StrictFloat, TypeAdapter, ValidationError, WithJsonSchema

from features.signals import SIGNALS
from serving.api import problems
from serving.api.problems import ProblemError
from serving.api.quarantine_reasons import explain
from serving.api.schemas import (
    MAX_OBSERVATIONS,
    MAX_PATIENTS,
    SEX_CODES,
    Instant,
    Name,
    PatientFacts,
    PatientId,
    Request,
    WardName,
    example,
)
from serving.auth.middleware import PartsHere, authorized
from serving.auth.tokens import Caller
from serving.composition import Parts
from serving.records.database import microsecond
from serving.records.timestamps import utc

router: Final = APIRouter(prefix="/v1", tags=["readings"])

# Strict: a text that is too long must not be tried as a number instead.
_Sent = Annotated[str, Field(max_length=64)] | StrictFloat | StrictBool | None
_INSTANT: Final[TypeAdapter[datetime]] = TypeAdapter(Instant)


class ReadingIn(Request):
    """One reading. What cannot be used is quarantined with a reason, while the rest of the request counts.

    A fault of form is another thing, such as a list for a value, a field that is not of the schema or too long a text: the
    whole request is refused (422) and nothing of it is kept. Send the rest without the items that the problem names.
    """

    message_id: Annotated[
        Name,
        Field(description="The sender's own name of the message; one sent again counts once."),
    ]
    patient_id: PatientId
    # The document says what can be used. Anything else is quarantined, not refused with all that came beside it.
    signal: Annotated[
        str, Field(max_length=64, examples=["heart_rate"]), WithJsonSchema({"type": "string", "enum": [*SIGNALS]})
    ]
    value: Annotated[_Sent, WithJsonSchema({"type": "number", "description": "In the signal's unit.", "examples": [112]})]
    observed_at: Annotated[
        _Sent,
        WithJsonSchema(
            {
                "type": "string",
                "format": "date-time",
                "description": "When it was measured: an instant with its time zone.",
                "examples": ["2026-01-31T08:00:00Z"],
            }
        ),
    ]
    unit: Annotated[str | None, Field(max_length=32, examples=["/min"], description="UCUM; must be the signal's.")] = None
    device_id: Annotated[Name | None, Field(examples=["monitor-12"])] = None
    source: Annotated[Name | None, Field(examples=["gateway-7"], description="The gateway.")] = None


class ReadingsIn(Request):
    """Readings of any patients, in any order."""

    model_config = example(
        {
            "observations": [
                {
                    "message_id": "1001",
                    "patient_id": "sim-000017",
                    "signal": "heart_rate",
                    "value": 112,
                    "unit": "/min",
                    "observed_at": "2026-01-31T08:00:00Z",
                    "device_id": "monitor-12",
                    "source": "gateway-7",
                },
                {
                    "message_id": "1002",
                    "patient_id": "sim-000017",
                    "signal": "spo2",
                    "value": 91,
                    "observed_at": "2026-01-31T08:00:00Z",
                },
            ]
        }
    )

    observations: Annotated[list[ReadingIn], Field(min_length=1, max_length=MAX_OBSERVATIONS)]


class ReadingResult(BaseModel):
    """What became of a reading: ``accepted`` and ``duplicate`` are on the disk, ``quarantined`` is put aside."""

    message_id: str
    status: Literal["accepted", "duplicate", "quarantined"]
    reason: Annotated[str | None, Field(description="Why it was quarantined.")] = None
    field: str | None = None
    expected: str | None = None


class ReadingsOut(BaseModel):
    """Results in the order of the request."""

    accepted: int
    duplicate: int
    quarantined: int
    warning: Annotated[
        str | None, Field(description="Where no reading of the request can be used: a fault of the sender, most likely.")
    ]
    results: list[ReadingResult]


class PatientIn(PatientFacts):
    """Who a patient is and where, from now on; replaces what was said before."""

    patient_id: PatientId
    ward: WardName
    discharged: Annotated[bool, Field(strict=True, description="True: monitoring stops, and open alarms end.")] = False


class PatientsIn(Request):
    """Patients, each once."""

    model_config = example(
        {
            "patients": [
                {
                    "patient_id": "sim-000017",
                    "ward": "B4",
                    "age": 71,
                    "sex": "female",
                    "unit_admitted_at": "2026-01-30T18:20:00Z",
                }
            ]
        }
    )

    patients: Annotated[list[PatientIn], Field(min_length=1, max_length=MAX_PATIENTS)]


class PatientsOut(BaseModel):
    """How many were kept."""

    registered: int


@router.post("/observations", summary=f"Send up to {MAX_OBSERVATIONS} readings")
async def send_readings(
    request: ReadingsIn, parts: PartsHere, caller: Annotated[Caller, Security(authorized, scopes=["observations:write"])]
) -> ReadingsOut:
    """Each reading is on the disk before this is answered. Sending the same message again changes nothing."""
    readings, identities = _pseudonymised(parts, request)
    patients = {reading["subject_id"] for reading in readings}
    await asyncio.to_thread(_refuse, "observations", parts, caller, lambda: parts.hidden(caller, patients))
    received = await asyncio.wrap_future(parts.intake.submit(readings, identities))
    results = []
    for reading, result in zip(request.observations, received, strict=True):
        field, expected = explain(result.reason, reading.signal) if result.reason else (None, None)
        results.append(
            ReadingResult(
                message_id=reading.message_id, status=result.status, reason=result.reason, field=field, expected=expected
            )
        )
    counts = {
        status: sum(result.status == status for result in received) for status in ("accepted", "duplicate", "quarantined")
    }
    lost = counts["quarantined"] == len(received)
    warning = f"none of the {len(received)} readings can be used, and all are put aside; see results for why" if lost else None
    return ReadingsOut(**counts, warning=warning, results=results)


@router.post("/patients", summary=f"Say who up to {MAX_PATIENTS} patients are, and where")
def register_patients(
    request: PatientsIn, parts: PartsHere, caller: Annotated[Caller, Security(authorized, scopes=["patients:write"])]
) -> PatientsOut:
    """Age, sex and admission are features; the ward is who is told. Readings of patients whom nobody registered count, too.

    A token that is bound to wards registers into these whoever is in no ward yet; from other wards it moves nobody.
    """
    for place, patient in enumerate(request.patients):
        if not caller.may_see(patient.ward):
            raise ProblemError(problems.not_your_ward(f"patients.{place}.ward"))
    pseudonyms = [parts.pseudonyms.of(patient.patient_id) for patient in request.patients]
    identities = {p: patient.patient_id for p, patient in zip(pseudonyms, request.patients, strict=True)}
    facts = [_facts(p, patient) for p, patient in zip(pseudonyms, request.patients, strict=True)]

    def check_and_keep() -> None:
        """While nobody else writes: of two wards that register a patient at once one is refused."""
        _refuse("patients", parts, caller, lambda: parts.claimed(caller, pseudonyms))
        parts.identities.keep(identities)

    parts.journal.register(facts, first=check_and_keep)
    return PatientsOut(registered=len(pseudonyms))


def _pseudonymised(parts: Parts, request: ReadingsIn) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Readings as the journal takes them; nothing behind this line knows an identifier."""
    pseudonym = {identifier: parts.pseudonyms.of(identifier) for identifier in {r.patient_id for r in request.observations}}
    readings = [
        {
            "subject_id": pseudonym[reading.patient_id],
            "signal": reading.signal,
            "value": _number(reading.value),
            "unit": reading.unit,
            "observed_at": _time(reading.observed_at),
            "device_id": reading.device_id,
            "source": reading.source,
            "message_id": reading.message_id,
            "sent": {"value": reading.value, "observed_at": reading.observed_at},
        }
        for reading in request.observations
    ]
    return readings, {code: identifier for identifier, code in pseudonym.items()}


def _number(value: float | str | bool | None) -> float:
    """A number, or NaN for what is none: a text is not read as one, since nobody knows its decimal sign."""
    return float(value) if isinstance(value, float | int) and not isinstance(value, bool) else math.nan


def _time(value: str | float | bool | None) -> Any:
    try:
        return utc(_INSTANT.validate_python(value))
    except ValidationError:
        return None


def _facts(pseudonym: str, patient: PatientIn) -> dict[str, Any]:
    admitted = {"unit_admitted_at": patient.unit_admitted_at, "hospital_admitted_at": patient.hospital_admitted_at}
    return {
        "patient": pseudonym,
        "ward": patient.ward,
        "age": patient.age,
        "sex": None if patient.sex is None else SEX_CODES[patient.sex],
        **{name: None if time is None else microsecond(utc(time)) for name, time in admitted.items()},
        "discharged": patient.discharged,
        "pregnant": patient.pregnant,
    }


def _refuse(field: str, parts: Parts, caller: Caller, elsewhere: Callable[[], Collection[str]]) -> None:
    """Refuse a request of which some patients are elsewhere, without saying which: that is not the caller's to know."""
    if parts.was_refused_too_often(caller):
        raise ProblemError(problems.too_many_refusals())
    if elsewhere():
        parts.note_refusal(caller)
        raise ProblemError(problems.not_your_ward(field))
