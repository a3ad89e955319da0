"""When does an alarm sound, and which belong together? Decided risk by risk, as they come.

An alarm sounds where the risk is at or above the threshold and none sounded within the silence before: what
:class:`models.evaluation.alarms.Watch` counts, so that a ward gets what an evaluation promised. Alarms of one episode share a
record: an episode ends when the risk falls below the threshold by a margin, so that one hovering around it is one episode
(hysteresis). A ward may have a budget; what it does not allow is withheld, which is said and kept, and sounds once there is
room.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal

from features.scores import NEWS2_HIGH
from models.evaluation.alarms import SILENCE

Event = Literal["sounded", "sounded_again", "withheld", "ended"]

REARM_SHARE: Final = 0.8  # of the threshold: an episode ends below it. Ours; to be set with the ward.
# NEWS2 from which a patient needs an emergency response (RCP 2017, chart 4): no budget withholds his alarm.
EMERGENCY_NEWS2: Final = NEWS2_HIGH


@dataclass(frozen=True, slots=True)
class Policy:
    """What a ward asks of its alarms.

    Attributes:
        threshold: risk at or above which it is high: a probability, or a score where there is no model.
        silence: after an alarm of a patient, before his next.
        rearm: risk below which his episode ends.
    """

    threshold: float
    rearm: float
    silence: timedelta = SILENCE

    @classmethod
    def at(cls, threshold: float) -> "Policy":
        """The usual margin below a threshold."""
        return cls(threshold=threshold, rearm=REARM_SHARE * threshold)


@dataclass(frozen=True, slots=True)
class Episode:
    """Risks that stayed high, or nearly so.

    Attributes:
        opened_at: index time of the first risk at or above the threshold.
        sounded: alarms so far; 0: all were withheld.
    """

    opened_at: datetime
    sounded: int


@dataclass(frozen=True, slots=True)
class State:
    """What is remembered of a patient between two risks."""

    episode: Episode | None = None
    last_sounded_at: datetime | None = None


def decide(policy: Policy, state: State, risk: float, at: datetime, *, room: bool = True) -> tuple[State, Event | None]:
    """What a new risk does.

    Args:
        policy: of the patient's ward.
        state: what was remembered.
        risk: in the terms of the policy's threshold.
        at: its index time; risks come in order of it.
        room: whether the ward's budget allows an alarm now.

    Returns:
        What to remember, and what happened, if anything: ``sounded`` (the first alarm of an episode), ``sounded_again``,
        ``withheld`` (said once an episode), ``ended``.
    """
    episode = state.episode
    if episode is not None and risk < policy.rearm:
        return replace(state, episode=None), "ended"
    silent = state.last_sounded_at is not None and at - state.last_sounded_at < policy.silence
    if risk < policy.threshold or (episode is None and silent):
        return state, None
    if silent or not room:
        return replace(state, episode=episode or Episode(at, 0)), None if episode else "withheld"
    sounded = episode.sounded if episode else 0
    opened_at = episode.opened_at if episode else at
    return State(Episode(opened_at, sounded + 1), at), "sounded_again" if sounded else "sounded"
