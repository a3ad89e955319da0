"""Readiness: what keeps the server from doing its work."""

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from vigil.features.store.client import UNUSED_SUBJECT_KEY, Store
from vigil.models.tasks import RiskTask
from vigil.serving.auth.tokens import TokenVerifier
from vigil.serving.records.journal import Journal
from vigil.serving.records.timestamps import instant, present
from vigil.serving.records.ward_state import WardState
from vigil.serving.scoring.champion import Champion, service_in_use

logger = logging.getLogger("vigil.serving")

_ALIVE: Final = timedelta(seconds=30)  # after the rescorer's last heartbeat


@dataclass(frozen=True)
class Readiness:
    """Checks everything that the server needs."""

    champion: Champion
    task: RiskTask
    tokens: TokenVerifier
    store: Store
    journal: Journal
    ward_state: WardState

    def is_ready(self) -> bool:
        """Return whether nothing is missing; the log says what is."""
        problems = self.problems()
        for problem in problems:
            logger.error("not ready: %s", problem)
        return not problems

    def problems(self) -> list[str]:
        """Return what is missing, without patient data; empty: the server is ready."""
        problems = []
        registered = self.champion.model
        if registered is None:
            problems.append("no model: the registry is missing or holds no champion; risks are NEWS2")
        try:
            self.tokens.require_keys()
        except Exception as error:  # noqa: BLE001 - whatever it is, no token can be verified
            problems.append(f"tokens: {error}")
        try:
            self.store.online([UNUSED_SUBJECT_KEY], service_in_use(registered, self.task))
        except Exception as error:  # noqa: BLE001 - whatever it is, it cannot be read
            problems.append(f"feature store: {type(error).__name__}")
        try:
            problems += self._rescorer_problems()
        except Exception as error:  # noqa: BLE001 - whatever it is, it cannot be read
            problems.append(f"journal or ward state: {type(error).__name__}")
        return problems

    def _rescorer_problems(self) -> list[str]:
        problems = []
        read_until, alive_at = self.ward_state.progress()
        waiting = self.journal.waiting_since(read_until)
        if alive_at is None or present() - alive_at > _ALIVE:
            problems.append(f"rescorer: no heartbeat for {_ALIVE.seconds} s; risks are not renewed")
        elif waiting is not None and present() - waiting > _ALIVE:
            problems.append(f"rescorer: observations have been waiting for more than {_ALIVE.seconds} s; risks are late")
        if (latest := self.journal.latest()) is not None and instant(latest) - present() > _ALIVE:
            problems.append("clock: behind the last observation that was recorded; set it right, or: vigil clock --settle")
        return problems
