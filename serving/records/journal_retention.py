"""Retention in the journal: what was recorded before a time counts no more, and is deleted."""

from collections.abc import Callable
from typing import Final

import sqlalchemy as sa

from vigil.serving.records.database import delete_in_steps, reading, with_retries, writing
from vigil.serving.records.journal_intervals import recorded_before
from vigil.serving.records.journal_merges import delete_merges_before
from vigil.serving.records.journal_tables import (
    LATEST,
    MERGES,
    OBSERVATION_ROWS,
    QUARANTINE,
    REGISTRATIONS,
    REPETITIONS,
    RETENTIONS,
    REVISIONS,
    SERIES,
)
from vigil.serving.records.journal_terms import delete_terms_before

# Each of the two conditions has an index by series.
_COUNTING_OR_NOT: Final = (OBSERVATION_ROWS.c.superseded_at.is_(None), OBSERVATION_ROWS.c.superseded_at.is_not(None))


def drop_recorded_before(engine: sa.Engine, at: int, next_time: Callable[[sa.Connection], int]) -> int:
    """Let observations recorded before a time (microseconds) count no more, and delete the registrations of then.

    :meth:`vigil.serving.records.journal.Journal.drop_before` says which stay. Return how many registrations were deleted.
    """
    old = REGISTRATIONS.c.recorded_at < at
    last_known = sa.select(sa.func.max(REGISTRATIONS.c.seq)).where(old).group_by(REGISTRATIONS.c.subject_id)
    of_subject = (SERIES.c.subject_id == REGISTRATIONS.c.subject_id) & (OBSERVATION_ROWS.c.series == SERIES.c.id)
    since = OBSERVATION_ROWS.c.recorded_at >= at
    is_needed = sa.or_(
        *(sa.exists().where(of_subject, since, which) for which in _COUNTING_OR_NOT),
        sa.exists().where((MERGES.c.subject_id == REGISTRATIONS.c.subject_id) | (MERGES.c.into == REGISTRATIONS.c.subject_id)),
    )
    count = sa.select(sa.func.count()).select_from(OBSERVATION_ROWS).where(recorded_before(at, OBSERVATION_ROWS))
    with reading(engine) as connection:  # before the lock, since it takes a while; nothing is recorded as of then any more
        observations = int(connection.execute(count).scalar_one())

    def drop() -> int:
        with writing(engine) as connection:
            connection.execute(LATEST.delete().where(LATEST.c.recorded_at < at))
            delete_terms_before(connection, at)
            delete_merges_before(connection, at)
            superfluous = old & ~(REGISTRATIONS.c.seq.in_(last_known) & is_needed)
            registrations = connection.execute(REGISTRATIONS.delete().where(superfluous)).rowcount
            if observations or registrations:
                dropped = {"recorded_at": next_time(connection), "before": at, "observations": observations}
                connection.execute(RETENTIONS.insert().values(dropped))
        return registrations

    return with_retries(drop)


def delete_recorded_before(engine: sa.Engine, at: int) -> dict[str, int]:
    """Delete what was recorded before a time (microseconds), and series without observations; return how many of each table."""
    deleted = {OBSERVATION_ROWS.name: delete_in_steps(engine, OBSERVATION_ROWS, recorded_before(at, OBSERVATION_ROWS))}
    for table in (REVISIONS, QUARANTINE, REPETITIONS):
        deleted[table.name] = delete_in_steps(engine, table, table.c.recorded_at < at)
    of_series = OBSERVATION_ROWS.c.series == SERIES.c.id
    delete_in_steps(engine, SERIES, sa.and_(*(~sa.exists().where(of_series, which) for which in _COUNTING_OR_NOT)))
    return deleted
