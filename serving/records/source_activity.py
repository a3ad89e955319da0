"""What sources sent of late: how much of it counts, what waits in the quarantine and why, and when each was heard last."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from vigil.serving.records import journal
from vigil.serving.records.database import open_database, reading
from vigil.serving.records.journal_intervals import recorded_since
from vigil.serving.records.journal_tables import OBSERVATION_ROWS, QUARANTINE, READMISSIONS, SENDERS


@dataclass(frozen=True, slots=True)
class SourceActivity:
    """One source. Times are microseconds UTC.

    Attributes:
        source: its name; empty: none was named.
        accepted: observations that count.
        quarantined: those that wait in the quarantine, by reason.
        recorded_at: when the last observation that counts was recorded; None: none was.
        observed_at: the latest time of which there is one.
    """

    source: str
    accepted: int
    quarantined: Mapping[str, int]
    recorded_at: int | None
    observed_at: int | None


@dataclass(frozen=True, slots=True)
class Readmission:
    """One decision to take what had been quarantined: when (microseconds UTC), by whom, why, and how many observations."""

    at: int
    by: str
    because: str
    observations: int


class ActivityLog:
    """What the journal of a home tells of its sources. It only reads."""

    def __init__(self, home: Path) -> None:
        self._engine = open_database(home, journal.SCHEMA)

    def sources(self, since: int) -> list[SourceActivity]:
        """Return what each source has sent since a time (microseconds), also those that sent nothing."""
        rows = OBSERVATION_ROWS
        recorded = sa.func.max(rows.c.recorded_at), sa.func.max(rows.c.observed_at)
        accepted = (
            sa.select(SENDERS.c.source, sa.func.count(), *recorded)
            .join_from(rows, SENDERS, SENDERS.c.id == rows.c.sender)
            .where(recorded_since(since, rows), rows.c.superseded_at.is_(None))
            .group_by(SENDERS.c.source)
        )
        waiting = sa.select(QUARANTINE.c.reason, QUARANTINE.c.observation).where(
            QUARANTINE.c.recorded_at >= since, QUARANTINE.c.readmitted_at.is_(None)
        )
        quarantined: dict[str, Counter[str]] = {}
        with reading(self._engine) as connection:
            names = set(connection.execute(sa.select(SENDERS.c.source).distinct()).scalars())
            counts = {row[0]: tuple(row[1:]) for row in connection.execute(accepted)}
            for reason, observation in connection.execute(waiting):
                source = json.loads(observation).get("source")
                quarantined.setdefault(source if isinstance(source, str) else "", Counter())[reason] += 1
        activity = []
        for source in sorted(names | quarantined.keys()):
            number, recorded_at, observed_at = counts.get(source, (0, None, None))
            activity.append(SourceActivity(source, number, dict(quarantined.get(source, {})), recorded_at, observed_at))
        return [own for own in activity if own.source or own.accepted or own.quarantined]

    def readmissions(self, limit: int) -> list[Readmission]:
        """Return the last decisions to take quarantined observations, newest first."""
        columns = [READMISSIONS.c[name] for name in ("recorded_at", "by", "reason", "observations")]
        query = sa.select(*columns).order_by(READMISSIONS.c.seq.desc()).limit(limit)
        with reading(self._engine) as connection:
            return [Readmission(*row) for row in connection.execute(query)]
