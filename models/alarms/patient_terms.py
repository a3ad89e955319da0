"""Terms of one patient: what staff decided for them, beside the terms of the ward.

- SpO2 scale 2, for hypercapnic respiratory failure (RCP 2017, chart 1). A competent clinical decision
  maker prescribes it.
- Their own alarm threshold of the model's risk, and their own NEWS2 from which the safety net sounds.
- Limits of single signals: a latest value at or beyond one sounds an alarm, outside any budget.

Terms have a reason, an author, and perhaps an end. The newest ones replace all of before.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from vigil.features.kernel.plan import HOUR_US
from vigil.features.signal import Side
from vigil.features.signals import SIGNALS
from vigil.models.alarms.critical_bounds import Bound
from vigil.models.alarms.policy import Policy, limit_name
from vigil.models.alarms.safety_net import CriticalCause
from vigil.models.bedside import COMPONENTS, Component, Spo2Scale

# Signals that can have limits: what NEWS2 measures as a number. Their latest value and its age are in every assessment.
LIMITED_SIGNALS: Final = tuple(name for name in COMPONENTS if not SIGNALS[name].coded)


@dataclass(frozen=True, slots=True)
class SignalLimits:
    """At or beyond which a value sounds an alarm, in the signal's unit; None: no limit on that side."""

    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class PatientTerms:
    """The terms of one patient.

    Attributes:
        recorded_at: from when on they hold, microseconds.
        by: who decided; the caller's ``sub``.
        because: the reason.
        until: when they end, microseconds; None: when others replace them.
        spo2_scale: the SpO2 scale of NEWS2.
        alarm_threshold: probability at or above which a risk is high; None: the ward's.
        news2_alarm_from: NEWS2 at or above which the safety net sounds an alarm; None: the ward's.
        limits: by signal, one of :data:`LIMITED_SIGNALS`.
    """

    recorded_at: int
    by: str
    because: str
    until: int | None = None
    spo2_scale: Spo2Scale = 1
    alarm_threshold: float | None = None
    news2_alarm_from: int | None = None
    limits: Mapping[str, SignalLimits] = field(default_factory=dict)

    def hold_at(self, time: int) -> bool:
        """Return whether they hold at a time, microseconds."""
        return self.recorded_at <= time and (self.until is None or time < self.until)

    def own_policy(self, ward: Policy) -> Policy:
        """Return the alarm policy of this patient in a ward. Without a model their threshold decides nothing."""
        own = self.alarm_threshold if ward.threshold is not None else None
        return replace(ward, threshold=own or ward.threshold, news2_from=self.news2_alarm_from or ward.news2_from)


@dataclass(frozen=True, slots=True)
class Breach:
    """A value at or beyond a limit of the patient. It is shown and stored as a :class:`Bound` is.

    Attributes:
        signal, side: which limit.
        limit: in the signal's unit.
        observed_at: of the value, microseconds UTC, to the second.
    """

    signal: str
    side: Side
    limit: float
    observed_at: int
    is_critical: Literal[True] = True
    set_by: Literal["staff"] = "staff"

    @property
    def name(self) -> str:
        """What the alarm policy calls it, such as ``heart_rate_above_130_limit``."""
        return limit_name(self.signal, self.side, self.limit)

    @property
    def unit(self) -> str:
        """UCUM unit of the limit."""
        return SIGNALS[self.signal].unit

    @property
    def text(self) -> str:
        """The limit in words.

        >>> Breach("heart_rate", "above", 130.0, 0).text
        'at or above 130 /min, a limit of this patient'
        """
        return f"at or {self.side} {self.limit:g} {self.unit}, a limit of this patient"


def find_breaches(components: Mapping[str, Component], at: int, terms: PatientTerms | None) -> tuple[Breach, ...]:
    """Return the limits of a patient that their latest values reach. A value that is too old for NEWS2 reaches none.

    Args:
        components: of NEWS2, by signal.
        at: the time of their assessment, microseconds.
        terms: of the patient; None: there are none.
    """
    if terms is None:
        return ()
    breaches = []
    for signal, limits in terms.limits.items():
        component = components[signal]
        if component.value is None or component.hours is None or component.is_expired:
            continue
        observed_at = round((at - component.hours * HOUR_US) / 1e6) * 1_000_000  # ages are float32
        if limits.low is not None and component.value <= limits.low:
            breaches.append(Breach(signal, "below", limits.low, observed_at))
        if limits.high is not None and component.value >= limits.high:
            breaches.append(Breach(signal, "above", limits.high, observed_at))
    return tuple(breaches)


def causes_of(critical: Iterable[Bound | Breach]) -> set[CriticalCause]:
    """Return what makes a band high, for :meth:`Assessment.with_critical`."""
    return {"patient_limit" if isinstance(one, Breach) else "critical_bound" for one in critical}


def describe_terms(terms: PatientTerms) -> dict[str, Any]:
    """Return terms as they are stored."""
    limits = {signal: {"low": own.low, "high": own.high} for signal, own in terms.limits.items()}
    names = ("recorded_at", "by", "because", "until", "spo2_scale", "alarm_threshold", "news2_alarm_from")
    return {name: getattr(terms, name) for name in names} | {"limits": limits}


def restore_terms(described: Mapping[str, Any]) -> PatientTerms:
    """Return the terms that :func:`describe_terms` described."""
    limits = {signal: SignalLimits(**own) for signal, own in described["limits"].items()}
    return PatientTerms(**{**described, "limits": limits})
