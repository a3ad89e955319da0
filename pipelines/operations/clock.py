"""Find and correct times that were recorded while the clock was ahead."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from vigil.features.errors import VigilError
from vigil.pipelines.home import Home
from vigil.serving.records import journal
from vigil.serving.records.journal import Journal
from vigil.serving.records.timestamps import SKEW, instant
from vigil.serving.records.ward_state import WardState


@dataclass(frozen=True)
class ClockCheck:
    """The clock beside the last recorded time.

    Attributes:
        now: what the clock shows.
        last: when the last observation or registration was recorded; None: nothing is recorded.
        was_settled: whether recorded times were just corrected.
    """

    now: pd.Timestamp
    last: pd.Timestamp | None
    was_settled: bool = False

    @property
    def is_ahead(self) -> bool:
        """Whether the last recorded time is in the future, by more than a clock may be off."""
        return self.last is not None and self.last - self.now > SKEW

    def summary(self) -> str:
        """Return what was found, and what to do, in one line."""
        now = f"the clock shows {self.now:%Y-%m-%d %H:%M:%S} UTC"
        if self.last is None:
            return f"{now}; nothing is recorded yet"
        last = f"the last reading was recorded at {self.last:%Y-%m-%d %H:%M:%S}"
        if self.was_settled:
            return f"{now}; times ahead of it were corrected, in the same order; {last}"
        if not self.is_ahead:
            return f"{now}; {last}, which is in order"
        ahead = (self.last - self.now).total_seconds()
        return (
            f"{now}; {last}, {ahead:.0f} s ahead. If the clock is wrong now, set it right. If it was wrong then, correct the "
            "recorded times: vigil clock --settle"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the result for programs."""
        last = None if self.last is None else self.last.isoformat()
        return {"now": self.now.isoformat(), "last": last, "is_ahead": self.is_ahead, "was_settled": self.was_settled}


def check_clock(home: Home) -> ClockCheck:
    """Compare the clock with the journal of a home.

    Raises:
        VigilError: the home has no journal.
    """
    return _check(_open_journal(home))


def settle_clock(home: Home) -> ClockCheck:
    """Correct the times that were recorded while the clock was ahead, and let the rescorer read them again.

    The server may run meanwhile.

    Raises:
        VigilError: the home has no journal.
    """
    records = _open_journal(home)
    corrected_from = records.settle_clock()
    if corrected_from is not None:
        WardState(home.path).reread_from(corrected_from)
    return _check(records, was_settled=corrected_from is not None)


def _open_journal(home: Home) -> Journal:
    if not (home.path / journal.SCHEMA.file).exists():
        raise VigilError(f"--home {home.path}: no {journal.SCHEMA.file} there; expected a home that vigil serve has made")
    return Journal(home.path)


def _check(records: Journal, *, was_settled: bool = False) -> ClockCheck:
    latest = records.latest()
    return ClockCheck(pd.Timestamp(datetime.now(UTC)), None if latest is None else instant(latest), was_settled)
