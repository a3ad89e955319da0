"""What time is it, and what time for this patient? Every risk is as of a time, and that time comes from here."""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Protocol

import pandas as pd

from features.observations import TIME
from serving.records.timestamps import present

logger = logging.getLogger("vigil.serving")

FILE: Final = "replay_clock.parquet"
_JUMP: Final = timedelta(seconds=60)  # a clock is moved by less when it is adjusted
_LASTS: Final = timedelta(minutes=10)
# It also passes while the machine sleeps, after which the wall clock is right to be ahead.
_PASSING: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock(Protocol):
    """The present, for each patient."""

    def now(self, patient_id: str) -> pd.Timestamp:
        """The time as of which this patient's risk is asked, UTC."""
        ...


class WallClock:
    """Live monitoring: now is now."""

    def now(self, patient_id: str) -> pd.Timestamp:  # noqa: ARG002 - the same for everybody
        return present()


class ReplayClock(WallClock):
    """A replayed cohort: now is the last index time of the patient's own stay, so data of 2019 are not stale."""

    def __init__(self, last_index_times: "pd.Series[pd.Timestamp]") -> None:
        self._last = last_index_times.to_dict()

    def now(self, patient_id: str) -> pd.Timestamp:
        return self._last.get(patient_id) or super().now(patient_id)


def keep_replay_clock(home: Path, index: pd.DataFrame) -> None:
    """Make the home a replay: its clock stands at the last ``index_time`` of each ``subject_id``."""
    last = index.groupby("subject_id", sort=False)["index_time"].max().astype(TIME)
    last.rename_axis("subject_id").reset_index().to_parquet(home / FILE, index=False)


def open_clock(home: Path) -> Clock:
    """The replay clock where the home holds one, else the wall clock."""
    path = home / FILE
    if not path.exists():
        return WallClock()
    return ReplayClock(pd.read_parquet(path).set_index("subject_id")["index_time"])


class SteadyClock:
    """The wall clock, but for a jump forward, which is followed only once it has lasted.

    What is recorded in order can never be recorded earlier again, so one slip would otherwise last as long as it was large. A
    jump backward is followed at once: whoever keeps an order carries it over.
    """

    def __init__(
        self,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
        passing: Callable[[], float] = lambda: time.clock_gettime(_PASSING),
    ) -> None:
        """Begin with what the clock says now.

        Args:
            wall: the clock.
            passing: seconds that pass whatever the clock says.
        """
        self._wall, self._passing = wall, passing
        self._at, self._passed = wall(), passing()
        self._jumped: float | None = None

    def __call__(self) -> datetime:
        """The present."""
        wall, passed = self._wall(), self._passing()
        expected = self._at + timedelta(seconds=passed - self._passed)
        if wall - expected <= _JUMP:
            self._jumped = None
        elif self._jumped is None or passed - self._jumped < _LASTS.total_seconds():
            if self._jumped is None:
                self._jumped = passed
                logger.error(
                    "clock: jumped %.0f s ahead; going on without that for %.0f minutes; set it right, or wait",
                    (wall - expected).total_seconds(),
                    _LASTS / timedelta(minutes=1),
                )
            return expected
        else:
            logger.warning("clock: still %.0f s ahead of before, so it is followed", (wall - expected).total_seconds())
            self._jumped = None
        self._at, self._passed = wall, passed
        return wall
