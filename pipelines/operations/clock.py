"""A clock that was wrong: what was recorded while it was ahead, and how that is put right."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from features.errors import VigilError
from serving.records import journal
from serving.records.database import instant
from serving.records.journal import Journal
from serving.records.timestamps import SKEW
from serving.records.ward_state import Board


@dataclass(frozen=True)
class Found:
    """How the last recorded reading stands to the clock.

    Attributes:
        now: what the clock says.
        last: when the last reading or patient was recorded; None: there is none.
        was_settled: whether that was just put right.
    """

    now: pd.Timestamp
    last: pd.Timestamp | None
    was_settled: bool = False

    @property
    def is_ahead(self) -> bool:
        """Whether it was recorded in what is the future by the clock."""
        return self.last is not None and self.last - self.now > SKEW

    def sentence(self) -> str:
        """Say it in words."""
        now = f"the clock says {self.now:%Y-%m-%d %H:%M:%S} UTC"
        if self.last is None:
            return f"{now}; nothing is recorded yet"
        last = f"the last reading was recorded at {self.last:%Y-%m-%d %H:%M:%S}"
        if self.was_settled:
            return f"{now}; what was ahead of it is recorded anew, in the same order; {last}"
        if not self.is_ahead:
            return f"{now}; {last}, which is in order"
        ahead = (self.last - self.now).total_seconds()
        return (
            f"{now}; {last}, {ahead:.0f} s ahead. If the clock is wrong now, set it right. If it was wrong then: vigil clock "
            "--settle"
        )

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        last = None if self.last is None else self.last.isoformat()
        return {"now": self.now.isoformat(), "last": last, "is_ahead": self.is_ahead, "was_settled": self.was_settled}


def look(home: Path) -> Found:
    """Compare the clock with the journal of a home.

    Raises:
        VigilError: the home has no journal.
    """
    if not (home / journal.FILE).exists():
        raise VigilError(f"--home {home}: no {journal.FILE} there; expected a home that vigil serve has made")
    return _found(Journal(home))


def settle_clock(home: Path) -> Found:
    """Record anew what was recorded while the clock was ahead, and let the rescorer read it again; the server may run.

    Raises:
        VigilError: the home has no journal.
    """
    look(home)
    kept = Journal(home)
    right = kept.settle()
    if right is not None:
        Board(home).read_again_from(right)
    return _found(kept, was_settled=right is not None)


def _found(kept: Journal, *, was_settled: bool = False) -> Found:
    latest = kept.latest()
    return Found(pd.Timestamp(datetime.now(UTC)), None if latest is None else instant(latest), was_settled)
