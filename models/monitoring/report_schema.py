"""The schema of ``drift.json``.

:mod:`vigil.pipelines.drift` writes it, :mod:`vigil.serving.observability.drift_metrics` reads it.

Field names are the keys of the file. A run that fails writes ``status``, ``judged_at`` and ``error`` alone, so all other fields
have defaults. Undefined figures are null.
"""

import math
from enum import IntEnum
from typing import Annotated, Any, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, FiniteFloat, PlainSerializer

REPORT_FILE: Final = "drift.json"  # under HOME/reports

PlannedAction = Literal["warn", "recalibrate", "retrain", "withdraw"]
Action = PlannedAction | Literal["none", "reinstate"]  # only a person reinstates a model, never a rule
Scope = Literal["ward", "gateway", "device"]
Figure = FiniteFloat | None
Instant = Annotated[
    AwareDatetime, PlainSerializer(lambda instant: instant.isoformat(timespec="seconds"), return_type=str, when_used="always")
]


class Status(IntEnum):
    """The verdict of a run, as Prometheus shows it."""

    FINE = 0
    DRIFT = 1
    BROKEN = 2  # the model is withdrawn, or the run failed


class _Record(BaseModel):
    # Reports name devices, so an error must not repeat its input.
    model_config = ConfigDict(frozen=True, hide_input_in_errors=True, populate_by_name=True, serialize_by_alias=True)


class FindingRecord(_Record):
    """One fault at one location.

    Attributes:
        fault: a key of :data:`vigil.models.monitoring.faults.FAULTS`.
        signal: the signal it hits; None: all, or none in particular.
        place: what ``where`` names.
        where: a gateway, a device, two swapped devices, or empty for the ward.
        since: when the fault first shows; ISO 8601.
        hit, of: how many patients show it, of how many examined.
        readings: how many readings of theirs it rests on; null: it does not rest on single readings.
        question: whether these are too few to call it a fault; then nothing follows from it.
        evidence: what was measured, and what is usual.
        says: the finding as a sentence.
        remedy: what staff should do about it.
    """

    fault: str
    signal: str | None
    place: Scope = "ward"
    where: list[str] = []
    since: str = ""
    hit: int = 0
    of: int = 0
    readings: int | None = None
    question: bool = False
    evidence: str = ""
    says: str = ""
    remedy: str = ""


class ColumnRecord(_Record):
    """One feature, or the risk, compared with the reference (:func:`vigil.models.monitoring.feature_drift.compare_columns`)."""

    column: str
    effect: Figure = None
    p: Figure = None
    q: Figure = None
    missing_before: Figure = None
    missing: Figure = None
    drifted: bool = False


class ColumnsRecord(_Record):
    """Drift of the features and of the risk.

    Attributes:
        share: share of the features that drifted.
        prediction_drifted: whether the predicted risks drifted.
        drifted: names of all columns that drifted.
        judged: how many columns were compared.
        shown: the columns that drifted, and the next ones.
    """

    share: FiniteFloat
    prediction_drifted: bool = False
    drifted: list[str] = []
    judged: int = 0
    shown: list[ColumnRecord] = []


class ExpectedPerformance(_Record):
    """Performance expected without labels, with 95 % intervals (:func:`vigil.models.evaluation.label_free`).

    Attributes:
        auroc_before: AUROC expected of training patients.
        auroc_lost: ``auroc_before`` less ``auroc``.
    """

    auroc: Figure = None
    auprc: Figure = None
    brier: Figure = None
    prevalence: Figure = None
    precision: Figure = None
    recall: Figure = None
    alerts: Figure = None
    auroc_low: Figure = None
    auroc_high: Figure = None
    auprc_low: Figure = None
    auprc_high: Figure = None
    brier_low: Figure = None
    brier_high: Figure = None
    prevalence_low: Figure = None
    prevalence_high: Figure = None
    precision_low: Figure = None
    precision_high: Figure = None
    recall_low: Figure = None
    recall_high: Figure = None
    alerts_low: Figure = None
    alerts_high: Figure = None
    auroc_before: Figure = None
    auroc_lost: Figure = None


class PeriodPerformance(_Record):
    """Performance measured in one period, with 95 % intervals over patients.

    Attributes:
        patients, events: patients with a known outcome, and those of them with an event.
        from_, to: first and last index time; ISO 8601. The key of ``from_`` is ``from``.
    """

    patients: int
    events: int
    from_: str = Field(alias="from")
    to: str
    auroc: Figure = None
    auroc_low: Figure = None
    auroc_high: Figure = None
    auprc: Figure = None
    auprc_low: Figure = None
    auprc_high: Figure = None
    brier: Figure = None
    brier_low: Figure = None
    brier_high: Figure = None
    calibration_slope: Figure = None
    calibration_slope_low: Figure = None
    calibration_slope_high: Figure = None
    calibration_intercept: Figure = None
    calibration_intercept_low: Figure = None
    calibration_intercept_high: Figure = None


class MeasuredPerformance(PeriodPerformance):
    """Performance over all known outcomes, and by week (:func:`vigil.models.monitoring.performance.measure_performance`).

    Attributes:
        auroc_before: AUROC of training patients, out of fold.
        weeks: each week with enough patients and events.
    """

    auroc_before: Figure = None
    weeks: list[PeriodPerformance] = []


class PerformanceRecord(_Record):
    """Expected and measured performance; None where there are too few data."""

    estimated: ExpectedPerformance | None = None
    known: MeasuredPerformance | None = None


class ReadingsRecord(_Record):
    """Readings of the last day: how many came, how many were used, and the others by reason."""

    came: int
    used: int
    unused: dict[str, int]


class ModelRecord(_Record):
    """The champion."""

    name: str
    version: str


class Decision(_Record):
    """What the plan asks for, or a person decided.

    Attributes:
        action: the strongest of the rules that apply.
        rules: names of the rules that apply, the strongest first.
        because: the reason, in words.
        carried_out: whether something in use has changed, or there is a challenger.
        outcome: what was done, or what has to be done and who does it.
        decided_at: ISO 8601, UTC.
    """

    action: Action
    rules: tuple[str, ...] = ()
    because: str = ""
    carried_out: bool = False
    outcome: str = ""
    decided_at: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the decision for JSON."""
        return self.model_dump(mode="json")


class OutcomesRecord(_Record):
    """How many patients a file of outcomes names, and how many of them are known here."""

    given: int
    known: int


class DriftReport(_Record):
    """One run of ``vigil drift``.

    Attributes:
        status: name of a :class:`Status`, in lower case.
        judged_at: when the run began.
        until: the end of the day that was assessed; ISO 8601.
        model: the champion.
        source: where the patients come from, with a warning where they are simulated.
        replay: what was put into a replay; empty for a home.
        patients: with a prediction or a reading, whichever are more.
        readings, findings, columns, performance, outcomes, decision: see their classes.
        error: why a run failed.
    """

    status: Literal["fine", "drift", "broken"]
    judged_at: Instant
    until: str = ""
    model: ModelRecord | None = None
    source: str = ""
    replay: dict[str, Any] = {}
    patients: int = 0
    readings: ReadingsRecord | None = None
    findings: list[FindingRecord] = []
    columns: ColumnsRecord | None = None
    performance: PerformanceRecord | None = None
    outcomes: OutcomesRecord | None = None
    decision: Decision | None = None
    error: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the fields that were set, for JSON.

        >>> DriftReport(status="broken", judged_at="2026-03-01T12:00:00Z", error="no log").as_dict()
        {'status': 'broken', 'judged_at': '2026-03-01T12:00:00+00:00', 'error': 'no log'}
        """
        return self.model_dump(mode="json", exclude_unset=True)


def without_nan(value: Any) -> Any:
    """Replace undefined figures (NaN, infinity) by None, in nested dictionaries and lists too.

    >>> without_nan({"auroc": 0.8, "weeks": [{"auroc": float("nan")}]})
    {'auroc': 0.8, 'weeks': [{'auroc': None}]}
    """
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
