"""What the ward state holds, as values: a latest risk, an alarm, an action, an event. Times are microseconds UTC."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from vigil.features.signals import bound_name
from vigil.models.alarms.critical_bounds import Bound
from vigil.models.alarms.patient_terms import Breach
from vigil.models.alarms.policy import Cause
from vigil.models.alarms.safety_net import Band, Reason
from vigil.models.assessment import Basis, DecidedBy, Finding

Action = Literal["acknowledged", "overridden"]
Status = Literal["open", "acknowledged", "overridden"]
EventKind = Literal[
    "risk",
    "beyond_range",
    "silent",
    "left",
    "alarm",
    "alarm_moved",
    "alarm_withheld",
    "alarm_ended",
    "alarm_basis_retracted",
    "acknowledged",
    "overridden",
    "signal_stopped",
    "signal_returned",
    "source_silent",
    "source_returned",
]


@dataclass(frozen=True, slots=True)
class WardRisk:
    """The latest risk of a subject.

    Attributes:
        latest_reading_at: None: no observation within a day.
        model_name, model_version: None where no model was asked.
        threshold: probability at which the ward's alarm sounds; None without a probability.
        decided_by, reasons, findings, unusual: None in a row of an earlier version.
        net_score: NEWS2 of sustained values; None where the safety net does not apply.
        urgent_since: since when that has been at the limit of the safety net or above.
        dipped_at: since when it has been below again, for less than a dip may last.
        bounds: that stand, as :func:`bound_fields` describes them; None: none is known.
        terms: of the patient, as :func:`vigil.models.alarms.patient_terms.describe_terms` describes them; None: the ward's
            alone.
        assessment: the rest of it, as :mod:`vigil.serving.scoring.standing` describes it; None in a row of an earlier version.
    """

    subject_id: str
    ward: str
    index_time: int
    prediction_id: str
    basis: Basis
    probability: float | None
    band: Band
    news2: int
    news2_highest: int
    latest_reading_at: int | None
    model_name: str | None
    model_version: str | None
    feature_service: str
    threshold: float | None
    decided_by: DecidedBy | None = None
    reasons: list[Reason] | None = None
    findings: list[Finding] | None = None
    unusual: list[str] | None = None
    net_score: int | None = None
    urgent_since: int | None = None
    dipped_at: int | None = None
    bounds: list[dict[str, Any]] | None = None
    terms: dict[str, Any] | None = None
    assessment: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class AlarmAction:
    """What one person did about an alarm. ``by``: the caller's ``sub``."""

    action: Action
    by: str
    reason: str | None
    at: int


@dataclass(frozen=True, slots=True)
class Alarm:
    """One episode.

    Attributes:
        sounded: how often; 0: withheld by the ward's budget.
        basis, probability, news2, prediction_id: of the risk that opened it.
        acted_at, acted_by, reason: of the latest action.
        cause: what sounded last; None in alarms of an earlier version, as the next two.
        emergency: whether NEWS2 has stayed high since the safety net sounded.
        reasons: rules of NEWS2 that held then, and ``critical_bound`` or ``patient_limit`` if one stood.
        basis_retracted_at: when an observation that it rests on was corrected, retracted or taken away by an unmerge.
        bounds: the critical bounds, and limits of the patient, that it was about and that have stood since, as
            :func:`bound_fields` describes them; None: there was none.
        terms: the terms under which it sounded last, or was withheld; None in alarms of an earlier version.
        limits: when an alarm was last about each limit of the patient (:class:`vigil.models.alarms.policy.AlarmState`).
        actions: oldest first.
    """

    alarm_id: str
    subject_id: str
    ward: str
    opened_at: int
    sounded: int
    last_sounded_at: int | None
    basis: Basis
    probability: float | None
    news2: int
    prediction_id: str
    model_name: str | None
    model_version: str | None
    feature_service: str
    ended_at: int | None = None
    status: Status = "open"
    acted_at: int | None = None
    acted_by: str | None = None
    reason: str | None = None
    cause: Cause | None = None
    emergency: bool | None = None
    reasons: list[Reason] | None = None
    basis_retracted_at: int | None = None
    bounds: list[dict[str, Any]] | None = None
    terms: dict[str, Any] | None = None
    limits: dict[str, int] | None = None
    actions: tuple[AlarmAction, ...] = ()


@dataclass(frozen=True, slots=True)
class AlarmCounts:
    """How many episodes began in a ward within some time, and what became of them.

    Attributes:
        sounded, withheld: of all, those with an alarm, and those that the budget withheld.
        acknowledged, overridden: of those with an alarm, by the latest action.
    """

    sounded: int
    withheld: int
    acknowledged: int
    overridden: int


@dataclass(frozen=True, slots=True)
class AlarmChange:
    """New values of some fields of an alarm."""

    alarm_id: str
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Event:
    """One change in a ward, before it has a number. ``body``: what followers see, beside subject, ward and time.

    ``subject_id`` is None where the event is of a whole source.
    """

    ward: str
    subject_id: str | None
    kind: EventKind
    at: int
    body: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NumberedEvent(Event):
    """An event with its number in the ward."""

    number: int = 0


@dataclass
class WardUpdate:
    """What one step of the rescorer changes, in one transaction.

    Attributes:
        risks: of the subjects rescored.
        removed: subjects that are not monitored any more.
        opened: new alarms.
        changed: alarms that sounded again, moved or ended.
        events: in order.
    """

    risks: list[WardRisk] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    opened: list[Alarm] = field(default_factory=list)
    changed: list[AlarmChange] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)


def bound_fields(bound: Bound | Breach) -> dict[str, Any]:
    """Return what is stored and shown of a bound: its signal and side, the limit and its unit, and when it was observed."""
    names = ("signal", "side", "limit", "unit", "text", "observed_at", "set_by")
    return {name: getattr(bound, name) for name in names} | {"critical": bound.is_critical}


def restore_bound(fields: Mapping[str, Any]) -> Bound:
    """Return the bound that :func:`bound_fields` described."""
    return Bound(bound_name(fields["signal"], fields["side"]), fields["limit"], fields["observed_at"])
