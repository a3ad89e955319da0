"""Requests and answers about observations and registrations."""

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, Field, StrictBool, StrictFloat, WithJsonSchema

from vigil.features.codes import accepted_names
from vigil.features.signals import bounded_signals
from vigil.serving.api.schemas.bounds import Comparator
from vigil.serving.api.schemas.request import (
    MAX_OBSERVATIONS,
    MAX_PATIENTS,
    WHOLE,
    Name,
    PatientFacts,
    PatientId,
    Request,
    WardName,
    example,
)

# Strict: a text that is too long must not be tried as a number instead.
_Sent = Annotated[str, Field(max_length=64)] | StrictFloat | StrictBool | None


class SentObservationIn(Request):
    """One observation. One that cannot be used is quarantined with a reason, while the rest of the request counts.

    A fault of form, such as a list as a value, an unknown field or too long a text, is different: the whole request is refused
    (422) and nothing of it is stored. Send the rest without the items that the problem names.
    """

    message_id: Annotated[
        Name,
        Field(description="The sender's own name of the message; if it is sent again, it counts once."),
    ]
    patient_id: PatientId
    # The document states what can be used. Anything else is quarantined, not refused with the rest of the request.
    signal: Annotated[
        str, Field(max_length=64, examples=["heart_rate"]), WithJsonSchema({"type": "string", "enum": accepted_names()})
    ]
    value: Annotated[
        _Sent,
        WithJsonSchema(
            {
                "anyOf": [{"type": "number"}, {"enum": ["low", "high"]}, {"type": "null"}],
                "description": "low and high: beyond the device's measuring range, which its source declares (sources.toml). "
                "Null in a retraction.",
                "examples": [112],
            }
        ),
    ]
    comparator: Annotated[
        Annotated[str, Field(max_length=8)] | None,
        WithJsonSchema(
            {
                "anyOf": [{"enum": [*get_args(Comparator)]}, {"type": "null"}],
                "description": "Makes the value a bound: < 40 says that it is below 40. No number is made of it. Bounds are "
                f"taken of {', '.join(bounded_signals())}.",
            }
        ),
    ] = None
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
    received_at: Annotated[
        _Sent,
        WithJsonSchema(
            {
                "anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}],
                "description": "When the gateway first received it, by its own clock. Counts in place of observed_at where the "
                "source declares that the clocks of its devices are not to be believed (sources.toml).",
            }
        ),
    ] = None
    unit: Annotated[
        str | None,
        Field(
            max_length=32,
            examples=["/min"],
            description="UCUM. May be left out where only one unit of the signal could be meant.",
        ),
    ] = None
    device_id: Annotated[Name | None, Field(examples=["monitor-12"])] = None
    source: Annotated[Name | None, Field(examples=["gateway-7"], description="The gateway.")] = None
    status: Annotated[
        Literal["final", "corrected", "retracted"],
        Field(
            description="corrected: this takes the place of what the same message said of this signal before. retracted: that "
            "was entered in error. Both count from the time they are stored on, and not before."
        ),
    ] = "final"
    version: Annotated[
        Annotated[int, Field(strict=True, ge=1, le=1_000_000), WHOLE] | None,
        Field(
            description="Number of this version of the observation. One that arrives after a newer one changes nothing. "
            "Default: versions are numbered as they arrive, the original 1.",
        ),
    ] = None


class ObservationsIn(Request):
    """Observations of any patients, in any order."""

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

    observations: Annotated[list[SentObservationIn], Field(min_length=1, max_length=MAX_OBSERVATIONS)]


class ReceiptOut(BaseModel):
    """What became of an observation: ``accepted`` and ``duplicate`` are on the disk, ``quarantined`` is stored apart."""

    message_id: str
    status: Literal["accepted", "duplicate", "quarantined"]
    reason: Annotated[str | None, Field(description="Why it was quarantined.")] = None
    field: str | None = None
    expected: str | None = None


class ReceiptsAnswer(BaseModel):
    """Receipts in the order of the request."""

    accepted: int
    duplicate: int
    quarantined: int
    warning: Annotated[
        str | None, Field(description="If no observation of the request can be used: most likely a fault of the sender.")
    ]
    results: list[ReceiptOut]


class PatientIn(PatientFacts):
    """Who a patient is and where, from now on; it replaces the registration before."""

    patient_id: PatientId
    ward: WardName
    discharged: Annotated[bool, Field(strict=True, description="True: monitoring stops, and open alarms end.")] = False


class PatientsIn(Request):
    """Patients to register."""

    model_config = example(
        {
            "patients": [
                {
                    "patient_id": "sim-000017",
                    "ward": "B4",
                    "age": 71,
                    "sex": "female",
                    "unit_admitted_at": "2026-01-30T18:20:00Z",
                },
                {"patient_id": "emergency-0042", "ward": "B4"},
            ]
        }
    )

    patients: Annotated[list[PatientIn], Field(min_length=1, max_length=MAX_PATIENTS)]


class PatientsAnswer(BaseModel):
    """How many patients were registered."""

    registered: int
