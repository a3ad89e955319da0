"""What several requests of the API share. Ranges come from the signal table; validation errors never repeat the input."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from vigil.features.identifiers import IDENTIFIER
from vigil.serving.instant import Instant
from vigil.serving.records.registration import Registration
from vigil.serving.records.timestamps import SKEW, microsecond, present, utc
from vigil.serving.scoring.risk_report import Include

MAX_PATIENTS = 500
MAX_OBSERVATIONS = 5_000
MAX_BODY_BYTES = 1_000_000

# A name in one spelling: what cannot be told apart by eye must not be two patients.
Name = Annotated[str, Field(min_length=1, max_length=128, pattern=IDENTIFIER)]
PatientId = Annotated[Name, Field(description="The patient's identifier, without blanks at the ends.", examples=["sim-000017"])]
MergedInto = Annotated[
    str | None,
    Field(description="The patient identifier that this one was merged into, and that the answer is about; null: none."),
]
WardName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=64,
        pattern=r"^[A-Za-z0-9_.-]+$",
        description="A to Z, a to z, digits, _, . and -.",
        examples=["B4"],
    ),
]
AsOf = Annotated[
    Instant | None,
    Field(description="The time to answer for. Default: now; for a replayed cohort the last hour of the patient's stay."),
]
Included = Annotated[
    list[Include],
    Field(
        max_length=2,
        description="What to add, at the cost of time: contributions (the signals that moved the risk most), range (the lowest "
        "and highest probability that the evidence supports).",
    ),
]


def _without_decimals(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


# As JSON schema has it: 2.0 is an integer, and true is none. It stands last, so that the document has the limits beside it.
WHOLE: Final = BeforeValidator(_without_decimals)

Sex = Literal["female", "male", "other", "unknown"]  # HL7 AdministrativeGender
_SEX_CODES: Final[Mapping[Sex, float]] = {"female": 0.0, "male": 1.0}  # of the feature; else it is unknown


class Request(BaseModel):
    """The body of a request. Its example in the OpenAPI document is one that the server of a fresh demo home answers."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


def example(body: dict[str, Any], **rules: Any) -> ConfigDict:
    """Return the configuration of a :class:`Request` with an example, and rules of JSON schema over several fields."""
    return ConfigDict(json_schema_extra={"examples": [body], **rules})


_PREGNANT_AGES: Final = (10, 60)  # years, both included; wide: what lies beyond is a slip
POSSIBLE_PREGNANCY: Final[dict[str, Any]] = {  # what PatientFacts refuses, for clients that check before they send
    "anyOf": [
        {"properties": {"pregnant": {"enum": [False, None]}}},
        {
            "properties": {
                "sex": {"enum": ["female", "other", "unknown", None]},
                "age": {"type": ["number", "null"], "minimum": _PREGNANT_AGES[0], "maximum": _PREGNANT_AGES[1]},
            }
        },
    ]
}


class PatientFacts(Request):
    """Who a patient is and since when they are here; null or absent: unknown."""

    model_config = ConfigDict(json_schema_extra=POSSIBLE_PREGNANCY)

    age: Annotated[float | None, Field(strict=True, ge=0, le=130, description="years")] = None
    sex: Sex | None = None
    pregnant: Annotated[
        Annotated[bool, Field(strict=True)] | None,
        Field(
            description="NEWS2 is not made for pregnancy: it sounds no alarm then, and the answer says so. Default: unknown."
        ),
    ] = None
    unit_admitted_at: Instant | None = None
    hospital_admitted_at: Instant | None = None

    @model_validator(mode="after")
    def _pregnancy_is_possible(self) -> Self:
        """Refuse a slip that would switch NEWS2 off."""
        low, high = _PREGNANT_AGES
        if self.pregnant and (self.sex == "male" or (self.age is not None and not low <= self.age <= high)):
            raise ValueError(f"pregnant: expected true of female patients of {low} to {high} years only; check sex and age")
        return self

    @field_validator("unit_admitted_at", "hospital_admitted_at")
    @classmethod
    def _admission_is_past(cls, time: datetime | None) -> datetime | None:
        if time is not None and utc(time) > present() + SKEW:
            raise ValueError("expected a time at or before the present of the server")
        return time

    def registration(self, *, ward: str = "", discharged: bool = False) -> Registration:
        """Return these facts as the journal stores them, still without a subject key."""
        admitted = {"unit_admitted_at": self.unit_admitted_at, "hospital_admitted_at": self.hospital_admitted_at}
        return Registration(
            subject_id="",
            ward=ward,
            age=self.age,
            sex=None if self.sex is None else _SEX_CODES.get(self.sex),
            **{name: None if time is None else microsecond(utc(time)) for name, time in admitted.items()},
            discharged=discharged,
            pregnant=self.pregnant,
        )
