"""When an alarm sounds, and which alarms belong together: decided risk by risk, in order of time.

Two things sound an alarm. The model does where its risk is at or above the ward's threshold. The safety net does where NEWS2 of
sustained values is 7 or more, whatever the model says and outside any budget: at once where spot checks alone give that score,
else once it has held for 40 minutes. Alarms of one episode share a record. An episode ends when the risk has fallen below the
threshold by a margin, and NEWS2 below 5, so that a patient who hovers around a limit has one episode (hysteresis). After an
alarm follows a refractory period; the first alarm of the safety net in an episode does not wait for its end, since it brings
news. A ward may have a budget; what it does not allow is withheld, which is recorded, and sounds once there is room.

:meth:`models.alarms.timeline.Watch.fired` replays the same rules over a cohort, so that a ward gets what an evaluation
promised.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal

from models.alarms.safety_net import ALARM_FROM, ENDS_BELOW, HOLDS_FOR, LONGEST_DIP
from models.alarms.timeline import SILENCE

Event = Literal["sounded", "sounded_again", "withheld", "ended"]
Cause = Literal["model", "news2"]

REARM_SHARE: Final = 0.8  # of the threshold: an episode ends below it. Ours; to be set with the ward.


@dataclass(frozen=True, slots=True)
class Policy:
    """What a ward asks of its alarms.

    Attributes:
        threshold: probability at or above which a risk is high; None: there is no model.
        silence: the refractory period: after an alarm of a patient, before the next.
        news2_from: NEWS2 at or above which the safety net sounds an alarm.
    """

    threshold: float | None
    silence: timedelta = SILENCE
    news2_from: int = ALARM_FROM

    @property
    def rearm(self) -> float | None:
        """Risk below which the model's part in an episode ends."""
        return None if self.threshold is None else REARM_SHARE * self.threshold


@dataclass(frozen=True, slots=True)
class Episode:
    """A time in which the risk or NEWS2 stayed high, or nearly so.

    Attributes:
        opened_at: index time of the first risk that was high.
        sounded: alarms so far; 0: all were withheld.
        emergency: the safety net has sounded, and NEWS2 has not fallen below 5 since.
    """

    opened_at: datetime
    sounded: int
    emergency: bool = False


@dataclass(frozen=True, slots=True)
class State:
    """What is remembered of a patient between two risks."""

    episode: Episode | None = None
    last_sounded_at: datetime | None = None
    hold: "Hold | None" = None


@dataclass(frozen=True, slots=True)
class Hold:
    """A time in which NEWS2 has been at the limit of the safety net or above, but for short dips.

    Attributes:
        since: index time from which it has.
        dipped_at: index time of the first look that found it below since then, if the last one did.
    """

    since: datetime
    dipped_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Net:
    """NEWS2 as the safety net sees it.

    Attributes:
        score: of sustained values.
        spot: of these points, those of signals that do not come continuously.
    """

    score: int
    spot: int


@dataclass(frozen=True, slots=True)
class Decision:
    """What a new risk does.

    Attributes:
        state: what to remember.
        event: ``sounded`` (the first alarm of an episode), ``sounded_again``, ``withheld`` (recorded once an episode),
            ``ended``, or None.
        cause: of an alarm that sounded or was withheld.
    """

    state: State
    event: Event | None = None
    cause: Cause | None = None


def decide(policy: Policy, state: State, risk: float | None, net: Net | None, at: datetime, *, room: bool = True) -> Decision:
    """Decide what a new risk does to the alarms of its patient.

    Args:
        policy: of the patient's ward.
        state: what was remembered.
        risk: probability; None where the model was not asked.
        net: NEWS2 as the safety net sees it; None where nothing is known. Where neither is known, devices are silent: that
            sounds no alarm and ends none.
        at: index time; risks come in order of it.
        room: whether the ward's budget allows an alarm of the model now.
    """
    if risk is None and net is None:
        return Decision(state)
    urgent = net is not None and net.score >= policy.news2_from
    hold = _held(policy, state.hold, net, at)
    state = replace(state, hold=hold, episode=_rearmed(state.episode, net))
    episode = state.episode
    high = risk is not None and policy.threshold is not None and risk >= policy.threshold
    if episode is not None and not (urgent or high or _goes_on(policy, episode, risk, net)):
        return Decision(replace(state, episode=None), "ended")
    refractory = state.last_sounded_at is not None and at - state.last_sounded_at < policy.silence
    emergency = urgent and (net.spot >= policy.news2_from or at - hold.since >= HOLDS_FOR)  # type: ignore[union-attr]
    if emergency and (not refractory or episode is None or not episode.emergency):
        return _sound(state, at, "news2")
    if emergency or not high or (episode is None and refractory):
        return Decision(state)
    if refractory or not room:
        opened = replace(state, episode=episode or Episode(at, 0))
        return Decision(opened) if episode else Decision(opened, "withheld", "model")
    return _sound(state, at, "model")


def is_due(state: State, now: datetime) -> bool:
    """Whether a patient is to be looked at, since a score that the safety net has not sounded would have held until now."""
    hold, episode = state.hold, state.episode
    if hold is None or hold.dipped_at is not None or (episode is not None and episode.emergency):
        return False
    return now - hold.since >= HOLDS_FOR


def _held(policy: Policy, hold: Hold | None, net: Net | None, at: datetime) -> Hold | None:
    """Return since when NEWS2 has held the limit of the safety net; a dip of minutes does not restart it."""
    if net is None or net.score < ENDS_BELOW:
        return None
    if net.score < policy.news2_from:
        return None if hold is None else replace(hold, dipped_at=hold.dipped_at or at)
    if hold is None or (hold.dipped_at is not None and at - hold.dipped_at > LONGEST_DIP):
        return Hold(at)
    return replace(hold, dipped_at=None)


def _rearmed(episode: Episode | None, net: Net | None) -> Episode | None:
    """Return an episode in which the safety net may bring news again once NEWS2 has fallen far enough."""
    if episode is None or net is None or net.score >= ENDS_BELOW:
        return episode
    return replace(episode, emergency=False)


def _goes_on(policy: Policy, episode: Episode, risk: float | None, net: Net | None) -> bool:
    """Whether an episode goes on although nothing is high any more; where the model cannot speak, NEWS2 decides alone."""
    if risk is None or policy.rearm is None:
        return episode.emergency or (net is not None and net.score >= ENDS_BELOW)
    return episode.emergency or risk >= policy.rearm


def _sound(state: State, at: datetime, cause: Cause) -> Decision:
    episode = state.episode or Episode(at, 0)
    sounded = replace(episode, sounded=episode.sounded + 1, emergency=episode.emergency or cause == "news2")
    event: Event = "sounded_again" if episode.sounded else "sounded"
    return Decision(replace(state, episode=sounded, last_sounded_at=at), event, cause)
