"""What a prediction was made of: the observations that counted for a subject at a time."""

from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from vigil.serving.records.database import in_chunks
from vigil.serving.records.journal_merges import read_merges
from vigil.serving.records.journal_tables import OBSERVATION_ROWS, RETENTIONS, SERIES

_SINCE: Final[sa.BindParameter[int]] = sa.bindparam("since", type_=sa.BigInteger)
_UNTIL: Final[sa.BindParameter[int]] = sa.bindparam("until", type_=sa.BigInteger)
_DROPPED: Final = sa.select(sa.func.coalesce(sa.func.max(RETENTIONS.c.before), 0)).scalar_subquery()
_OF_SERIES: Final = (
    (OBSERVATION_ROWS.c.series == SERIES.c.id)
    # Nothing is observed after it is recorded, so the index by time ends where the interval does.
    & OBSERVATION_ROWS.c.observed_at.between(_SINCE, _UNTIL)
    & OBSERVATION_ROWS.c.recorded_at.between(_DROPPED, _UNTIL)
)
# Each of the two has an index of its own.
_COUNTED: Final = (OBSERVATION_ROWS.c.superseded_at.is_(None), OBSERVATION_ROWS.c.superseded_at > _UNTIL)
_OF_KEYS: Final = SERIES.c.subject_id.in_(sa.bindparam("keys", expanding=True))


class Input(NamedTuple):
    """One observation that counted. ``row``: its number in the journal; times are microseconds."""

    row: int
    signal: str
    observed_at: int
    recorded_at: int


def _newest(counted: sa.ColumnElement[bool]) -> "sa.ScalarSelect[Any]":
    newest = (OBSERVATION_ROWS.c.observed_at.desc(), OBSERVATION_ROWS.c.recorded_at.desc(), OBSERVATION_ROWS.c.seq.desc())
    query = sa.select(OBSERVATION_ROWS.c.seq).where(_OF_SERIES, counted).order_by(*newest).limit(1)
    return query.correlate(SERIES).scalar_subquery()


_NEWEST: Final = sa.select(*(_newest(counted) for counted in _COUNTED)).where(_OF_KEYS)
_NUMBER: Final = sa.union_all(
    *(
        sa.select(sa.func.count()).select_from(sa.join(OBSERVATION_ROWS, SERIES, _OF_SERIES)).where(_OF_KEYS, counted)
        for counted in _COUNTED
    )
)
_ROWS: Final = (
    sa.select(OBSERVATION_ROWS.c.seq, SERIES.c.signal, OBSERVATION_ROWS.c.observed_at, OBSERVATION_ROWS.c.recorded_at)
    .join(SERIES, SERIES.c.id == OBSERVATION_ROWS.c.series)
    .where(OBSERVATION_ROWS.c.seq.in_(sa.bindparam("rows", expanding=True)))
)


def read_newest_inputs(connection: sa.Connection, subject: str, since: int, until: int) -> list[Input]:
    """Return the latest observation of each signal of a subject that was observed in an interval and counted at its end.

    Of several of one time it is the one recorded last. They are in the order of their signals.
    """
    interval = {"keys": read_merges(connection, [subject], until).keys(subject), "since": since, "until": until}
    found = [row for pair in connection.execute(_NEWEST, interval) for row in pair if row is not None]
    latest: dict[str, Input] = {}
    for some in in_chunks(found):
        for row in connection.execute(_ROWS, {"rows": some}):
            own = Input(*row)
            other = latest.setdefault(own.signal, own)
            if (own.observed_at, own.recorded_at, own.row) > (other.observed_at, other.recorded_at, other.row):
                latest[own.signal] = own
    return [latest[signal] for signal in sorted(latest)]


def count_inputs(connection: sa.Connection, subject: str, since: int, until: int) -> int:
    """Return how many observations of a subject were observed in an interval and counted at its end."""
    interval = {"keys": read_merges(connection, [subject], until).keys(subject), "since": since, "until": until}
    return sum(connection.execute(_NUMBER, interval).scalars())
