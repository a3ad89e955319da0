"""From new risks to changes of the ward state: a pure function of the risks, the wards' policies and what is remembered."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

import pandas as pd

from vigil.features.derived import SCORE_CARRY_HOURS
from vigil.features.kernel.plan import HOUR_US
from vigil.models.alarms.critical_bounds import Bound
from vigil.models.alarms.patient_terms import Breach, PatientTerms, causes_of, describe_terms
from vigil.models.alarms.policy import AlarmState, Decision, Episode, Policy, SafetyNetScore, decide
from vigil.models.assessment import SILENT_AFTER, Assessment
from vigil.models.registry import RegisteredModel
from vigil.models.training.risk_model import EDGE
from vigil.serving.records.journal_snapshot import Superseded
from vigil.serving.records.timestamps import microsecond
from vigil.serving.records.ward_rows import Alarm, AlarmChange, Event, EventKind, WardRisk, WardUpdate, bound_fields
from vigil.serving.records.ward_state import alarm_id
from vigil.serving.scoring.critical import find_critical
from vigil.serving.scoring.standing import describe_assessment

NOTIFY_LOG_ODDS: Final = 0.25  # a risk that moved by this much is news to the followers of a ward; ours
EVENT_KINDS: Final[Mapping[str, EventKind]] = {
    "sounded": "alarm",
    "sounded_again": "alarm",
    "withheld": "alarm_withheld",
    "ended": "alarm_ended",
}
# What an event shows of a risk.
RISK_EVENT_FIELDS: Final = (
    "index_time", "basis", "probability", "band", "decided_by", "reasons", "findings", "unusual", "news2", "news2_highest",
    "model_name", "model_version", "feature_service",
)  # fmt: skip
_SILENT_US: Final = int(SILENT_AFTER.total_seconds() * 1e6)


@dataclass(frozen=True, slots=True)
class LastNotified:
    """What followers of a ward were last told of a subject."""

    ward: str
    probability: float | None
    band: str
    news2: int
    is_silent: bool

    @classmethod
    def from_risk(cls, risk: WardRisk) -> "LastNotified":
        """Return what a risk tells."""
        latest = risk.latest_reading_at
        is_silent = latest is None or risk.index_time - latest >= _SILENT_US
        return cls(risk.ward, risk.probability, risk.band, risk.news2, is_silent)

    def differs_from(self, other: "LastNotified") -> bool:
        """Return whether the difference is news."""
        if (self.ward, self.band, self.news2) != (other.ward, other.band, other.news2):
            return True
        if self.probability is None or other.probability is None:
            return self.probability is not other.probability
        if self.probability == other.probability:
            return False
        return abs(_log_odds(self.probability) - _log_odds(other.probability)) >= NOTIFY_LOG_ODDS


def _log_odds(probability: float) -> float:
    """Return the log-odds of one number, in a twentieth of the time that the model's own function for arrays takes."""
    p = min(max(probability, EDGE), 1 - EDGE)
    return math.log(p / (1 - p))


@dataclass(frozen=True, slots=True)
class Rescored:
    """A subject's new risk, with the ward they are in and its policy.

    Attributes:
        policy: of the ward.
        superseded: the observations that were corrected or retracted, or that an unmerge took away, since the last risk.
        bounds: those that stand.
        arrived: bounds that were recorded since the last risk.
        received_from: subjects that some of their observations counted for before a merge or unmerge.
        terms: of the patient; None: the ward's alone.
    """

    risk: Assessment
    prediction_id: str
    ward: str
    policy: Policy
    superseded: Sequence[Superseded] = ()
    bounds: tuple[Bound, ...] = ()
    arrived: Sequence[Bound] = ()
    received_from: Sequence[str] = ()
    terms: PatientTerms | None = None

    @property
    def own_policy(self) -> Policy:
        """The alarm policy of this patient."""
        return self.policy if self.terms is None else self.terms.own_policy(self.policy)

    @property
    def critical(self) -> tuple[Bound | Breach, ...]:
        """The bounds that stand and are critical for this subject, and limits of theirs that are reached."""
        return find_critical(self.risk, self.bounds, self.terms)


@dataclass(frozen=True, slots=True)
class Departure:
    """Why a subject is not monitored any more: discharged at a time (microseconds), or merged into a subject of a ward."""

    at: int
    merged_into: str | None = None
    ward: str | None = None


@dataclass
class Memory:
    """What is remembered of subjects between two updates, by subject key.

    Attributes:
        states: of the alarm policy.
        notified: what followers know.
    """

    states: dict[str, AlarmState] = field(default_factory=dict)
    notified: dict[str, LastNotified] = field(default_factory=dict)


# Whether a ward's budget allows an alarm: its name, subjects of this update that it did not have, alarms of this update.
HasRoom = Callable[[str, int, int], bool]


@dataclass(frozen=True)
class Updates:
    """Turns new risks into a :class:`WardUpdate`.

    Attributes:
        task: name of the question that the risks answer.
        model: that made them; None: none was asked.
        feature_service: what it read.
        has_room: asked for alarms of the model only.
    """

    task: str
    model: RegisteredModel | None
    feature_service: str
    has_room: HasRoom

    def update(
        self, rescored: Sequence[Rescored], departed: Mapping[str, Departure], memory: Memory, at: pd.Timestamp
    ) -> tuple[WardUpdate, Memory]:
        """Return what new risks change, and what to remember of these subjects from then on.

        Args:
            rescored: the new risks, each subject once.
            departed: subjects that are not monitored any more.
            memory: what is remembered so far.
            at: when the events happen.
        """
        update, later, time = WardUpdate(removed=list(departed)), Memory(), microsecond(at)
        for subject in rescored:
            self._add(update, later, subject, memory, time)
        for key, departure in departed.items():
            later.states[key] = self._end(update, key, memory, time, departure)
        return update, later

    def _add(self, update: WardUpdate, later: Memory, subject: Rescored, memory: Memory, time: int) -> None:
        key, ward = subject.risk.patient, subject.ward
        risk = self._ward_risk(subject)
        now, before = LastNotified.from_risk(risk), memory.notified.get(key)
        if before is not None and before.ward != ward:
            self._move(update, key, memory.states.get(key, AlarmState()), before.ward, ward, time)
        is_news = before is None or now.differs_from(before)
        later.notified[key] = now if before is None or is_news else replace(before, is_silent=now.is_silent)
        if is_news:
            update.events.append(Event(ward, key, "risk", time, risk_fields(risk)))
        if now.is_silent and before is not None and not before.is_silent:
            update.events.append(Event(ward, key, "silent", time, {"latest_reading_at": risk.latest_reading_at}))
        for bound in {bound.name: bound for bound in subject.arrived}.values():  # the latest of each signal and side
            update.events.append(Event(ward, key, "beyond_range", time, bound_fields(bound)))
        state = _take_over(memory.states.get(key, AlarmState()), self._givers(subject, memory))
        self._mark_retracted(update, subject, state, time)
        decision = self._decide(update, subject, state, memory)
        if (episode := decision.state.episode or state.episode) is not None:
            self._record(update, self._alarm_id(key, episode), state, decision, risk, subject, time)
        later.states[key] = decision.state
        if (hold := decision.state.hold) is not None:
            risk = replace(risk, urgent_since=_microsecond(hold.since), dipped_at=_microsecond(hold.dipped_at))
        update.risks.append(risk)

    def _mark_retracted(self, update: WardUpdate, subject: Rescored, state: AlarmState, time: int) -> None:
        """Mark an alarm that rests on what is superseded now: known when it sounded, and then not too old for the score."""
        sounded_at = _microsecond(state.last_sounded_at)
        if state.episode is None or sounded_at is None:
            return
        oldest = sounded_at - SCORE_CARRY_HOURS * HOUR_US
        if any(old.recorded_at <= sounded_at and old.observed_at > oldest for old in subject.superseded):
            alarm = self._alarm_id(subject.risk.patient, state.episode)
            at = microsecond(subject.risk.index_time)
            update.changed.append(AlarmChange(alarm, {"basis_retracted_at": at}))
            body = {"alarm_id": alarm, "basis_retracted_at": at}
            update.events.append(Event(subject.ward, subject.risk.patient, "alarm_basis_retracted", time, body))

    def _decide(self, update: WardUpdate, subject: Rescored, state: AlarmState, memory: Memory) -> Decision:
        """Decide by the model's risk, NEWS2 and critical bounds; only the model's alarms wait for room in the ward's budget."""
        risk, policy = subject.risk, subject.own_policy
        if risk.score != "NEWS2":
            net: SafetyNetScore | None = SafetyNetScore(
                0, 0
            )  # a score that is not made for a patient sounds nothing, and keeps nothing open
        else:
            net = None if risk.net_score is None or risk.net_spot is None else SafetyNetScore(risk.net_score, risk.net_spot)
        now, bounds = risk.index_time.to_pydatetime(), tuple(bound.name for bound in subject.critical)
        decision = decide(policy, state, risk.probability, net, now, bounds=bounds)
        if decision.cause == "model" and not _have_alarm(self._givers(subject, memory)):
            ward, key = subject.ward, risk.patient
            here = [key, *(row.subject_id for row in update.risks if row.ward == ward)]
            newcomers = sum(name not in memory.notified for name in here)
            sounded = sum(event.kind == "alarm" and event.ward == ward for event in update.events)
            if not self.has_room(ward, newcomers, sounded):
                return decide(policy, state, risk.probability, net, now, bounds=bounds, room=False)
        return decision

    def _record(
        self,
        update: WardUpdate,
        alarm: str,
        before: AlarmState,
        decision: Decision,
        risk: WardRisk,
        subject: Rescored,
        time: int,
    ) -> None:
        """Record what a decision does to the alarm of an episode, and the event that followers of the ward see."""
        after, event = decision.state, decision.event
        episode = after.episode or before.episode
        assert episode is not None
        bounds = [bound_fields(bound) for bound in subject.critical if bound.name in episode.bounds]
        if event is None:
            if after.episode != before.episode:  # NEWS2 has fallen, or a bound stands no more: its next alarm is news again
                update.changed.append(AlarmChange(alarm, {"emergency": episode.emergency, "bounds": bounds}))
            return
        sounded_at = _microsecond(after.last_sounded_at)
        cause: dict[str, Any] = {
            "cause": decision.cause,
            "reasons": risk.reasons,
            "emergency": episode.emergency,
            "bounds": bounds or None,
            "terms": _terms_of(subject),
            "limits": {name: _microsecond(at) for name, at in after.limits.items()},
        }
        if before.episode is None:
            update.opened.append(
                Alarm(
                    alarm_id=alarm,
                    subject_id=risk.subject_id,
                    ward=risk.ward,
                    opened_at=risk.index_time,
                    sounded=episode.sounded,
                    last_sounded_at=sounded_at if episode.sounded else None,
                    basis=risk.basis,
                    probability=risk.probability,
                    news2=risk.news2,
                    prediction_id=risk.prediction_id,
                    model_name=risk.model_name,
                    model_version=risk.model_version,
                    feature_service=risk.feature_service,
                    **cause,
                )
            )
        elif event == "ended":
            update.changed.append(AlarmChange(alarm, {"ended_at": risk.index_time}))
        else:
            values = {"sounded": episode.sounded, "last_sounded_at": sounded_at, **cause}
            if (episode.emergency and not before.episode.emergency) or set(episode.bounds) - set(before.episode.bounds):
                # Actions about an alarm of another cause were not about this one.
                values |= {"status": "open", "acted_at": None, "acted_by": None, "reason": None}
            update.changed.append(AlarmChange(alarm, values))
        body = {"alarm_id": alarm, "sounded": episode.sounded, "cause": decision.cause, **risk_fields(risk)}
        if decision.cause is not None and bounds:
            body |= {"bounds": bounds}
        update.events.append(Event(risk.ward, risk.subject_id, EVENT_KINDS[event], time, body))

    def _move(self, update: WardUpdate, key: str, state: AlarmState, left: str, ward: str, time: int) -> None:
        """Notify the ward that a subject left, and transfer the open episode to the new ward."""
        update.events.append(Event(left, key, "left", time))
        if state.episode is not None:
            alarm = self._alarm_id(key, state.episode)
            update.changed.append(AlarmChange(alarm, {"ward": ward}))
            if state.episode.sounded:
                body = {"alarm_id": alarm, "sounded": state.episode.sounded}
                update.events.append(Event(ward, key, "alarm_moved", time, body))

    def _givers(self, subject: Rescored, memory: Memory) -> list[AlarmState]:
        """Return what is remembered of the subjects that a merge or unmerge took observations from."""
        return [memory.states.get(key, AlarmState()) for key in subject.received_from]

    def _end(self, update: WardUpdate, key: str, memory: Memory, time: int, departure: Departure) -> AlarmState:
        """End the episode of a subject that left, as of when they left."""
        state, before = memory.states.get(key, AlarmState()), memory.notified.get(key)
        if state.episode is not None:
            alarm = self._alarm_id(key, state.episode)
            update.changed.append(AlarmChange(alarm, {"ended_at": departure.at}))
            if before is not None:
                body = {"alarm_id": alarm, "sounded": state.episode.sounded}
                update.events.append(Event(before.ward, key, "alarm_ended", time, body))
        if before is not None:  # not a second time, if they had left already
            body = {"merged_into": departure.merged_into, "survivor_ward": departure.ward} if departure.merged_into else {}
            update.events.append(Event(before.ward, key, "left", time, body))
        return replace(state, episode=None, hold=None)

    def _alarm_id(self, key: str, episode: Episode) -> str:
        return alarm_id(key, self.task, episode.opened_at)

    def _ward_risk(self, subject: Rescored) -> WardRisk:
        risk = subject.risk.with_critical(causes_of(subject.critical))
        index_time, since = microsecond(risk.index_time), risk.hours_since_reading
        readings = [bound.observed_at for bound in subject.bounds]  # a sensor that reports Low is not silent
        if since is not None:
            readings.append(index_time - round(since * HOUR_US))
        return WardRisk(
            subject_id=risk.patient,
            ward=subject.ward,
            index_time=index_time,
            prediction_id=subject.prediction_id,
            basis=risk.basis,
            probability=risk.probability,
            band=risk.band,
            news2=risk.news2,
            news2_highest=risk.news2_highest,
            latest_reading_at=max(readings, default=None),
            model_name=self.model.name if self.model else None,
            model_version=self.model.version if self.model else None,
            feature_service=self.feature_service,
            threshold=subject.policy.threshold if risk.probability is not None else None,
            decided_by=risk.decided_by,
            reasons=list(risk.reasons),
            findings=list(risk.findings),
            unusual=list(risk.unusual),
            net_score=risk.net_score,
            bounds=[bound_fields(bound) for bound in subject.bounds],
            terms=None if subject.terms is None else describe_terms(subject.terms),
            assessment=describe_assessment(subject.risk),
        )


def _take_over(state: AlarmState, givers: Sequence[AlarmState]) -> AlarmState:
    """Return the alarm state of a subject that received observations of others by a merge or unmerge.

    Nothing that was urgent becomes less so: the time for which NEWS2 has been high counts on, and an open alarm of a giver
    sounds again for the receiver, if their own risk is high, without waiting for budget or refractory period.
    """
    holds = [own.hold for own in (state, *givers) if own.hold is not None]
    hold = min(holds, key=lambda hold: hold.since, default=None)
    is_news = state.episode is None and _have_alarm(givers)
    return replace(state, last_sounded_at=None if is_news else state.last_sounded_at, hold=hold)


def _have_alarm(states: Sequence[AlarmState]) -> bool:
    """Return whether an alarm has sounded in an open episode of any of some subjects."""
    return any(state.episode is not None and state.episode.sounded > 0 for state in states)


def _terms_of(subject: Rescored) -> dict[str, Any]:
    """Return the terms of an alarm, as they are stored with it: those of the policy, and what staff decided for the patient."""
    policy = subject.own_policy
    return {
        "threshold": policy.threshold,
        "news2_from": policy.news2_from,
        "refractory_hours": policy.refractory_period.total_seconds() / 3600,
        "patient": None if subject.terms is None else describe_terms(subject.terms),
    }


def risk_fields(risk: WardRisk) -> dict[str, Any]:
    """Return what an event shows of a risk."""
    return {name: getattr(risk, name) for name in RISK_EVENT_FIELDS}


def _microsecond(time: datetime | None) -> int | None:
    return None if time is None else microsecond(pd.Timestamp(time))
