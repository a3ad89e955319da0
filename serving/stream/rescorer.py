"""From readings to risks and alarms: reads the journal, refreshes those patients' features, scores them, decides alarms.

Readings that came meanwhile are taken in together, each patient is rescored once. Whatever happens to this process, it goes on
from the time that the board says the risks are of: a group is read again until its risks are up.
"""

import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
import pandas as pd

from features.catalogue import INDEX_STEP, service_views
from features.errors import VigilError
from features.kernel.plan import HOUR_US, UNBOUNDED
from models.alarms.policy import Decision, Episode, Net, Policy, State, decide, is_due
from models.assessment import SILENT_AFTER, Risk, assess_registered, trusted
from models.registry import RegisteredModel
from models.tasks import RiskTask
from models.training.risk_model import log_odds
from serving.observability.logs import place_of
from serving.observability.metrics import Metrics
from serving.records.database import instant, microsecond, reading
from serving.records.journal import Journal
from serving.records.prediction_log import PredictionLog, entry
from serving.records.ward_settings import Wards
from serving.records.ward_state import Board, Page, alarm_id
from serving.scoring.champion import Champion
from serving.scoring.subject_state import MonitoredPatients
from serving.stream.alarm_updates import put_down, said
from serving.stream.online_store_writer import FeastFollower

logger = logging.getLogger("vigil.rescorer")

TOLD_LOG_ODDS: Final = 0.25  # a risk that moved by this much is news to those who follow the ward; ours

_MOST_READINGS: Final = 2_000  # taken in at a time
_MOST_DUE: Final = 200  # patients rescored at a time although nothing came
_CAREFUL_STEPS: Final = 100  # after something unforeseen
_PAUSE_SECONDS: Final = 0.02  # between looks at a journal where nothing is new
_RETRY_SECONDS: Final = 0.5
_BEAT: Final = timedelta(seconds=1)
_LOOK_FOR_SILENT: Final = timedelta(seconds=30)
_KEPT_IN_MEMORY: Final = timedelta(days=2)  # after a patient's last reading
_DAY: Final = timedelta(days=1)
_LONG_AGO: Final = pd.Timestamp(0, tz="UTC")
_PREDICTION_IDS: Final = uuid.UUID("b1d3f2c4-50a7-4f0f-9a58-0b6c2d9f7e13")


@dataclass(frozen=True, slots=True)
class _Told:
    """What followers of a ward were last told of a patient."""

    ward: str
    probability: float | None
    band: str
    news2: int
    silent: bool

    def differs(self, other: "_Told") -> bool:
        here, there = ((told.ward, told.band, told.news2, told.probability is None) for told in (self, other))
        if here != there:
            return True
        if self.probability is None or other.probability is None:
            return False
        before, now = log_odds([self.probability, other.probability])
        return bool(abs(now - before) >= TOLD_LOG_ODDS)


class Rescorer:
    """The rescoring of one home. One at a time."""

    def __init__(
        self,
        *,
        journal: Journal,
        board: Board,
        champion: Champion,
        task: RiskTask,
        log: PredictionLog,
        wards: Wards,
        feast: FeastFollower,
        metrics: Metrics,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._journal = journal
        self._board = board
        self._champion = champion
        self._task = task
        self._log = log
        self._wards = wards
        self._feast = feast
        self._metrics = metrics
        self._clock = clock
        self._beaten_at = self._looked_at = self._forgot_at = _LONG_AGO
        self._careful = 0  # steps in which each patient is tried alone
        self._begun = False

    def run(self, *, stopped: Callable[[], bool]) -> None:
        """Rescore until stopped. What cannot be done now is tried again."""
        while not stopped():
            try:
                if not self.step():
                    time.sleep(_PAUSE_SECONDS)
            except VigilError as error:
                logger.error("%s; trying again", error)  # noqa: TRY400 - the message says it all
                self._failed()
            except Exception as error:  # noqa: BLE001 - patients are watched on; the message may hold their data
                logger.error("unexpected %s at %s; trying again", type(error).__name__, place_of(error))  # noqa: TRY400
                self._careful = _CAREFUL_STEPS
                self._failed()

    def step(self) -> int:
        """Rescore whom the next groups are about, and some of those whose risk is due; returns how many.

        A sign of life is given when that is done, not before: one that can do nothing is not alive.
        """
        if not self._begun or self._champion.model is not self._registered:
            self._begin(self._champion.model)
        now = self._now()
        rescored = 0
        if not self._due and (self._more or self._journal.changed()):
            rescored = self._take_groups()
        # When nothing comes, or has not stopped coming for a while.
        if _passed(self._looked_at, now, _LOOK_FOR_SILENT if not rescored else 4 * _LOOK_FOR_SILENT):
            self._looked_at = now
            # Risks age even where nothing comes: once an index step those of silent patients are made anew.
            self._due |= dict.fromkeys(self._board.silent(now - INDEX_STEP))
            # And where an urgent score has held long enough since the last look.
            self._due |= dict.fromkeys(name for name, state in self._states.items() if is_due(state, now))
        if self._due or _passed(self._forgot_at, now, INDEX_STEP):
            rescored += self._rescore_due(now)
        self._careful = max(0, self._careful - 1)
        if _passed(self._beaten_at, now, _BEAT):
            self._beaten_at = now
            self._wards.refresh()
            self._board.beat(now)
        return rescored

    def _now(self) -> pd.Timestamp:
        return pd.Timestamp(self._clock())

    def _name(self, patient: str, episode: Episode) -> str:
        """Of an episode's alarm."""
        return alarm_id(patient, self._task.name, episode.opened_at)

    def _failed(self) -> None:
        """Whatever was half done: begin anew from what stands on the board."""
        self._begun = False
        self._metrics.rescoring_failed()
        time.sleep(_RETRY_SECONDS)

    def _begin(self, registered: RegisteredModel | None) -> None:
        """From what the board says, with a model or without."""
        self._begun = False
        self._registered, self._model = registered, trusted(registered)
        self._service = registered.feature_service if registered else self._task.feature_service
        self._up, _ = self._board.progress()  # time up to which the risks on the board know the journal
        self._patients = MonitoredPatients(tuple(service_views(self._service)), self._up)
        now = self._now()
        self._forgot_at = now
        self._states = self._board.states(now - _KEPT_IN_MEMORY)
        rows = self._board.risks()
        self._told = {row["patient"]: _told(row) for row in rows}
        # A ward is not ranked by two models for long. Due: patients whose risk is to be made anew although nothing came.
        in_use = (self._model.version if self._model else None, self._service)
        # Nor for long by rules of an earlier version, which did not say what decided.
        self._due = {
            row["patient"]: None
            for row in rows
            if (row["model_version"], row["feature_service"]) != in_use or row["decided_by"] is None
        }
        self._kept: dict[str, pd.Timestamp] = {}
        self._more = True  # the journal may have groups that were not looked at
        self._feast.follow(self._service)
        self._begun = True

    def _take_groups(self, until: int = UNBOUNDED) -> int:
        """Rescore whom the next groups, up to a time, are about."""
        self._more = True  # until a look finds nothing
        with reading(self._journal.engine) as connection:
            arrived = self._patients.advance(connection, _MOST_READINGS, until=until)
        self._more = bool(arrived)
        if arrived:
            self._publish(list(arrived))
            published = self._now()
            self._metrics.rescored([(published - instant(since)).total_seconds() for since in arrived.values()])
        return len(arrived)

    def _rescore_due(self, now: pd.Timestamp) -> int:
        """Some of those who are due, as of the present; before them whom the groups until then are about, page by page."""
        present = microsecond(self._journal.tick())
        while self._take_groups(until=present):
            pass
        self._more = True
        due = list(self._due)[:_MOST_DUE]
        with reading(self._journal.engine) as connection:
            for patient in due:
                self._patients.entry(connection, patient)
        self._patients.cursor = present
        self._publish(due, present)
        for patient in due:
            self._due.pop(patient, None)
        if _passed(self._forgot_at, now, INDEX_STEP):
            self._forgot_at = now
            self._forget(present)
        return len(due)

    def _forget(self, present: int) -> None:
        """Memory stays flat."""
        since = present - _KEPT_IN_MEMORY // timedelta(microseconds=1)
        self._patients.forget(present, silent_since=since)
        self._kept = {patient: time for patient, time in self._kept.items() if time >= instant(since)}
        self._states = {
            patient: state
            for patient, state in self._states.items()
            if state.episode or state.hold or (state.last_sounded_at is not None and state.last_sounded_at >= instant(since))
        }

    def _publish(self, patients: Sequence[str], time: int | None = None) -> None:
        """Score patients as of their last group, or of a time; put up what that says."""
        watched = [patient for patient in patients if self._patients.is_watched(patient)]
        gone = [patient for patient in patients if not self._patients.is_watched(patient)]
        if self._careful:
            watched = [patient for patient in watched if self._can_be_scored(patient, time)]
        rows = self._patients.at(watched, time)
        risks = assess_registered(self._registered, rows)
        made_at = self._now()
        ids = [self._prediction_id(risk) for risk in risks]
        page = Page(gone=gone)
        states: dict[str, State] = {}
        told: dict[str, _Told] = {}
        for risk, prediction_id in zip(risks, ids, strict=True):
            ward = self._patients.ward(risk.patient)
            policy = self._wards.of(ward).policy(self._model)
            row = self._row(risk, ward, prediction_id, policy.threshold)
            page.risks.append(row)
            news, before = _told(row), self._told.get(risk.patient)
            at = {"at": microsecond(made_at), "ward": ward, "patient": risk.patient}
            if before is not None and before.ward != ward:
                self._move(page, before.ward, at)
            is_news = before is None or news.differs(before)
            told[risk.patient] = news if before is None or is_news else replace(before, silent=news.silent)
            if is_news:
                page.events.append({**at, "kind": "risk", "body": said(row)})
            if news.silent and before is not None and not before.silent:
                page.events.append({**at, "kind": "silent", "body": {"latest_reading_at": row["latest_reading_at"]}})
            state = states[risk.patient] = self._decide(page, risk, row, policy, at)
            if state.hold is not None:
                row |= {"urgent_since": _microsecond(state.hold.since), "dipped_at": _microsecond(state.hold.dipped_at)}
        for patient in page.gone:
            states[patient] = self._end(page, patient, made_at)
        self._keep(risks, ids, rows, made_at)
        self._board.publish(page, self._patients.cursor, made_at, follows=self._up)
        self._up = self._patients.cursor
        self._states |= states
        self._told |= told
        for patient in page.gone:
            self._told.pop(patient, None)
        self._feast.put(rows)
        self._metrics.published(page, risks)

    def _can_be_scored(self, patient: str, time: int | None) -> bool:
        """Return whether a patient can be scored. A failure for one patient does not delay the others."""
        try:
            assess_registered(self._registered, self._patients.at([patient], time))
        except Exception as error:  # noqa: BLE001 - whatever it is; its message may hold patient data
            logger.error("a patient cannot be rescored: %s at %s", type(error).__name__, place_of(error))  # noqa: TRY400
            self._metrics.rescoring_failed()
            return False
        return True

    def _decide(self, page: Page, risk: Risk, row: Mapping[str, Any], policy: Policy, at: Mapping[str, Any]) -> State:
        """Decide what a risk does to the alarms of its patient, and put it on the page; returns what to remember."""
        before = self._states.get(risk.patient, State())
        decision = self._decision(page, risk, row["ward"], policy, before)
        if (episode := decision.state.episode or before.episode) is not None:
            put_down(page, self._name(risk.patient, episode), before, decision, row, at)
        return decision.state

    def _decision(self, page: Page, risk: Risk, ward: str, policy: Policy, state: State) -> Decision:
        """Decide by the model's risk and by NEWS2; only the model's alarms wait for room in the ward's budget."""
        if risk.score != "NEWS2":
            net: Net | None = Net(0, 0)  # what is not made for a patient sounds nothing, and keeps nothing open
        else:
            net = None if risk.net_score is None or risk.net_spot is None else Net(risk.net_score, risk.net_spot)
        now = risk.index_time.to_pydatetime()
        decision = decide(policy, state, risk.probability, net, now)
        if decision.cause == "model" and not self._has_room(page, ward):
            return decide(policy, state, risk.probability, net, now, room=False)
        return decision

    def _has_room(self, page: Page, ward: str) -> bool:
        """Whether the ward's budget of the last day allows another alarm."""
        since = self._now() - _DAY
        here = sum(event["kind"] == "alarm" and event["ward"] == ward for event in page.events)
        new = sum(row["ward"] == ward and row["patient"] not in self._told for row in page.risks)
        allowed = self._wards.of(ward).allowed(self._board.size(ward) + new, self._task.promise.alarms_per_patient_day)
        return bool(self._board.sounded(ward, since) + here < allowed)

    def _move(self, page: Page, left: str, at: Mapping[str, Any]) -> None:
        """Notify the ward that a patient left, and move the open episode to the new ward."""
        page.events.append({**at, "ward": left, "kind": "left", "body": {}})
        state = self._states.get(at["patient"], State())
        if state.episode is not None:
            name = self._name(at["patient"], state.episode)
            page.changed.append({"alarm_id": name, "ward": at["ward"]})
            if state.episode.sounded:
                body = {"alarm_id": name, "sounded": state.episode.sounded}
                page.events.append({**at, "kind": "alarm_moved", "body": body})

    def _end(self, page: Page, patient: str, at: pd.Timestamp) -> State:
        """End the episode of a patient who left, as of when they left."""
        state = self._states.get(patient, State())
        if state.episode is not None:
            name = self._name(patient, state.episode)
            page.changed.append({"alarm_id": name, "ended_at": self._patients.index_time(patient)})
        if (before := self._told.get(patient)) is not None:  # who had left already is not told again
            page.events.append({"at": microsecond(at), "ward": before.ward, "patient": patient, "kind": "left", "body": {}})
        return State(None, state.last_sounded_at)

    def _keep(self, risks: Sequence[Risk], ids: Sequence[str], rows: pd.DataFrame, made_at: pd.Timestamp) -> None:
        """Log what was said; once an index step a patient with the features, on which drift is measured."""
        full = {
            place: risk
            for place, risk in enumerate(risks)
            if risk.basis == "model" and risk.index_time - self._kept.get(risk.patient, _LONG_AGO) >= INDEX_STEP
        }
        features: dict[int, dict[str, float]] = {}
        if self._model is not None and full:
            model = self._model.model
            values = rows.iloc[list(full)][model.features].to_numpy(np.float64).tolist()
            features = {place: dict(zip(model.features, row, strict=True)) for place, row in zip(full, values, strict=True)}
        self._log.append(
            entry(risk, name, "rescorer", self._model, self._service, made_at, features=features.get(place))
            for place, (risk, name) in enumerate(zip(risks, ids, strict=True))
        )
        self._kept |= {risk.patient: risk.index_time for risk in full.values()}

    def _row(self, risk: Risk, ward: str, prediction_id: str, threshold: float | None) -> dict[str, Any]:
        since = risk.hours_since_reading
        return {
            "patient": risk.patient,
            "ward": ward,
            "index_time": microsecond(risk.index_time),
            "prediction_id": prediction_id,
            "basis": risk.basis,
            "probability": risk.probability,
            "band": risk.band,
            "news2": risk.news2,
            "news2_highest": risk.news2_highest,
            "latest_reading_at": None if since is None else microsecond(risk.index_time) - round(since * HOUR_US),
            "model_name": self._model.name if self._model else None,
            "model_version": self._model.version if self._model else None,
            "feature_service": self._service,
            "threshold": threshold if risk.probability is not None else None,
            "decided_by": risk.decided_by,
            "reasons": list(risk.reasons),
            "findings": list(risk.findings),
            "unusual": list(risk.unusual),
            "net_score": risk.net_score,
            "urgent_since": None,  # which the alarms decide
            "dipped_at": None,
        }

    def _prediction_id(self, risk: Risk) -> str:
        """Whoever makes it again, after having been killed, gives it the same name."""
        version = self._model.version if self._model else "none"
        return str(uuid.uuid5(_PREDICTION_IDS, f"{self._task.name}/{version}/{risk.patient}/{risk.index_time.isoformat()}"))


def _microsecond(time: datetime | None) -> int | None:
    return None if time is None else microsecond(pd.Timestamp(time))


def _passed(since: pd.Timestamp, now: pd.Timestamp, period: timedelta) -> bool:
    """Whether a period passed, or the clock was set back."""
    return bool(now - since >= period or now < since)


def _told(row: Mapping[str, Any]) -> _Told:
    """What a row of the board tells."""
    return _Told(row["ward"], row["probability"], row["band"], row["news2"], _is_silent(row))


def _is_silent(row: Mapping[str, Any]) -> bool:
    latest = row["latest_reading_at"]
    return latest is None or bool(row["index_time"] - latest >= SILENT_AFTER // timedelta(microseconds=1))
