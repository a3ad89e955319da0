"""What the page of operations shows: sources, drift, the model, the server, budgets and decisions. No patient is on it."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal

import pandas as pd
from pydantic import ValidationError

from vigil.models.monitoring.report_schema import REPORT_FILE, Decision, DriftReport
from vigil.models.registry import Registry, Withdrawal
from vigil.models.version_history import describe_training, list_promotions
from vigil.serving.auth.tokens import Caller
from vigil.serving.records.silence_rows import Silence
from vigil.serving.records.source_activity import ActivityLog, SourceActivity
from vigil.serving.records.timestamps import microsecond, moment, present
from vigil.serving.records.ward_rows import AlarmCounts
from vigil.serving.records.ward_settings import WardSettingsFile
from vigil.serving.records.ward_state import WardState
from vigil.serving.scoring.champion import Champion
from vigil.serving.scoring.standing import StandingRisks

logger: Final = logging.getLogger("vigil.serving")

DAY: Final = timedelta(hours=24)
WEEK_DAYS: Final = 7
_DECISIONS: Final = 12  # that the page shows
_FOLDER: Final = "decisions"  # of the home, where vigil drift and people who withdraw a model leave theirs


@dataclass(frozen=True, slots=True)
class ModelInUse:
    """The champion.

    Attributes:
        trained_at: when its training began; None: the registry does not tell.
        patients, events: that it learned from, as text; None, as above.
        simulated: whether these were invented.
        withdrawal: when and why it was withdrawn; None: it was not.
    """

    name: str
    version: str
    trained_at: datetime | None
    patients: str | None
    events: str | None
    simulated: bool
    withdrawal: Withdrawal | None


@dataclass(frozen=True, slots=True)
class DecisionRow:
    """One decision about the model, or about what is taken in.

    Attributes:
        at: when.
        kind: what was decided, a name in the words of the pages.
        version: of the model; None: it is about none.
        number: of observations that were taken; None: it is about none.
        text: why, or what became of it, as it was recorded.
    """

    at: datetime
    kind: str
    version: str | None = None
    number: int | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class WardBudget:
    """The alarms of one ward.

    Attributes:
        ward: its name.
        patients: how many are monitored there.
        sounded, allowed: alarms within 24 h, and how many the budget has.
        counts: the episodes of a week, and what became of them.
        net_limit, net_because: of the safety net, where the ward has its own; None: it is the guideline's.
    """

    ward: str
    patients: int
    sounded: int
    allowed: int
    counts: AlarmCounts
    net_limit: int | None
    net_because: str | None

    @property
    def overridden_share(self) -> float | None:
        """Share of the week's alarms that were overridden; None: there were none."""
        return self.counts.overridden / self.counts.sounded if self.counts.sounded else None


@dataclass(frozen=True, slots=True)
class Operations:
    """Everything that is the same for whoever looks.

    Attributes:
        at: the present.
        problems: what keeps the server from being ready.
        model: None: there is none.
        drift: the last report; ``unreadable``; None: there is none.
        sources: of the last 24 h.
        decisions: newest first.
    """

    at: pd.Timestamp
    problems: Sequence[str]
    model: ModelInUse | None
    drift: DriftReport | Literal["unreadable"] | None
    sources: Sequence[SourceActivity]
    decisions: Sequence[DecisionRow]

    def hours_since(self, time: int) -> float:
        """Return how long ago a time (microseconds) is, in hours."""
        return (microsecond(self.at) - time) / 3.6e9


class OperationsViews:
    """Makes the views of operations. Threads may share it.

    Attributes:
        links: where people find MLflow, Feast and Evidently, which Vigil does not serve; empty: nowhere.
    """

    def __init__(
        self,
        *,
        home: Path,
        problems: Callable[[], list[str]],
        ward_state: WardState,
        ward_settings: WardSettingsFile,
        champion: Champion,
        standing: StandingRisks,
        links: Mapping[str, str],
    ) -> None:
        """``problems`` returns what keeps the server from being ready; ``links`` has the URLs of tools, or nothing."""
        self.links = links
        self._home, self._problems = home, problems
        self._ward_state, self._settings = ward_state, ward_settings
        self._champion, self._standing = champion, standing
        self._activity = ActivityLog(home)

    def common(self) -> Operations:
        """Return what is the same for whoever looks. It takes some time."""
        model, promotions = self._registered()
        decisions = [*promotions, *self._recorded(), *self._readmissions()]
        return Operations(
            at=present(),
            problems=self._problems(),
            model=model,
            drift=self._drift(),
            sources=self._activity.sources(microsecond(present() - DAY)),
            decisions=sorted(decisions, key=lambda row: row.at, reverse=True)[:_DECISIONS],
        )

    def budgets(self, caller: Caller) -> list[WardBudget]:
        """Return the alarms of the wards that a caller may see."""
        now = present()
        patients: dict[str, int] = dict.fromkeys(caller.wards or (), 0)
        for risk in self._ward_state.risks():
            if risk.ward and caller.can_see(risk.ward):
                patients[risk.ward] = patients.get(risk.ward, 0) + 1
        counts = self._ward_state.count_episodes(now - timedelta(days=WEEK_DAYS))
        rate = self._standing.task.alarm_target.alarms_per_patient_day
        self._settings.refresh()
        budgets = []
        for ward, number in sorted(patients.items()):
            own = self._settings.settings(ward)
            budgets.append(
                WardBudget(
                    ward=ward,
                    patients=number,
                    sounded=self._ward_state.count_alarms(ward, now - DAY),
                    allowed=own.allowed_alarms(number, rate),
                    counts=counts.get(ward, AlarmCounts(0, 0, 0, 0)),
                    net_limit=own.safety_net.alarm_from if own.safety_net else None,
                    net_because=own.safety_net.because if own.safety_net else None,
                )
            )
        return budgets

    def silent_sources(self, caller: Caller) -> list[tuple[Silence, datetime]]:
        """Return the sources that fell silent in wards that a caller may see, each with the time of its last observation."""
        silences = [own for own in self._ward_state.silences.silent_sources() if caller.can_see(own.ward)]
        return [(own, since) for own in silences if (since := moment(own.since)) is not None]

    def _registered(self) -> tuple[ModelInUse | None, list[DecisionRow]]:
        registered = self._champion.model
        if registered is None:
            return None, []
        training: Mapping[str, Any] = {}
        withdrawal, decisions = None, []
        try:
            registry = Registry.open_existing(self._home)
            training = describe_training(registry, registered)
            withdrawal = registry.withdrawal(registered.name, registered.version)
            decisions = [
                DecisionRow(datetime.fromisoformat(at), kind, version, text=text)
                for at, kind, version, text in list_promotions(registry, registered.name)
            ]
        except Exception as error:  # noqa: BLE001 - the model is in use all the same, and readiness says what is wrong
            logger.warning("operations: the registry cannot be read: %s", type(error).__name__)
        trained_at = training.get("trained_at")
        model = ModelInUse(
            registered.name,
            registered.version,
            datetime.fromisoformat(trained_at) if trained_at else None,
            training.get("train_patients"),
            training.get("train_events"),
            bool(registered.model.metadata_.get("simulated")),
            withdrawal,
        )
        return model, decisions

    def _recorded(self) -> list[DecisionRow]:
        """Return the decisions of the change control plan, and of people who withdrew or reinstated a model."""
        rows = []
        for path in sorted((self._home / _FOLDER).glob("*.json"))[-_DECISIONS:]:
            try:
                decision = Decision.model_validate({**json.loads(path.read_bytes()), "rules": ()})
                if decision.action != "none":
                    text = ". ".join(part for part in (decision.because, decision.outcome) if part)
                    rows.append(DecisionRow(datetime.fromisoformat(decision.decided_at), decision.action, text=text))
            except (OSError, ValueError):
                logger.warning("operations: a file of decisions cannot be read")
        return rows

    def _readmissions(self) -> list[DecisionRow]:
        return [
            DecisionRow(at, "readmitted", number=own.observations, text=f"{own.by}: {own.because}")
            for own in self._activity.readmissions(_DECISIONS)
            if (at := moment(own.at)) is not None
        ]

    def _drift(self) -> DriftReport | Literal["unreadable"] | None:
        try:
            return DriftReport.model_validate_json((self._home / "reports" / REPORT_FILE).read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError):  # none of its content is passed on
            return "unreadable"
