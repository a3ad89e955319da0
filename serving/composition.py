"""What the processes of the server are made of, put together in one place from the settings."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final

import sqlalchemy as sa
from limits import RateLimitItemPerMinute, RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from features.pseudonyms import Pseudonyms, open_pseudonyms
from features.store.client import NOBODY, Store
from models.tasks import TASKS, RiskTask
from serving.api.turns import Fresh
from serving.auth.local_tokens import JWKS_FILE, LOCAL_FOLDER, make_keys
from serving.auth.tokens import Caller, Tokens
from serving.identity.identities import Identities
from serving.observability.logs import write_logs
from serving.observability.metrics import Metrics
from serving.records.clock import open_clock
from serving.records.database import instant, microsecond, reading
from serving.records.journal import PATIENTS, Journal
from serving.records.prediction_log import PredictionLog
from serving.records.timestamps import present
from serving.records.ward_settings import Wards
from serving.records.ward_state import Board
from serving.scoring.champion import Champion
from serving.scoring.risk_service import RiskScorer
from serving.scoring.subject_state import UNASSIGNED
from serving.settings import Settings
from serving.stream.group_commit import Intake
from serving.stream.online_store_writer import FeastFollower
from serving.stream.rescorer import Rescorer

logger = logging.getLogger("vigil.serving")

_CLAIM: Final = timedelta(hours=1)
_REFUSALS: Final = RateLimitItemPerMinute(10)  # of one caller
FRESH_SECONDS: Final = 1.0  # for which what strangers may ask is not made anew: readiness, metrics
_ALIVE: Final = timedelta(seconds=30)  # after the last sign of life of the rescorer


@dataclass(frozen=True)
class Parts:
    """Of the process that answers requests."""

    settings: Settings
    task: RiskTask
    champion: Champion
    store: Store
    journal: Journal
    board: Board
    identities: Identities
    pseudonyms: Pseudonyms
    log: PredictionLog
    scorer: RiskScorer
    intake: Intake
    tokens: Tokens
    ward_settings: Wards
    metrics: Metrics
    limiter: FixedWindowRateLimiter
    rate: RateLimitItemPerSecond
    metrics_page: Fresh[bytes]

    def allows(self, caller: Caller) -> bool:
        """Whether the caller has not asked too often this second."""
        return self.limiter.hit(self.rate, caller.subject)

    def wards(self, patients: Iterable[str]) -> dict[str, str]:
        """Where patients are, as far as anybody said."""
        wanted = list(dict.fromkeys(patients))
        latest = sa.select(sa.func.max(PATIENTS.c.seq)).where(PATIENTS.c.patient.in_(wanted)).group_by(PATIENTS.c.patient)
        with reading(self.journal.engine) as connection:
            rows = connection.execute(sa.select(PATIENTS.c.patient, PATIENTS.c.ward).where(PATIENTS.c.seq.in_(latest)))
            return dict.fromkeys(wanted, UNASSIGNED) | {row.patient: row.ward for row in rows}

    def is_ward(self, ward: str) -> bool:
        """Whether a patient was ever registered there, as far as the journal goes back."""
        with reading(self.journal.engine) as connection:
            return connection.execute(sa.select(PATIENTS.c.seq).where(PATIENTS.c.ward == ward).limit(1)).first() is not None

    def claimed(self, caller: Caller, patients: Iterable[str]) -> set[str]:
        """Those patients whom a caller who is bound to wards may not move to one: another ward has them.

        A ward that registered a patient of whom no reading came has them for :data:`_CLAIM` only: else one ward could keep all
        patients from the others.
        """
        if caller.wards is None:
            return set()
        elsewhere = {p for p, ward in self.wards(patients).items() if ward != UNASSIGNED and not caller.may_see(ward)}
        measured = self.journal.latest_of(sorted(elsewhere))
        since = microsecond(present() - _CLAIM)
        said = sa.select(PATIENTS.c.patient).where(PATIENTS.c.patient.in_(sorted(elsewhere)), PATIENTS.c.recorded_at >= since)
        with reading(self.journal.engine) as connection:
            return (elsewhere & measured.keys()) | set(connection.execute(said).scalars())

    def note_refusal(self, caller: Caller) -> None:
        """A caller asked for patients of other wards. Each refusal tells that somebody is there, so there must not be many."""
        logger.warning("caller %s was refused: a patient is in a ward that their token is not bound to", caller.subject)
        self.limiter.hit(_REFUSALS, "refused", caller.subject)

    def was_refused_too_often(self, caller: Caller) -> bool:
        """Whether a caller must wait, since they asked for patients of other wards again and again."""
        return caller.wards is not None and not self.limiter.test(_REFUSALS, "refused", caller.subject)

    def hidden(self, caller: Caller, patients: Iterable[str]) -> set[str]:
        """Those patients whom a caller may not see: he is bound to wards, and they are elsewhere."""
        if caller.wards is None:
            return set()
        return {patient for patient, ward in self.wards(patients).items() if not caller.may_see(ward)}

    def troubles(self) -> list[str]:
        """What keeps the server from being ready; empty: it is. Nothing of a patient is in it."""
        found = []
        registered = self.champion.model
        if registered is None:
            found.append("no model: the registry is gone or holds no champion; risks are NEWS2")
        try:
            self.tokens.require_keys()
        except Exception as error:  # noqa: BLE001 - whatever it is, no token can be verified
            found.append(f"tokens: {error}")
        try:
            self.store.online([NOBODY], registered.feature_service if registered else self.task.feature_service)
        except Exception as error:  # noqa: BLE001 - whatever it is, it cannot be read
            found.append(f"feature store: {type(error).__name__}")
        try:
            read_until, alive = self.board.progress()
            waiting = self.journal.waiting_since(read_until)
            if alive is None or present() - alive > _ALIVE:
                found.append(f"rescorer: no sign of life for {_ALIVE.seconds} s; risks are not renewed")
            elif waiting is not None and present() - waiting > _ALIVE:
                found.append(f"rescorer: readings wait for more than {_ALIVE.seconds} s; risks are late")
            if (latest := self.journal.latest()) is not None and instant(latest) - present() > _ALIVE:
                found.append("clock: behind the last reading that was recorded; set it right, or: vigil clock --settle")
        except Exception as error:  # noqa: BLE001 - whatever it is, it cannot be read
            found.append(f"journal or board: {type(error).__name__}")
        return found

    def close(self) -> None:
        """Write what waits, and end the threads."""
        self.intake.stop()
        self.champion.stop()


def open_scorer(settings: Settings, champion: Champion | None = None) -> RiskScorer:
    """The scorer of a home: its champion, store, journal, clock and log."""
    return RiskScorer(
        champion=champion or Champion.loaded(settings.home, settings.task),
        task=TASKS[settings.task],
        store=Store(settings.home),
        journal=Journal(settings.home),
        clock=open_clock(settings.home),
        log=PredictionLog(settings.home),
    )


def open_parts(settings: Settings, metrics: Metrics) -> Parts:
    """Those of the process that answers requests.

    Raises:
        VigilError: a file of the home cannot be used.
    """
    home = settings.home
    champion = _champion(settings, metrics)
    scorer = open_scorer(settings, champion)
    identities = Identities(home)
    if not settings.token_keys:
        make_keys(home / LOCAL_FOLDER)
    keys = settings.token_keys or home / LOCAL_FOLDER / JWKS_FILE
    return Parts(
        settings=settings,
        task=TASKS[settings.task],
        champion=champion,
        store=scorer.store,
        journal=scorer.journal,
        board=Board(home),
        identities=identities,
        pseudonyms=open_pseudonyms(home),
        log=scorer.log,
        scorer=scorer,
        intake=Intake(scorer.journal, identities, metrics),
        tokens=Tokens(issuer=settings.token_issuer, audience=settings.token_audience, jwks=keys),
        ward_settings=Wards(home),
        metrics=metrics,
        limiter=FixedWindowRateLimiter(MemoryStorage()),
        rate=RateLimitItemPerSecond(settings.requests_per_second),
        metrics_page=Fresh(partial(metrics.page, home), FRESH_SECONDS),
    )


def open_rescorer(settings: Settings, metrics: Metrics) -> tuple[Rescorer, FeastFollower, Champion]:
    """Those of the process that rescores."""
    champion = _champion(settings, metrics)
    feast = FeastFollower(Store(settings.home), metrics)
    rescorer = Rescorer(
        journal=Journal(settings.home),
        board=Board(settings.home),
        champion=champion,
        task=TASKS[settings.task],
        log=PredictionLog(settings.home),
        wards=Wards(settings.home),
        feast=feast,
        metrics=metrics,
    )
    return rescorer, feast, champion


def _champion(settings: Settings, metrics: Metrics) -> Champion:
    """The champion, loaded once the log can say so."""
    champion = Champion(settings.home, settings.task, metrics.serving)
    write_logs(champion, settings.log)
    champion.look()
    return champion
