"""Requests and answers about the terms of a patient."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final, overload

from pydantic import BaseModel, Field, create_model

from vigil.features.signals import SIGNALS
from vigil.models.alarms.patient_terms import LIMITED_SIGNALS, PatientTerms, SignalLimits
from vigil.models.bedside import Spo2Scale
from vigil.serving.api.schemas.request import WHOLE, PatientId, Request, example
from vigil.serving.instant import Instant
from vigil.serving.records.timestamps import microsecond, moment, utc

# Control, combining and invisible characters, direction marks, and spaces other than the plain one.
_HIDDEN: Final = (
    r"\x00-\x1f\x7f-\xa0\xad\u0300-\u036f\u061c\u1680\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufe00-\ufe0f\ufeff"
)
_READABLE: Final = f"^[^ {_HIDDEN}][^{_HIDDEN}]*$"


def _limit_of(name: str) -> Any:
    """Return the type of a limit of a signal: a number in its plausible range, in its own unit."""
    signal = SIGNALS[name]
    return Annotated[float | None, Field(strict=True, ge=signal.low, le=signal.high, description=f"{signal.unit}; null: none.")]


def _limits_of(name: str) -> type[Request]:
    limit = _limit_of(name)
    documentation = f"At or beyond which a value of {name} sounds an alarm."
    return create_model(f"LimitsOf_{name}", __base__=Request, __doc__=documentation, low=(limit, None), high=(limit, None))


_BY_SIGNAL: Final[dict[str, Any]] = {name: (_limits_of(name) | None, None) for name in LIMITED_SIGNALS}
LimitsBySignal = create_model(
    "LimitsBySignal", __base__=Request, __doc__="Limits of the signals that NEWS2 measures.", **_BY_SIGNAL
)


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
        Field(
            min_length=10,
            max_length=500,
            pattern=_READABLE,
            description="The reason, shown with risks and alarms.",
        ),
    ]
    until: Annotated[Instant | None, Field(description="When the terms end; default: when others replace them.")] = None
    spo2_scale: Annotated[
        int,
        Field(strict=True, ge=1, le=2, description="2: SpO2 scale 2 of NEWS2, for hypercapnic respiratory failure."),
        WHOLE,
    ] = 1
    alarm_threshold: Annotated[
        float | None,
        Field(ge=0.001, le=0.999, strict=True, description="Probability at or above which a risk sounds an alarm."),
    ] = None
    news2_alarm_from: Annotated[
        Annotated[int, Field(strict=True, ge=5, le=21), WHOLE] | None,
        Field(description="NEWS2 at or above which an alarm sounds; 21: none does."),
    ] = None
    limits: LimitsBySignal = LimitsBySignal()

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
            limits={name: SignalLimits(own.low, own.high) for name, own in self.limits if own is not None},
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
    """Return terms of a patient, as :func:`vigil.models.alarms.patient_terms.describe_terms` describes them, for an answer."""
    if terms is None:
        return None
    return TermsOut.model_validate({**terms, **{name: moment(terms[name]) for name in ("recorded_at", "until")}})
