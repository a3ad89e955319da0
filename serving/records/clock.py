"""Clocks: the present, and the present of a replayed subject. Every default ``as of`` comes from here."""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Protocol

import pandas as pd

from vigil.features.observations import TIME
from vigil.serving.records.timestamps import present

logger = logging.getLogger("vigil.serving")

FILE: Final = "replay_clock.parquet"
_JUMP: Final = timedelta(seconds=60)  # a clock is moved by less when it is adjusted
_LASTS: Final = timedelta(minutes=10)
# It also passes while the machine sleeps, after which the wall clock is right to be ahead.
_PASSING: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock(Protocol):
    """The present, for each subject."""

    def now(self, subject: str) -> pd.Timestamp:
        """Return the time as of which a subject's risk is asked by default, UTC."""
        ...


class WallClock:
    """The clock of live monitoring."""

    def now(self, subject: str) -> pd.Timestamp:  # noqa: ARG002 - the same for every subject
        return present()


class ReplayClock(WallClock):
    """The clock of a replayed cohort: now is the last index time of each subject's stay, so that data of 2019 are not stale."""

    def __init__(self, last_index_times: "pd.Series[pd.Timestamp]") -> None:
        self._last = last_index_times.to_dict()

    def now(self, subject: str) -> pd.Timestamp:
        return self._last.get(subject) or super().now(subject)


def store_replay_clock(home: Path, index: pd.DataFrame) -> None:
    """Make a home a replay: its clock stands at the last ``index_time`` of each ``subject_id``."""
    last = index.groupby("subject_id", sort=False)["index_time"].max().astype(TIME)
    last.rename_axis("subject_id").reset_index().to_parquet(home / FILE, index=False)


def open_clock(home: Path) -> Clock:
    """Return the replay clock of a home that holds one, else the wall clock."""
    path = home / FILE
    if not path.exists():
        return WallClock()
    return ReplayClock(pd.read_parquet(path).set_index("subject_id")["index_time"])


class SteadyClock:
    """The wall clock without sudden jumps forward: one is followed only after it has lasted for ten minutes.

    Groups of the journal can never be recorded earlier than the last one, so a slip of an hour would last an hour. A jump
    backward is followed at once, since the journal keeps the order itself.
    """

    def __init__(
        self,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
        passing: Callable[[], float] = lambda: time.clock_gettime(_PASSING),
    ) -> None:
        """Start at the present.

        Args:
            wall: the wall clock.
            passing: seconds since some moment, which no one can set.
        """
        self._wall, self._passing = wall, passing
        self._at, self._passed = wall(), passing()
        self._jumped: float | None = None

    def __call__(self) -> datetime:
        """Return the present."""
        wall, passed = self._wall(), self._passing()
        expected = self._at + timedelta(seconds=passed - self._passed)
        if wall - expected <= _JUMP:
            self._jumped = None
        elif self._jumped is None or passed - self._jumped < _LASTS.total_seconds():
            if self._jumped is None:
                self._jumped = passed
                logger.error(
                    "clock: jumped %.0f s ahead; not followed for %.0f minutes; set the clock right, or wait",
                    (wall - expected).total_seconds(),
                    _LASTS / timedelta(minutes=1),
                )
            return expected
        else:
            logger.warning("clock: still %.0f s ahead, so it is followed now", (wall - expected).total_seconds())
            self._jumped = None
        self._at, self._passed = wall, passed
        return wall
