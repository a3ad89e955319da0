"""From observations to risks and alarms: reads the journal, updates features, scores, and commits what changes in the wards.

Observations that arrived meanwhile are taken in together, and each subject is rescored once. If the process is killed, it
continues from the time that the ward state was made from: a group is read again until its risks are committed.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final

import numpy as np
import pandas as pd

from vigil.features.catalogue import INDEX_STEP, views_to_assess
from vigil.features.declarations import Declarations
from vigil.features.errors import VigilError
from vigil.features.kernel.plan import UNBOUNDED
from vigil.models.alarms.critical_bounds import Bound
from vigil.models.alarms.patient_terms import PatientTerms
from vigil.models.alarms.policy import needs_reassessment
from vigil.models.assessment import Assessment, assess_registered, usable_model
from vigil.models.bedside import ScoreTerms
from vigil.models.registry import RegisteredModel
from vigil.models.tasks import RiskTask
from vigil.serving.observability.logs import error_location
from vigil.serving.observability.metrics import Metrics
from vigil.serving.records.journal import Journal
from vigil.serving.records.journal_snapshot import JournalSnapshot, Superseded
from vigil.serving.records.merges import Move
from vigil.serving.records.prediction_log import PredictionLog, prediction
from vigil.serving.records.prediction_rows import rescored_id
from vigil.serving.records.timestamps import instant, microsecond
from vigil.serving.records.ward_settings import WardSettingsFile
from vigil.serving.records.ward_state import WardState
from vigil.serving.scoring.champion import Champion, service_in_use
from vigil.serving.scoring.news2_terms import terms_of
from vigil.serving.scoring.subject_state import SubjectStates
from vigil.serving.stream.alarm_updates import Departure, LastNotified, Memory, Rescored, Updates
from vigil.serving.stream.online_store_writer import OnlineStoreWriter
from vigil.serving.stream.silence_follower import SilenceFollower

logger = logging.getLogger("vigil.rescorer")

_MAX_OBSERVATIONS: Final = 2_000  # taken in at a time
_MAX_SCHEDULED: Final = 200  # subjects rescored at a time although nothing arrived
_ISOLATED_STEPS: Final = 100  # after an unexpected failure
_PAUSE_SECONDS: Final = 0.02  # between looks at a journal in which nothing is new
_RETRY_SECONDS: Final = 0.5
_HEARTBEAT: Final = timedelta(seconds=1)
_LOOK_FOR_STALE: Final = timedelta(seconds=30)
_REMEMBERED: Final = timedelta(days=2)  # after a subject's last observation
_DAY: Final = timedelta(days=1)
_LONG_AGO: Final = pd.Timestamp(0, tz="UTC")


class Rescorer:
    """The rescorer of one home. Only one may run at a time."""

    def __init__(
        self,
        *,
        journal: Journal,
        ward_state: WardState,
        champion: Champion,
        task: RiskTask,
        log: PredictionLog,
        wards: WardSettingsFile,
        declared: Callable[[], Declarations],
        online_store: OnlineStoreWriter,
        metrics: Metrics,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._journal = journal
        self._ward_state = ward_state
        self._champion = champion
        self._task = task
        self._log = log
        self._wards = wards
        self._declared = declared
        self._online_store = online_store
        self._metrics = metrics
        self._clock = clock
        self._silences = SilenceFollower(journal, ward_state, declared, metrics)
        self._heartbeat_at = self._looked_at = self._evicted_at = _LONG_AGO
        self._ended_until = 0  # terms that ended by then were looked for, microseconds
        self._isolate_failures = 0  # steps in which each subject is tried alone
        self._is_loaded = False

    def run(self, *, stopped: Callable[[], bool]) -> None:
        """Rescore until stopped. What cannot be done now is tried again."""
        while not stopped():
            try:
                if not self.step():
                    time.sleep(_PAUSE_SECONDS)
            except VigilError as error:
                logger.error("%s; trying again", error)  # noqa: TRY400 - the message says it all
                self._recover()
            except Exception as error:  # noqa: BLE001 - monitoring goes on; the message may hold patient data
                logger.error("unexpected %s at %s; trying again", type(error).__name__, error_location(error))  # noqa: TRY400
                self._isolate_failures = _ISOLATED_STEPS
                self._recover()

    def step(self) -> int:
        """Rescore the subjects of the next groups, and some that are scheduled; return how many.

        The heartbeat follows the work: a rescorer that can do nothing is not alive.
        """
        if not self._is_loaded or self._champion.model is not self._registered:
            self._load(self._champion.model)
        now = self._now()
        rescored = 0
        if not self._scheduled and (self._has_more or self._journal.has_changed()):
            rescored = self._take_groups()
        # When nothing arrives, or has not stopped arriving for a while.
        if _has_passed(self._looked_at, now, _LOOK_FOR_STALE if not rescored else 4 * _LOOK_FOR_STALE):
            self._looked_at = now
            # Risks age even if nothing arrives: those of silent subjects are renewed once an index step.
            self._scheduled |= dict.fromkeys(self._ward_state.stale_subjects(now - INDEX_STEP))
            self._scheduled |= dict.fromkeys(sorted(self._ended_terms(now)))
            # An urgent score may have held long enough since the last look.
            self._scheduled |= dict.fromkeys(
                key for key, state in self._memory.states.items() if needs_reassessment(state, now)
            )
        if self._scheduled or _has_passed(self._evicted_at, now, INDEX_STEP):
            rescored += self._rescore_scheduled(now)
        self._silences.step(now, self._followed)
        self._isolate_failures = max(0, self._isolate_failures - 1)
        if _has_passed(self._heartbeat_at, now, _HEARTBEAT):
            self._heartbeat_at = now
            self._wards.refresh()
            self._ward_state.heartbeat(now)
        return rescored

    def _ended_terms(self, now: pd.Timestamp) -> set[str]:
        """Return the monitored subjects whose terms have ended since the last look."""
        since, self._ended_until = self._ended_until, max(self._ended_until, microsecond(now))
        with self._journal.snapshot() as journal:
            return journal.ended_terms(since, self._ended_until) & self._memory.notified.keys()

    def _followed(self) -> dict[str, str]:
        """Return the ward of each subject whose risk is in the ward state."""
        return {subject: told.ward for subject, told in self._memory.notified.items()}

    def _now(self) -> pd.Timestamp:
        return pd.Timestamp(self._clock())

    def _recover(self) -> None:
        """Discard what is half done: load the committed state again."""
        self._is_loaded = False
        self._metrics.count_rescoring_failure()
        time.sleep(_RETRY_SECONDS)

    def _load(self, registered: RegisteredModel | None) -> None:
        """Start from the committed ward state, with a model or without."""
        self._is_loaded = False
        self._registered, self._model = registered, usable_model(registered)
        self._service = service_in_use(registered, self._task)
        self._committed, _ = self._ward_state.progress()  # time up to which the journal is in the committed risks
        self._subjects = SubjectStates(views_to_assess(self._service), self._committed)
        self._updates = Updates(self._task.name, self._model, self._service, self._has_room)
        now = self._now()
        self._evicted_at = now
        risks = self._ward_state.risks()
        notified = {risk.subject_id: LastNotified.from_risk(risk) for risk in risks}
        self._memory = Memory(self._ward_state.alarm_states(now - _REMEMBERED), notified)
        # A ward is not ranked by two models for long, nor by rules of an earlier version, which did not store what decided.
        in_use = (self._model.version if self._model else None, self._service)
        self._scheduled = {  # subjects to be rescored although nothing arrived, in order
            risk.subject_id: None
            for risk in risks
            if (risk.model_version, risk.feature_service) != in_use or risk.assessment is None
        }
        self._logged_features_at: dict[str, pd.Timestamp] = {}
        self._has_more = True  # the journal may hold groups that were not looked at
        # Terms that ended before the oldest risk are in all of them.
        self._ended_until = min((risk.index_time for risk in risks), default=self._committed)
        self._online_store.follow(self._service)
        self._is_loaded = True

    def _take_groups(self, until: int = UNBOUNDED) -> int:
        """Rescore the subjects of the next groups, up to a time; return how many."""
        self._has_more = True  # until a look finds nothing
        with self._journal.snapshot() as journal:
            start = self._subjects.cursor
            arrived = self._subjects.advance(journal, _MAX_OBSERVATIONS, until=until)
            superseded = journal.superseded(start, self._subjects.cursor) if arrived else {}
            bounds = journal.arrived_bounds(start, self._subjects.cursor) if arrived else {}
            moves = journal.moves(start, self._subjects.cursor) if arrived else []
            self._load_survivors(journal, list(arrived))
        self._has_more = bool(arrived)
        if arrived:
            self._rescore(list(arrived), superseded=superseded, arrived=bounds, moves=moves)
            committed_at = self._now()
            self._metrics.observe_freshness([(committed_at - instant(since)).total_seconds() for since in arrived.values()])
        return len(arrived)

    def _load_survivors(self, journal: JournalSnapshot, subjects: Sequence[str]) -> None:
        """Load the survivors of merged subjects, since their ward is shown."""
        for subject in subjects:
            if (survivor := self._subjects.merged_into(subject)) is not None:
                self._subjects.load(journal, survivor)

    def _rescore_scheduled(self, now: pd.Timestamp) -> int:
        """Rescore some of the scheduled subjects as of the present, after the subjects of all groups until then."""
        present = microsecond(self._journal.tick())
        self._ended_until = min(self._ended_until, present)  # what ends after the time of scoring is looked for again
        while self._take_groups(until=present):
            pass
        self._has_more = True
        subjects = list(self._scheduled)[:_MAX_SCHEDULED]
        with self._journal.snapshot() as journal:
            for subject in subjects:
                self._subjects.load(journal, subject)
            self._load_survivors(journal, subjects)
        self._subjects.cursor = present
        self._rescore(subjects, present)
        for subject in subjects:
            self._scheduled.pop(subject, None)
        if _has_passed(self._evicted_at, now, INDEX_STEP):
            self._evicted_at = now
            self._evict(present)
        return len(subjects)

    def _evict(self, present: int) -> None:
        """Bound the memory."""
        since = present - _REMEMBERED // timedelta(microseconds=1)
        self._subjects.evict(present, silent_since=since)
        self._logged_features_at = {key: at for key, at in self._logged_features_at.items() if at >= instant(since)}
        self._memory.states = {
            key: state
            for key, state in self._memory.states.items()
            if state.episode or state.hold or (state.last_sounded_at is not None and state.last_sounded_at >= instant(since))
        }

    def _rescore(
        self,
        subjects: Sequence[str],
        time: int | None = None,
        superseded: Mapping[str, Sequence[Superseded]] = MappingProxyType({}),
        arrived: Mapping[str, Sequence[Bound]] = MappingProxyType({}),
        moves: Sequence[Move] = (),
    ) -> None:
        """Score subjects as of their last group, or of a time, and commit what that changes.

        Args:
            subjects: to be scored.
            time: microseconds; None: of their last group.
            superseded: their observations that ceased to count since they were scored last.
            arrived: their bounds that were recorded since then.
            moves: merges and unmerges since then.
        """
        monitored = [key for key in subjects if self._subjects.is_monitored(key)]
        departed = {key: self._departure(key) for key in subjects if not self._subjects.is_monitored(key)}
        if self._isolate_failures:
            monitored = [key for key in monitored if self._can_be_scored(key, time)]
        rows = self._subjects.features(monitored, time)
        times = dict(zip(rows["subject_id"].tolist(), rows["index_time"].map(microsecond).tolist(), strict=True))
        with self._journal.snapshot() as journal:
            terms, standing = journal.terms(times), journal.standing_bounds(times)
            score_terms = self._score_terms(journal, times, terms)
        risks = assess_registered(self._registered, rows, terms=score_terms)
        made_at = self._now()
        ids = [self._prediction_id(risk) for risk in risks]
        rescored = []
        for risk, prediction_id in zip(risks, ids, strict=True):
            ward = self._subjects.ward(risk.patient)
            policy = self._wards.settings(ward).policy(self._model)
            key = risk.patient
            givers = [move.origin for move in moves if move.target == key]
            told = (superseded.get(key, ()), standing.get(key, ()), arrived.get(key, ()), givers)
            rescored.append(Rescored(risk, prediction_id, ward, policy, *told, terms=terms.get(key)))
        update, later = self._updates.update(rescored, departed, self._memory, made_at)
        self._log_predictions(risks, ids, rows, made_at)
        self._ward_state.commit(update, self._subjects.cursor, made_at, follows=self._committed)
        self._committed = self._subjects.cursor
        self._memory.states |= later.states
        self._memory.notified |= later.notified
        for key in departed:
            self._memory.notified.pop(key, None)
        self._online_store.put(rows)
        self._metrics.count_update(update, risks)

    def _score_terms(
        self, journal: JournalSnapshot, times: Mapping[str, int], own: Mapping[str, PatientTerms]
    ) -> list[ScoreTerms]:
        """Return the terms of NEWS2 for each subject. The journal is asked only if it matters who sent the values."""
        declared = self._declared()
        latest = journal.latest(times) if declared.any("carry_hours") else {}
        return [terms_of(latest.get(subject, {}), declared, own.get(subject)) for subject in times]

    def _departure(self, subject: str) -> Departure:
        """Return why a subject is not monitored."""
        survivor = self._subjects.merged_into(subject)
        ward = None if survivor is None else self._subjects.ward(survivor)
        return Departure(self._subjects.index_time(subject), survivor, ward)

    def _can_be_scored(self, subject: str, time: int | None) -> bool:
        """Return whether a subject can be scored. A failure for one subject does not delay the others."""
        try:
            assess_registered(self._registered, self._subjects.features([subject], time))
        except Exception as error:  # noqa: BLE001 - whatever it is; its message may hold patient data
            logger.error("a patient cannot be rescored: %s at %s", type(error).__name__, error_location(error))  # noqa: TRY400
            self._metrics.count_rescoring_failure()
            return False
        return True

    def _has_room(self, ward: str, newcomers: int, sounded: int) -> bool:
        """Return whether the ward's budget of the last day allows another alarm."""
        rate = self._task.alarm_target.alarms_per_patient_day
        allowed = self._wards.settings(ward).allowed_alarms(self._ward_state.count_subjects(ward) + newcomers, rate)
        return self._ward_state.count_alarms(ward, self._now() - _DAY) + sounded < allowed

    def _log_predictions(
        self, risks: Sequence[Assessment], ids: Sequence[str], rows: pd.DataFrame, made_at: pd.Timestamp
    ) -> None:
        """Log the risks; once an index step a subject's features with them, on which drift is measured."""
        with_features = {
            row: risk
            for row, risk in enumerate(risks)
            if risk.basis == "model" and risk.index_time - self._logged_features_at.get(risk.patient, _LONG_AGO) >= INDEX_STEP
        }
        features: dict[int, dict[str, float]] = {}
        if self._model is not None and with_features:
            names = self._model.model.features
            values = rows.iloc[list(with_features)][names].to_numpy(np.float64).tolist()
            features = {row: dict(zip(names, line, strict=True)) for row, line in zip(with_features, values, strict=True)}
        self._log.append(
            prediction(risk, prediction_id, "rescorer", self._model, self._service, made_at, features=features.get(row))
            for row, (risk, prediction_id) in enumerate(zip(risks, ids, strict=True))
        )
        self._logged_features_at |= {risk.patient: risk.index_time for risk in with_features.values()}

    def _prediction_id(self, risk: Assessment) -> str:
        version = self._model.version if self._model else None
        return rescored_id(self._task.name, version, risk.patient, risk.index_time)


def _has_passed(since: pd.Timestamp, now: pd.Timestamp, period: timedelta) -> bool:
    """Return whether a period has passed, or the clock was set back."""
    return bool(now - since >= period or now < since)
