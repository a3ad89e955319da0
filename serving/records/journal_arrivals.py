"""What arrived in the journal, for those who watch whether signals go on: originals only.

Corrections and retractions are recorded when someone finds a mistake, so they say nothing of a device. Oxygen that follows from
FiO2 is no reading of its own. A bound is a reading of the signal that it is of.
"""

from typing import Final, NamedTuple

import sqlalchemy as sa

from vigil.features.oxygen import SUFFIX
from vigil.features.rhythm import REMEMBERED
from vigil.features.signals import STORED_NAMES, measured_signal
from vigil.serving.records.journal_intervals import recorded_between
from vigil.serving.records.journal_merges import read_merges
from vigil.serving.records.journal_tables import OBSERVATIONS
from vigil.serving.records.merges import Merges

_DERIVED: Final = SUFFIX.encode()
_COLUMNS: Final = [
    OBSERVATIONS.c[name] for name in ("subject_id", "signal", "source", "device_id", "observed_at", "recorded_at", "origin")
]
_IS_ORIGINAL: Final = OBSERVATIONS.c.version.is_(None) | (OBSERVATIONS.c.version == 1)
_SINCE: Final[sa.BindParameter[int]] = sa.bindparam("since", type_=sa.BigInteger)
_UNTIL: Final[sa.BindParameter[int]] = sa.bindparam("until", type_=sa.BigInteger)
_ARRIVED: Final = sa.select(*_COLUMNS).where(recorded_between(_SINCE, _UNTIL), _IS_ORIGINAL).order_by(OBSERVATIONS.c.seq)
# The newest of each signal, by the index of contents: no more is read than a rhythm needs, however long the stay.
_NEWEST: Final = sa.union_all(
    *(
        sa.select(
            sa.select(*_COLUMNS)
            .where(
                OBSERVATIONS.c.subject_id == sa.bindparam("key"),
                OBSERVATIONS.c.signal == signal,
                OBSERVATIONS.c.superseded_at.is_(None),
                OBSERVATIONS.c.recorded_at.between(_SINCE, _UNTIL),
                _IS_ORIGINAL,
            )
            .order_by(OBSERVATIONS.c.observed_at.desc())
            .limit(2 * REMEMBERED)
            .subquery()
        )
        for signal in STORED_NAMES
    )
)


class Arrival(NamedTuple):
    """One original observation, of the subject that it counts for; bounds under the signal that they are of."""

    subject_id: str
    signal: str
    source: str | None
    device_id: str | None
    observed_at: int
    recorded_at: int


def read_arrivals(connection: sa.Connection, after: int, until: int) -> list[Arrival]:
    """Return what was recorded in an interval (microseconds), in that order."""
    rows = connection.execute(_ARRIVED, {"since": after + 1, "until": until}).all()
    merges = read_merges(connection, {row.subject_id for row in rows}, until)
    return [_arrival(row, merges) for row in rows if not _is_derived(row)]


def read_newest_arrivals(connection: sa.Connection, subject: str, after: int, until: int) -> list[Arrival]:
    """Return the newest observations of each signal of a subject that were recorded in an interval (microseconds)."""
    merges = read_merges(connection, [subject], until)
    found = []
    for key in merges.keys(subject):
        rows = connection.execute(_NEWEST, {"key": key, "since": after + 1, "until": until})
        found += [_arrival(row, merges) for row in rows if not _is_derived(row)]
    return found


def _is_derived(row: "sa.Row[tuple[object, ...]]") -> bool:
    origin: bytes | None = row.origin
    return origin is not None and origin.endswith(_DERIVED)


def _arrival(row: "sa.Row[tuple[object, ...]]", merges: Merges) -> Arrival:
    signal = measured_signal(row.signal)
    return Arrival(merges.survivor(row.subject_id), signal, row.source, row.device_id, row.observed_at, row.recorded_at)
