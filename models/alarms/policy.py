"""The alarm policy: it decides for each new risk of a patient, in order of time, whether an alarm sounds.

- The model sounds an alarm if its risk is at or above the ward's threshold.
- The safety net sounds one if NEWS2 of sustained values is 7 or more, whatever the model says and outside any budget. If spot
  checks alone give that score, it sounds at once; if not, when the score has held for 40 minutes.
- A critical bound (:mod:`vigil.models.alarms.critical_bounds`) sounds one at once, outside any budget.
- A latest value at or beyond a limit of the patient (:mod:`vigil.models.alarms.patient_terms`) sounds one at once, too, outside
  any budget. Each limit sounds once in a refractory period, however often values cross it, whatever else has sounded.
- Alarms of one episode share a record. An episode ends when the risk is below the threshold by a margin, NEWS2 is below 5 and
  no critical bound stands. So a patient who hovers around a limit has one episode (hysteresis).
- After an alarm follows a refractory period. The first alarm of the safety net in an episode does not wait for its end, because
  it is news; nor does the first alarm of each critical bound.
- A ward may have an alarm budget. An alarm for which it has no room is withheld and recorded. It sounds as soon as there is
  room.

:meth:`vigil.models.alarms.timeline.AlarmTimeline.alarms_at` applies the same rules to a cohort, without bounds. So a ward gets
the alarms that its evaluation counted, and those of critical bounds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, Literal

from vigil.features.signal import Side
from vigil.models.alarms.safety_net import ALARM_FROM, ENDS_BELOW, HOLDS_FOR, LONGEST_DIP
from vigil.models.alarms.timeline import REFRACTORY_PERIOD

Event = Literal["sounded", "sounded_again", "withheld", "ended"]
Cause = Literal["model", "news2", "critical_bound", "patient_limit"]

_LIMIT: Final = "_limit"  # how the names of patients' limits end; bounds of devices end in _range
REARM_SHARE: Final = 0.8  # share of the threshold below which an episode ends. Our choice; to be set with the ward.


@dataclass(frozen=True, slots=True)
class Policy:
    """The alarm settings of a ward.

    Attributes:
        threshold: probability at or above which a risk is high; None: there is no model.
        refractory_period: the refractory period between two alarms of a patient.
        news2_from: NEWS2 at or above which the safety net sounds an alarm.
    """

    threshold: float | None
    refractory_period: timedelta = REFRACTORY_PERIOD
    news2_from: int = ALARM_FROM

    @property
    def rearm(self) -> float | None:
        """The risk below which an episode ends, as far as the model is concerned; None without a model."""
        return None if self.threshold is None else REARM_SHARE * self.threshold


@dataclass(frozen=True, slots=True)
class Episode:
    """A time in which the risk or NEWS2 stays high, or nearly so.

    Attributes:
        opened_at: index time of the first high risk.
        sounded: number of alarms so far; 0: all were withheld.
        emergency: whether the safety net has sounded and NEWS2 has not fallen below 5 since.
        bounds: names of the critical bounds, and of the patient's limits, that an alarm was about and that have stood since.
    """

    opened_at: datetime
    sounded: int
    emergency: bool = False
    bounds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AlarmState:
    """What the policy remembers of a patient between two risks.

    Attributes:
        episode: the open episode, if there is one.
        last_sounded_at: index time of the latest alarm.
        hold: since when NEWS2 has been at the limit of the safety net, if it is.
        limits: when an alarm was last about each limit of the patient, by name, as far as that may matter.
    """

    episode: Episode | None = None
    last_sounded_at: datetime | None = None
    hold: "Hold | None" = None
    limits: Mapping[str, datetime] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Hold:
    """A time in which NEWS2 is at or above the limit of the safety net, apart from short dips.

    Attributes:
        since: index time of its begin.
        dipped_at: index time at which the present dip began; None if there is none.
    """

    since: datetime
    dipped_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class SafetyNetScore:
    """NEWS2 of sustained values, as the safety net uses it.

    Attributes:
        score: points of all components.
        spot: points of the signals that are measured by spot checks, not continuously.
    """

    score: int
    spot: int


@dataclass(frozen=True, slots=True)
class Decision:
    """The effect of a new risk.

    Attributes:
        state: what to remember.
        event: ``sounded`` (the first alarm of an episode), ``sounded_again``, ``withheld`` (recorded once per episode),
            ``ended``, or None.
        cause: of an alarm that sounded or was withheld; else None.
    """

    state: AlarmState
    event: Event | None = None
    cause: Cause | None = None


def decide(
    policy: Policy,
    state: AlarmState,
    risk: float | None,
    net: SafetyNetScore | None,
    at: datetime,
    *,
    bounds: tuple[str, ...] = (),
    room: bool = True,
) -> Decision:
    """Decide what a new risk does to the alarms of its patient.

    Args:
        policy: of the patient's ward.
        state: what the policy remembers of the patient.
        risk: probability; None if the model was not asked.
        net: NEWS2 of sustained values; None if nothing is known. If neither is known, the devices are silent. That sounds no
            alarm and ends none, but for those of critical bounds.
        at: index time. Risks come in order of it.
        bounds: names of the critical bounds that stand, and of the patient's limits that are reached.
        room: whether the ward's budget allows an alarm of the model now.

    >>> from datetime import UTC
    >>> decide(Policy(0.2), AlarmState(), 0.35, SafetyNetScore(score=2, spot=2), datetime(2026, 1, 1, tzinfo=UTC)).event
    'sounded'
    """
    episode = state.episode
    had_bounds = episode is not None and bool(episode.bounds)
    if risk is None and net is None and not (bounds or had_bounds):
        return Decision(state)
    urgent = net is not None and net.score >= policy.news2_from
    hold = _update_hold(policy, state.hold, net, at)
    episode = _rearm(episode, net, bounds)
    state = replace(state, hold=hold, episode=episode)
    high = risk is not None and policy.threshold is not None and risk >= policy.threshold
    if episode is not None and not (urgent or high or bounds or _goes_on(policy, episode, risk, net)):
        return Decision(replace(state, episode=None), "ended")
    refractory = state.last_sounded_at is not None and at - state.last_sounded_at < policy.refractory_period
    emergency = urgent and (net.spot >= policy.news2_from or at - hold.since >= HOLDS_FOR)  # type: ignore[union-attr]
    cause: Cause = "model"
    if emergency and (not refractory or episode is None or not episode.emergency):
        cause = "news2"
    elif _has_news(bounds, episode, is_refractory=refractory):
        cause = "critical_bound"
    elif any(name not in _recent(policy, state, at) for name in bounds if is_limit(name)):
        cause = "patient_limit"
    elif emergency or not high or (episode is None and refractory):
        return Decision(state)
    elif refractory or not room:
        opened = replace(state, episode=episode or Episode(at, 0))
        return Decision(opened) if episode else Decision(opened, "withheld", "model")
    return _sound(policy, state, at, cause, bounds)


def limit_name(signal: str, side: Side, limit: float) -> str:
    """Return the name of a patient's limit. Another limit is news, so it has another name.

    >>> limit_name("heart_rate", "above", 130)
    'heart_rate_above_130_limit'
    """
    return f"{signal}_{side}_{limit:g}{_LIMIT}"


def is_limit(name: str) -> bool:
    """Return whether a name is that of a patient's limit, not of a bound."""
    return name.endswith(_LIMIT)


def _has_news(bounds: tuple[str, ...], episode: Episode | None, *, is_refractory: bool) -> bool:
    """Return whether a critical bound stands that sounds an alarm: it does not wait for the end of a refractory period."""
    known = () if episode is None else episode.bounds
    return any(not is_limit(name) and (not is_refractory or name not in known) for name in bounds)


def _recent(policy: Policy, state: AlarmState, at: datetime) -> dict[str, datetime]:
    """Return the limits that an alarm was about within the refractory period."""
    return {name: time for name, time in state.limits.items() if at - time < policy.refractory_period}


def needs_reassessment(state: AlarmState, now: datetime) -> bool:
    """Return whether a patient needs a new risk: their score has held long enough for an alarm that has not sounded."""
    hold, episode = state.hold, state.episode
    if hold is None or hold.dipped_at is not None or (episode is not None and episode.emergency):
        return False
    return now - hold.since >= HOLDS_FOR


def _update_hold(policy: Policy, hold: Hold | None, net: SafetyNetScore | None, at: datetime) -> Hold | None:
    """Return since when NEWS2 has been at the limit of the safety net; a dip of minutes does not restart it."""
    if net is None or net.score < ENDS_BELOW:
        return None
    if net.score < policy.news2_from:
        return None if hold is None else replace(hold, dipped_at=hold.dipped_at or at)
    if hold is None or (hold.dipped_at is not None and at - hold.dipped_at > LONGEST_DIP):
        return Hold(at)
    return replace(hold, dipped_at=None)


def _rearm(episode: Episode | None, net: SafetyNetScore | None, bounds: tuple[str, ...]) -> Episode | None:
    """Return the episode; what has fallen far enough, or stands no more, may sound again at once."""
    if episode is None:
        return None
    has_fallen = net is not None and net.score < ENDS_BELOW
    standing = tuple(name for name in episode.bounds if name in bounds)
    return replace(episode, emergency=episode.emergency and not has_fallen, bounds=standing)


def _goes_on(policy: Policy, episode: Episode, risk: float | None, net: SafetyNetScore | None) -> bool:
    """Return whether an episode goes on although neither is high; without a risk of the model, NEWS2 decides alone."""
    if risk is None or policy.rearm is None:
        return episode.emergency or (net is not None and net.score >= ENDS_BELOW)
    return episode.emergency or risk >= policy.rearm


def _sound(policy: Policy, state: AlarmState, at: datetime, cause: Cause, bounds: tuple[str, ...]) -> Decision:
    episode = state.episode or Episode(at, 0)
    emergency = episode.emergency or cause == "news2"
    sounded = replace(episode, sounded=episode.sounded + 1, emergency=emergency, bounds=bounds)
    limits = _recent(policy, state, at) | {name: at for name in bounds if is_limit(name)}
    event: Event = "sounded_again" if episode.sounded else "sounded"
    return Decision(replace(state, episode=sounded, last_sounded_at=at, limits=limits), event, cause)
