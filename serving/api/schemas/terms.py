"""Requests and answers about the terms of a patient."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, overload

from pydantic import BaseModel, Field, StringConstraints, ValidationInfo, field_validator

from features.signals import SIGNALS
from models.alarms.patient_terms import LIMITED_SIGNALS, PatientTerms, SignalLimits
from models.bedside import Spo2Scale
from serving.api.schemas.request import PatientId, Request, example
from serving.instant import Instant
from serving.records.timestamps import microsecond, moment, present, utc


class LimitsIn(Request):
    """At or beyond which a value of the signal sounds an alarm, in the signal's own unit; null or absent: no such limit."""

    low: Annotated[float | None, Field(strict=True)] = None
    high: Annotated[float | None, Field(strict=True)] = None


class LimitsBySignal(Request):
    """Limits of the signals that NEWS2 measures."""

    respiratory_rate: LimitsIn | None = None
    spo2: LimitsIn | None = None
    systolic_bp: LimitsIn | None = None
    heart_rate: LimitsIn | None = None
    body_temperature: LimitsIn | None = None

    @field_validator("*")
    @classmethod
    def _limits_are_possible(cls, limits: LimitsIn | None, info: ValidationInfo) -> LimitsIn | None:
        if limits is None:
            return None
        signal = SIGNALS[str(info.field_name)]
        given = [limit for limit in (limits.low, limits.high) if limit is not None]
        if not given or any(not signal.low <= limit <= signal.high for limit in given) or given != sorted(set(given)):
            raise ValueError(
                f"expected low, high or both, low below high, from {signal.low:g} to {signal.high:g} {signal.unit}"
            )
        return limits

    def of_patient(self) -> dict[str, SignalLimits]:
        """Return the limits that were given, by signal."""
        given = {name: getattr(self, name) for name in LIMITED_SIGNALS}
        return {name: SignalLimits(limits.low, limits.high) for name, limits in given.items() if limits is not None}


class TermsIn(Request):
    """What was decided for one patient. It replaces all that was decided before; what is left out is as the ward has it."""

    model_config = example(
        {
            "patient_id": "sim-000017",
            "spo2_scale": 2,
            "limits": {"heart_rate": {"low": 45, "high": 130}},
            "because": "hypercapnic respiratory failure, target 88 to 92 %",
        }
    )

    patient_id: PatientId
    because: Annotated[
        str,
        StringConstraints(strip_whitespace=True, min_length=10, max_length=500),
        Field(description="The reason. It is shown with risks and alarms."),
    ]
    until: Annotated[Instant | None, Field(description="When the terms end; default: when others replace them.")] = None
    spo2_scale: Annotated[
        int, Field(strict=True, ge=1, le=2, description="2: SpO2 scale 2 of NEWS2, for hypercapnic respiratory failure.")
    ] = 1
    alarm_threshold: Annotated[
        float | None,
        Field(ge=0.001, le=0.999, strict=True, description="Probability at or above which a risk sounds an alarm."),
    ] = None
    news2_alarm_from: Annotated[
        int | None, Field(ge=5, le=21, strict=True, description="NEWS2 at or above which an alarm sounds; 21: none does.")
    ] = None
    limits: Annotated[LimitsBySignal, Field(description="At or beyond which a value sounds an alarm.")] = LimitsBySignal()

    @field_validator("until")
    @classmethod
    def _end_is_ahead(cls, time: datetime | None) -> datetime | None:
        if time is not None and utc(time) <= present():
            raise ValueError("expected a time after the present of the server")
        return time

    @field_validator("because")
    @classmethod
    def _reason_is_readable(cls, because: str) -> str:
        if not because.isprintable():
            raise ValueError("expected one line without invisible characters")
        return because

    def terms(self, by: str) -> PatientTerms:
        """Return the terms as the journal takes them. ``by``: the caller's ``sub``."""
        return PatientTerms(
            recorded_at=0,
            by=by,
            because=self.because,
            until=None if self.until is None else microsecond(utc(self.until)),
            spo2_scale=2 if self.spo2_scale == 2 else 1,
            alarm_threshold=self.alarm_threshold,
            news2_alarm_from=self.news2_alarm_from,
            limits=self.limits.of_patient(),
        )


class LimitsOut(BaseModel):
    """At or beyond which a value of the signal sounds an alarm, in the signal's own unit; null: no such limit."""

    low: float | None
    high: float | None


class TermsOut(BaseModel):
    """What staff decided for a patient: null or absent is as the ward has it."""

    recorded_at: Annotated[datetime, Field(description="From when on the terms hold.")]
    by: Annotated[str, Field(description="Who decided.")]
    because: str
    until: Annotated[datetime | None, Field(description="When they end; null: when others replace them.")]
    spo2_scale: Spo2Scale
    alarm_threshold: float | None
    news2_alarm_from: int | None
    limits: dict[str, LimitsOut]


class TermsAnswer(BaseModel):
    """The terms of a patient from now on."""

    patient_id: str
    terms: TermsOut


@overload
def terms_out(terms: Mapping[str, Any]) -> TermsOut: ...
@overload
def terms_out(terms: Mapping[str, Any] | None) -> TermsOut | None: ...
def terms_out(terms: Mapping[str, Any] | None) -> TermsOut | None:
    """Return terms of a patient, as :func:`models.alarms.patient_terms.describe_terms` describes them, for an answer."""
    if terms is None:
        return None
    return TermsOut.model_validate({**terms, **{name: moment(terms[name]) for name in ("recorded_at", "until")}})
