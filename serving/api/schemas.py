"""What the API takes and gives. Bounds come from the signal table; validation errors never repeat the input."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from features.identifiers import IDENTIFIER
from features.signals import SIGNALS
from models.alarms.safety_net import Band, Reason, Score
from models.assessment import Basis, DecidedBy, Finding

MAX_PATIENTS = 500
MAX_OBSERVATIONS = 5_000
MAX_BODY_BYTES = 1_000_000


def _no_number(value: Any) -> Any:
    """A bare number would be read as seconds or milliseconds since 1970, whichever seems likelier."""
    if isinstance(value, int | float) or (isinstance(value, str) and not re.match(r"\d{4}-\d{2}-\d{2}", value)):
        raise ValueError("expected an instant such as 2026-01-31T08:00:00Z")
    return value


# Instants outside these years are slips of a clock, and would leave the range of the time types behind the API.
Instant = Annotated[
    AwareDatetime, BeforeValidator(_no_number), Field(ge=datetime(1990, 1, 1, tzinfo=UTC), lt=datetime(2100, 1, 1, tzinfo=UTC))
]
# A name in one spelling: what cannot be told apart by eye must not be two patients.
Name = Annotated[str, Field(min_length=1, max_length=128, pattern=IDENTIFIER)]
PatientId = Annotated[Name, Field(description="The patient's identifier, without blanks at the ends.", examples=["sim-000017"])]
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
    Field(description="The time as of which the risk is asked. Default: now (a replayed cohort: its stay's last hour)."),
]


Sex = Literal["female", "male"]
SEX_CODES: Final[Mapping[Sex, float]] = {"female": 0.0, "male": 1.0}  # of the feature
Pregnant = Annotated[
    Annotated[bool, Field(strict=True)] | None,
    Field(description="NEWS2 is not made for pregnancy: it sounds no alarm then, and the answer says so. Default: unknown."),
]

Include = Literal["contributions", "range"]
Included = Annotated[
    list[Include],
    Field(
        max_length=2,
        description="What else to say: contributions (the signals that moved the risk most) and range (the lowest and highest "
        "probability that the evidence supports). They take longer.",
    ),
]


class Request(BaseModel):
    """What is asked. Its example in the OpenAPI document is one that the server of a fresh demo home answers."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


def example(body: dict[str, Any], **rules: Any) -> ConfigDict:
    """The configuration of a :class:`Request` with this example, and rules of JSON schema over several fields."""
    return ConfigDict(json_schema_extra={"examples": [body], **rules})


_PREGNANT_AGES: Final = (10, 60)  # years, both included; wide: what lies beyond is a slip
_POSSIBLE_PREGNANCY: Final[dict[str, Any]] = {  # what PatientFacts refuses, for clients that check before they send
    "anyOf": [
        {"properties": {"pregnant": {"enum": [False, None]}}},
        {
            "properties": {
                "sex": {"enum": ["female", None]},
                "age": {"type": ["number", "null"], "minimum": _PREGNANT_AGES[0], "maximum": _PREGNANT_AGES[1]},
            }
        },
    ]
}


class PatientFacts(Request):
    """Who a patient is and since when they are here; null or absent: unknown."""

    model_config = ConfigDict(json_schema_extra=_POSSIBLE_PREGNANCY)

    age: Annotated[float | None, Field(strict=True, ge=0, le=130, description="years")] = None
    sex: Sex | None = None
    pregnant: Pregnant = None
    unit_admitted_at: Instant | None = None
    hospital_admitted_at: Instant | None = None

    @model_validator(mode="after")
    def _pregnancy_is_possible(self) -> Self:
        """Refuse a slip that would switch NEWS2 off."""
        low, high = _PREGNANT_AGES
        if self.pregnant and (self.sex == "male" or (self.age is not None and not low <= self.age <= high)):
            raise ValueError(f"pregnant: expected true of female patients of {low} to {high} years only; check sex and age")
        return self


class RiskRequest(Request):
    """The risk of one patient, from the features in the store."""

    model_config = example({"patient_id": "sim-000017", "include": ["contributions", "range"]})

    patient_id: PatientId
    as_of: AsOf = None
    include: Included = []


class RisksRequest(Request):
    """The risk of several patients."""

    model_config = example({"patient_ids": ["sim-000017", "sim-000018"]})

    patient_ids: Annotated[list[PatientId], Field(min_length=1, max_length=MAX_PATIENTS)]
    as_of: AsOf = None
    include: Included = []


class ObservationIn(Request):
    """One reading. The unit, where given, must be the signal's UCUM unit."""

    signal: Annotated[str, Field(max_length=64, examples=["heart_rate"], json_schema_extra={"enum": list(SIGNALS)})]
    value: Annotated[float, Field(strict=True, allow_inf_nan=False, examples=[112])]
    observed_at: Instant
    unit: Annotated[str | None, Field(max_length=32, examples=["/min"])] = None


class ObservationsRequest(PatientFacts):
    """The risk of a patient from readings in the request alone; nothing is stored but the prediction."""

    model_config = example(
        {
            "patient_id": "sim-000017",
            "observations": [
                {"signal": "heart_rate", "value": 112, "observed_at": "2026-01-31T08:00:00Z", "unit": "/min"},
                {"signal": "spo2", "value": 91, "observed_at": "2026-01-31T08:00:00Z", "unit": "%"},
            ],
            "age": 71,
            "sex": "female",
        },
        **_POSSIBLE_PREGNANCY,
    )

    patient_id: PatientId
    observations: Annotated[list[ObservationIn], Field(min_length=1, max_length=MAX_OBSERVATIONS)]
    as_of: Annotated[Instant | None, Field(description="Default: the time of the latest reading.")] = None
    include: Included = []


class News2(BaseModel):
    """NEWS2 from the latest readings of the last 24 h; a missing part counts 0 in ``score`` and its maximum in ``highest``."""

    score: int
    highest: int
    parts: Annotated[dict[str, int | None], Field(description="Points of each component; null: not measured.")]
    sustained: Annotated[
        int | None,
        Field(
            description="The score that the safety net goes by: where a signal comes continuously, of the median of its last "
            "15 minutes. Null where NEWS2 does not apply, or no component is known."
        ),
    ]
    use_instead: Annotated[
        Score | None,
        Field(description="NEWS2 is made for patients of 16 years and over who are not pregnant. The score made for others."),
    ]


class Contribution(BaseModel):
    """How much a signal moved the log-odds of this risk from the average patient's."""

    signal: str
    log_odds: float
    measured: Annotated[
        bool | None,
        Field(
            description="False: the signal was not measured, and the model counts that; it says nothing good of the patient. "
            "Null: not a measured signal, such as age or a score."
        ),
    ]


class Range(BaseModel):
    """Lowest and highest probability that the evidence supports (Venn-Abers)."""

    low: float
    high: float


class ModelReference(BaseModel):
    """Which model answered, and from which features; without a model, or where it was withdrawn, its name is null."""

    name: str | None
    version: str | None
    feature_service: str
    simulated: Annotated[bool | None, Field(description="True: learned from a simulated ward; no clinical evidence.")]


class DataAge(BaseModel):
    """How old the data behind the answer are, in hours before ``as_of``."""

    features_hours: float
    latest_reading_hours: float | None


class RiskAnswer(BaseModel):
    """A risk, as of a time.

    A model adds to NEWS2 and never hides it: the band is the worse of both. Where the model cannot be asked, ``basis`` is
    ``news2``, and ``findings`` say why.
    """

    prediction_id: str
    patient_id: str
    as_of: datetime
    index_time: Annotated[datetime, Field(description="The time up to which readings were considered.")]
    horizon_hours: float
    outcome: str
    basis: Basis
    probability: Annotated[float | None, Field(description="Of the outcome within the horizon; null on the basis of NEWS2.")]
    range: Annotated[Range | None, Field(description="On request.")]
    band: Annotated[
        Band,
        Field(
            description="The worse of the model's, by its thresholds, and NEWS2's, by the RCP's chart. unknown: too little is "
            "known to call the patient low."
        ),
    ]
    decided_by: Annotated[DecidedBy, Field(description="What set the band; model where both agree.")]
    reasons: Annotated[list[Reason], Field(description="Rules of NEWS2 that ask for more than routine care.")]
    findings: list[Finding]
    unusual: Annotated[
        list[str], Field(description="With outside_training: what sets the patient apart from those the model learned from.")
    ]
    news2: News2
    contributions: Annotated[list[Contribution] | None, Field(description="On request.")]
    model: ModelReference
    data_age: DataAge


class Problem(BaseModel):
    """An error (RFC 9457). It names the field, the rule, what was expected and what to do; never the value."""

    title: str
    status: int
    code: str
    detail: str
    errors: list[dict[str, Any]] = []


class RiskItem(BaseModel):
    """One patient's part of an answer: a risk, or why there is none."""

    patient_id: str
    risk: RiskAnswer | None = None
    problem: Problem | None = None


class RisksAnswer(BaseModel):
    """In the order asked for."""

    items: list[RiskItem]
