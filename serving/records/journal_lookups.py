"""Look-ups in the journal that are made with every risk: the latest values with who sent them, and bounds.

Their statements are made once. As everywhere, what is recorded of a merged key counts for its survivor from the merge on.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

import numpy as np
import sqlalchemy as sa

from vigil.features.scores import NEWS2_BANDS
from vigil.features.signals import BOUNDS, STORED_NAMES
from vigil.features.ties import rank_severity
from vigil.models.alarms.critical_bounds import STANDS_US, Bound, standing_bounds
from vigil.serving.records.database import in_chunks
from vigil.serving.records.journal_intervals import dropped_before, recorded_between
from vigil.serving.records.journal_merges import read_merges
from vigil.serving.records.journal_tables import LATEST, MERGES, OBSERVATIONS, REGISTRATIONS, RETENTIONS, TERMS
from vigil.serving.records.merges import Merges

_SINCE: Final[sa.BindParameter[int]] = sa.bindparam("since", type_=sa.BigInteger)
_UNTIL: Final[sa.BindParameter[int]] = sa.bindparam("until", type_=sa.BigInteger)
_OF_KEYS: Final = OBSERVATIONS.c.subject_id.in_(sa.bindparam("keys", expanding=True))
# Whether anything was recorded that a risk of a subject may lack (Journal.is_news).
_READ_UNTIL: Final = sa.bindparam("read_until", type_=sa.BigInteger)
IS_NEWS: Final = sa.select(
    sa.or_(
        sa.exists().where(
            LATEST.c.subject_id == sa.bindparam("subject", type_=sa.String),
            LATEST.c.recorded_at > sa.bindparam("index_time", type_=sa.BigInteger),
        ),
        *(sa.exists().where(table.c.recorded_at > _READ_UNTIL) for table in (REGISTRATIONS, MERGES, TERMS, RETENTIONS)),
    )
)


class Latest(NamedTuple):
    """The latest value of one signal of a subject.

    Attributes:
        value: in the signal's unit.
        observed_at: microseconds UTC.
        source, device_id: who sent it; None: not said.
        is_contested: whether another value of the same time was sent; :mod:`vigil.features.ties` says which one counts.
    """

    value: float
    observed_at: int
    source: str | None
    device_id: str | None
    is_contested: bool


def counting(
    columns: Sequence["sa.ColumnElement[Any]"], wanted: sa.ColumnElement[bool], until: "int | sa.BindParameter[int]"
) -> "sa.CompoundSelect[Any]":
    """Return the query of those observations that count at a time.

    Observations that retention dropped are left out, even while it is still deleting them.
    """
    return sa.union_all(*(sa.select(*columns).where(which) for which in _conditions(wanted, until)))


def _conditions(wanted: sa.ColumnElement[bool], until: "int | sa.BindParameter[int]") -> list[sa.ColumnElement[bool]]:
    """Return the conditions on observations of which each counts at a time. Each condition has an index of its own."""
    wanted &= (OBSERVATIONS.c.recorded_at <= until) & (OBSERVATIONS.c.recorded_at >= dropped_before())
    return [wanted & OBSERVATIONS.c.superseded_at.is_(None), wanted & (OBSERVATIONS.c.superseded_at > until)]


def _columns(*names: str) -> "list[sa.ColumnElement[Any]]":
    return [OBSERVATIONS.c[name] for name in names]


def _newest_two() -> "sa.CompoundSelect[Any]":
    """Return the query of the last two values of each NEWS2 component."""
    columns = _columns("signal", "observed_at", "recorded_at", "value", "source", "device_id")
    newest = (OBSERVATIONS.c.observed_at.desc(), OBSERVATIONS.c.recorded_at.desc())
    return sa.union_all(
        *(
            sa.select(sa.select(*columns).where(which).order_by(*newest).limit(2).subquery())
            for signal in NEWS2_BANDS
            for which in _conditions(
                (OBSERVATIONS.c.subject_id == sa.bindparam("key")) & (OBSERVATIONS.c.signal == signal), _UNTIL
            )
        )
    )


_NEWEST: Final = _newest_two()
_BOUND_COLUMNS: Final = _columns("subject_id", "signal", "value", "observed_at", "recorded_at", "seq")
_IS_BOUND: Final = OBSERVATIONS.c.signal.in_(BOUNDS)
_OBSERVED: Final = OBSERVATIONS.c.observed_at.between(_SINCE, _UNTIL)
_ARRIVED_BOUNDS: Final = counting(_BOUND_COLUMNS, _IS_BOUND & recorded_between(_SINCE, _UNTIL), _UNTIL)
_BOUNDS_OF: Final = counting(_BOUND_COLUMNS, _OF_KEYS & _IS_BOUND & _OBSERVED, _UNTIL)
_VALUES: Final = counting(
    _columns("signal", "observed_at", "value"),
    _OF_KEYS & OBSERVATIONS.c.signal.in_(sa.bindparam("signals", expanding=True)) & _OBSERVED,
    _UNTIL,
)


def read_latest(connection: sa.Connection, times: Mapping[str, int]) -> dict[str, Mapping[str, Latest]]:
    """Return the latest value of each NEWS2 component, by subject and signal, each subject's at a time of its own.

    ``times``: microseconds; what was recorded later, and what was superseded by then, does not count.
    """
    merges = read_merges(connection, times, max(times.values(), default=0))
    latest = {}
    for subject, until in times.items():
        of_keys = [connection.execute(_NEWEST, {"key": key, "until": until}) for key in merges.keys(subject)]
        latest[subject] = _latest(chain.from_iterable(of_keys))
    return latest


def _latest(rows: Iterable["sa.Row[Any]"]) -> Mapping[str, Latest]:
    of_signal: dict[str, list[sa.Row[Any]]] = {}
    for row in rows:
        of_signal.setdefault(row.signal, []).append(row)
    latest = {}
    for signal, candidates in of_signal.items():
        time = max(row.observed_at for row in candidates)
        rivals = [row for row in candidates if row.observed_at == time]
        row = rivals[0]
        if is_contested := len({rival.value for rival in rivals}) > 1:
            severity = rank_severity(
                np.full(len(rivals), STORED_NAMES.index(signal)), np.array([rival.value for rival in rivals])
            )
            row = max(zip(rivals, severity, strict=True), key=lambda one: (one[0].recorded_at, one[1]))[0]
        latest[signal] = Latest(row.value, row.observed_at, row.source, row.device_id, is_contested)
    return latest


def read_arrived_bounds(connection: sa.Connection, after: int, until: int) -> dict[str, list[Bound]]:
    """Return the bounds recorded in an interval that count at its end, by subject, in the order they were observed."""
    rows = connection.execute(_ARRIVED_BOUNDS, {"since": after + 1, "until": until}).all()
    return _by_subject(rows, read_merges(connection, {row.subject_id for row in rows}, until))


def read_bounds(connection: sa.Connection, subject: str, after: int, until: int) -> list[Bound]:
    """Return the bounds of a subject observed in an interval, as of its end, in the order they were observed."""
    merges = read_merges(connection, [subject], until)
    interval = {"keys": merges.keys(subject), "since": after + 1, "until": until}
    return _by_subject(connection.execute(_BOUNDS_OF, interval), merges).get(subject, [])


def read_standing_bounds(connection: sa.Connection, times: Mapping[str, int]) -> dict[str, tuple[Bound, ...]]:
    """Return the bounds that stand, each subject's at a time of its own (microseconds); only of subjects that have any."""
    subjects, standing = list(times), {}
    for some in in_chunks(subjects):
        ends = [times[subject] for subject in some]
        merges = read_merges(connection, some, max(ends))
        keys = [key for subject in some for key in merges.keys(subject)]
        interval = {"keys": keys, "since": min(ends) - STANDS_US, "until": max(ends)}
        rows = connection.execute(_BOUNDS_OF, interval).all()
        known = [row for row in rows if row.recorded_at <= times[merges.survivor(row.subject_id)]]
        for subject, bounds in _by_subject(known, merges).items():
            after = {"since": bounds[0].observed_at + 1, "until": times[subject]}
            signals = [bound.signal for bound in bounds]
            values = connection.execute(_VALUES, after | {"keys": merges.keys(subject), "signals": signals})
            taken = [(row.signal, row.observed_at, row.value) for row in values]
            standing[subject] = standing_bounds(bounds, taken, times[subject])
    return {subject: bounds for subject, bounds in standing.items() if bounds}


def _by_subject(rows: Iterable["sa.Row[Any]"], merges: Merges) -> dict[str, list[Bound]]:
    """Return rows of bounds by subject, in the order they were observed."""
    found: dict[str, list[Bound]] = {}
    for row in sorted(rows, key=lambda row: (row.observed_at, row.recorded_at, row.seq)):
        found.setdefault(merges.survivor(row.subject_id), []).append(Bound(row.signal, row.value, row.observed_at))
    return found
