"""Follows the journal for signals that stop: reads what arrived, looks every few seconds, and commits what that finds.

It runs in the rescorer's loop and remembers rhythms in memory. They are learned from the newest observations of each patient
again when the process starts, a few patients at a look; what arrives later is read once.
"""

import logging
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Final

import pandas as pd

from vigil.features.declarations import Declarations
from vigil.features.kernel.plan import UNBOUNDED
from vigil.serving.observability.logs import error_location
from vigil.serving.observability.metrics import Metrics
from vigil.serving.records.journal import Journal
from vigil.serving.records.journal_snapshot import JournalSnapshot
from vigil.serving.records.timestamps import microsecond
from vigil.serving.records.ward_state import WardState
from vigil.serving.stream.silence_watch import FORGOTTEN_US, SilenceWatch

logger = logging.getLogger("vigil.rescorer")

LOOK_EVERY: Final = timedelta(seconds=5)
_MAX_OBSERVATIONS: Final = 5_000  # read at a time
_MAX_READS: Final = 10  # at a look; the rest waits for the next one, so that rescoring does not wait
_MAX_LOADED: Final = 50  # patients at a look


class SilenceFollower:
    """Tells the wards which signals stopped and which sources fell silent."""

    def __init__(self, journal: Journal, ward_state: WardState, declared: Callable[[], Declarations], metrics: Metrics) -> None:
        self._journal = journal
        self._silences = ward_state.silences
        self._declared = declared
        self._metrics = metrics
        self._looked_at: pd.Timestamp | None = None
        self._watch: SilenceWatch | None = None
        self._cursor = 0
        self._retention_at: int | None = None

    def step(self, now: pd.Timestamp, wards: Callable[[], Mapping[str, str]]) -> None:
        """Look, if it is time. A failure is logged and tried again, so that it stops no risk.

        Args:
            now: the present.
            wards: returns the ward of each subject that is followed.
        """
        if self._looked_at is not None and timedelta(0) <= now - self._looked_at < LOOK_EVERY:
            return
        self._looked_at = now
        try:
            self._look(microsecond(now), wards())
        except Exception as error:  # noqa: BLE001 - monitoring goes on; the message may hold patient data
            logger.error("signals are not watched: %s at %s; trying again", type(error).__name__, error_location(error))  # noqa: TRY400
            self._metrics.count_rescoring_failure()
            self._watch = None  # what is half done is made again

    def _look(self, now: int, wards: Mapping[str, str]) -> None:
        latest = self._journal.latest() or 0
        with self._journal.snapshot() as journal:
            watch = self._watched(journal, now, latest)
            watch.keep(wards)
            if not self._read(journal, watch):
                return  # what has not been read yet would look overdue
            new = [subject for subject in wards if not watch.knows(subject)][:_MAX_LOADED]
            for subject in new:
                watch.load(subject, journal.newest_arrivals(subject, self._cursor - FORGOTTEN_US, self._cursor))
        known = self._silences.open()
        changes = watch.look(now, wards, known, self._silences.reports(), self._declared())
        if changes:
            events = self._silences.commit(changes, wards, now)
            self._metrics.count_silence_events(event.kind for event in events)
            known = self._silences.open()
        self._metrics.set_silences(known)

    def _watched(self, journal: JournalSnapshot, now: int, latest: int) -> SilenceWatch:
        """Return the watch; a new one at the start, and after retention, since what that took must not live on here.

        A new one begins after the latest group; what was before is read subject by subject.
        """
        retention_at = journal.last_retention()
        if self._watch is None or retention_at != self._retention_at:
            self._watch, self._retention_at = SilenceWatch(now), retention_at
            self._cursor = latest
        return self._watch

    def _read(self, journal: JournalSnapshot, watch: SilenceWatch) -> bool:
        """Take in what arrived since the last look; return whether that is all."""
        for _ in range(_MAX_READS):
            end = journal.end_of_groups(self._cursor, UNBOUNDED, _MAX_OBSERVATIONS)
            if end is None:
                return True
            for move in journal.moves(self._cursor, end):
                watch.forget({*move.keys, move.origin, move.target})  # loaded again with what counts for them now
            watch.take(journal.arrivals(self._cursor, end))
            self._cursor = end
        return False
