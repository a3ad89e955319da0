"""Requests and answers about risks, and how an answer is made of a risk report."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from vigil.features.codes import accepted_names
from vigil.features.signals import SIGNALS
from vigil.models.alarms.patient_terms import describe_terms
from vigil.models.alarms.safety_net import Band, Reason, Score
from vigil.models.assessment import Basis, DecidedBy, Finding
from vigil.models.bedside import Spo2Scale
from vigil.models.registry import RegisteredModel
from vigil.serving.api.schemas.bounds import BoundOut, Comparator, bounds_out
from vigil.serving.api.schemas.problems import Problem
from vigil.serving.api.schemas.request import (
    MAX_OBSERVATIONS,
    MAX_PATIENTS,
    POSSIBLE_PREGNANCY,
    AsOf,
    Included,
    MergedInto,
    PatientFacts,
    PatientId,
    Request,
    example,
)
from vigil.serving.api.schemas.terms import TermsOut, terms_out
from vigil.serving.instant import Instant
from vigil.serving.records.silence_rows import Cause, Silence
from vigil.serving.records.timestamps import instant
from vigil.serving.scoring.risk_report import RiskReport


class RiskRequest(Request):
    """The risk of one patient, from the features in the store."""

    model_config = example({"patient_id": "sim-000017", "include": ["contributions", "range"]})

    patient_id: PatientId
    as_of: AsOf = None
    include: Included = []  # noqa: RUF012 - pydantic copies it


class RisksRequest(Request):
    """The risks of several patients."""

    model_config = example({"patient_ids": ["sim-000017", "sim-000018"]})

    patient_ids: Annotated[list[PatientId], Field(min_length=1, max_length=MAX_PATIENTS)]
    as_of: AsOf = None
    include: Included = []  # noqa: RUF012 - pydantic copies it


class ObservationIn(Request):
    """One observation. The unit (UCUM) may be left out where only one could be meant."""

    signal: Annotated[str, Field(max_length=64, examples=["heart_rate"], json_schema_extra={"enum": accepted_names()})]
    value: Annotated[float, Field(strict=True, allow_inf_nan=False, examples=[112])]
    observed_at: Instant
    unit: Annotated[str | None, Field(max_length=32, examples=["/min"])] = None
    comparator: Annotated[Comparator | None, Field(description="Makes the value a bound; no number is made of it.")] = None


class ObservationsRequest(PatientFacts):
    """The risk of a patient from the observations in the request alone; only the prediction is stored."""

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
        **POSSIBLE_PREGNANCY,
    )

    patient_id: PatientId
    observations: Annotated[list[ObservationIn], Field(min_length=1, max_length=MAX_OBSERVATIONS)]
    as_of: Annotated[Instant | None, Field(description="Default: the time of the latest observation.")] = None
    include: Included = []  # noqa: RUF012 - pydantic copies it


class ComponentOut(BaseModel):
    """One component of NEWS2 and the value behind it."""

    points: Annotated[int | None, Field(description="Null: the value is unknown, or too old to count.")]
    value: Annotated[float | None, Field(description="The latest value; null: none within a day.")]
    unit: str
    age_hours: Annotated[float | None, Field(description="How old the value is at `as_of`.")]
    too_old: Annotated[bool, Field(description="True: the value is too old to count at the bedside (docs/api.md).")]
    source: Annotated[str | None, Field(description="The gateway that sent the value; null: not said, or a batch cohort.")]
    device_id: str | None
    contested: Annotated[
        bool,
        Field(description="True: another value of the same time was sent. The later recorded counts, else the worse."),
    ]


class News2(BaseModel):
    """NEWS2 from the latest values, each as long as it may be carried at the bedside: 12 h, or as its source declares.

    A missing component counts 0 in ``score`` and its maximum in ``highest``.
    """

    score: int
    highest: int
    spo2_scale: Annotated[Spo2Scale, Field(description="2: for a target of 88 to 92 %, as ordered for this patient.")]
    components: dict[str, ComponentOut]
    sustained: Annotated[
        int | None,
        Field(
            description="The score that the safety net uses: where a signal comes continuously, of the median of its last 15 "
            "minutes. Null where NEWS2 does not apply, or no component is known."
        ),
    ]
    use_instead: Annotated[
        Score | None,
        Field(description="NEWS2 is made for patients of 16 years and over who are not pregnant. The score made for others."),
    ]


class ContributionOut(BaseModel):
    """How much a signal moved the log-odds of this risk from the average patient's."""

    model_config = ConfigDict(from_attributes=True)

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
    simulated: Annotated[bool | None, Field(description="True: it learned from a simulated ward; no clinical evidence.")]


class DataAge(BaseModel):
    """How old the data behind the answer are, in hours before ``as_of``."""

    features_hours: float
    latest_reading_hours: float | None


class StoppedSignal(BaseModel):
    """A signal that has stopped while others go on."""

    signal: str
    since: Annotated[datetime, Field(description="When its last observation was recorded.")]
    source: Annotated[str | None, Field(description="The gateway that sent it; null: not said.")]
    device_id: str | None
    cause: Annotated[
        Cause, Field(description="overdue by its own rhythm or its source's declaration; or reported as disconnected.")
    ]


class RiskAnswer(BaseModel):
    """A risk, as of a time.

    A model adds to NEWS2 and never hides it: the band is the worse of both. Where the model cannot be asked, ``basis`` is
    ``news2``, and ``findings`` say why.
    """

    prediction_id: str
    patient_id: str
    merged_into: MergedInto = None
    as_of: datetime
    index_time: Annotated[datetime, Field(description="The time up to which observations were considered.")]
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
    reasons: Annotated[
        list[Reason],
        Field(
            description="Rules of NEWS2 that ask for more than routine care, critical_bound where one stands, and "
            "patient_limit where a value reaches a limit of the patient."
        ),
    ]
    findings: list[Finding]
    unusual: Annotated[
        list[str],
        Field(description="With outside_training: how the patient differs from those the model learned from."),
    ]
    news2: News2
    bounds: Annotated[
        list[BoundOut],
        Field(
            description="What was reported at or beyond a limit, if no value has taken its place since. No part of the risk."
        ),
    ]
    terms: Annotated[TermsOut | None, Field(description="What staff decided for the patient, as it holds now; null: nothing.")]
    limits_reached: Annotated[
        list[BoundOut], Field(description="Limits of the patient that a latest value reaches. They make the band high.")
    ]
    stopped_signals: Annotated[
        list[StoppedSignal], Field(description="What has stopped while other signals of the patient go on.")
    ]
    contributions: Annotated[list[ContributionOut] | None, Field(description="On request.")]
    model: ModelReference
    data_age: DataAge


class RiskItem(BaseModel):
    """One patient's part of an answer: a risk, or why there is none."""

    patient_id: str
    risk: RiskAnswer | None = None
    problem: Problem | None = None


class RisksAnswer(BaseModel):
    """Items in the order of the request."""

    items: list[RiskItem]


def risk_answer(report: RiskReport, patient_id: str, merged_into: str | None = None) -> RiskAnswer:
    """Return a risk report as the API shows it, under the identifier that the caller knows."""
    risk = report.risk
    own = report.contributions
    return RiskAnswer(
        prediction_id=report.prediction_id,
        patient_id=patient_id,
        merged_into=merged_into,
        as_of=report.as_of.to_pydatetime(),
        index_time=risk.index_time.to_pydatetime(),
        horizon_hours=report.task.horizon.total_seconds() / 3600,
        outcome=report.task.outcome,
        basis=risk.basis,
        probability=risk.probability,
        range=None if report.range is None else Range(low=report.range[0], high=report.range[1]),
        band=risk.band,
        decided_by=risk.decided_by,
        reasons=list(risk.reasons),
        findings=list(risk.findings),
        unusual=list(risk.unusual),
        news2=News2(
            score=risk.news2,
            highest=risk.news2_highest,
            spo2_scale=risk.terms.spo2_scale,
            components={signal: _component(report, signal) for signal in risk.components},
            sustained=risk.net_score,
            use_instead=None if risk.score == "NEWS2" else risk.score,
        ),
        bounds=bounds_out(report.bounds),
        terms=None if report.terms is None else terms_out(describe_terms(report.terms)),
        limits_reached=bounds_out(report.reached),
        stopped_signals=[stopped_signal(silence) for silence in report.stopped],
        contributions=None if own is None else [ContributionOut.model_validate(contribution) for contribution in own],
        model=model_reference(report.model, report.feature_service),
        data_age=DataAge(features_hours=report.features_hours, latest_reading_hours=report.latest_reading_hours),
    )


def stopped_signal(silence: Silence) -> StoppedSignal:
    """Return a signal that has stopped, as the API shows it."""
    return StoppedSignal(
        signal=silence.signal or "",
        since=instant(silence.since).to_pydatetime(),
        source=silence.source,
        device_id=silence.device_id,
        cause=silence.cause,
    )


def _component(report: RiskReport, signal: str) -> ComponentOut:
    component, sender = report.risk.components[signal], report.senders.get(signal)
    # Of features that are out of date the age is that of the present already.
    aged = 0.0 if "stale_data" in report.risk.findings else report.features_hours
    return ComponentOut(
        points=component.points,
        value=component.value,
        unit=SIGNALS[signal].unit,
        age_hours=None if component.hours is None else component.hours + aged,
        too_old=component.is_expired,
        source=None if sender is None else sender.source,
        device_id=None if sender is None else sender.device_id,
        contested=sender is not None and sender.is_contested,
    )


def model_reference(registered: RegisteredModel | None, feature_service: str) -> ModelReference:
    """Return which model answered, if any, from which features."""
    if registered is None:
        return ModelReference(name=None, version=None, feature_service=feature_service, simulated=None)
    simulated = bool(registered.model.metadata_["simulated"])
    return ModelReference(
        name=registered.name, version=registered.version, feature_service=feature_service, simulated=simulated
    )
