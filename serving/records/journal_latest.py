"""The latest values of a few signals with who sent them, read for every risk: one statement a subject, made once."""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import numpy as np
import sqlalchemy as sa

from features.scores import NEWS2_BANDS
from features.signals import SIGNALS
from features.ties import rank_severity
from serving.records.journal_tables import OBSERVATIONS


class Latest(NamedTuple):
    """The latest value of one signal of a subject.

    Attributes:
        value: in the signal's unit.
        observed_at: microseconds UTC.
        source, device_id: who sent it; None: not said.
        is_contested: whether another value of the same time was sent; :mod:`features.ties` says which one counts.
    """

    value: float
    observed_at: int
    source: str | None
    device_id: str | None
    is_contested: bool


_COLUMNS: Final = [OBSERVATIONS.c[name] for name in ("signal", "observed_at", "recorded_at", "value", "source", "device_id")]
_CODES: Final = {name: code for code, name in enumerate(sorted(SIGNALS))}


def _statement() -> "sa.CompoundSelect[tuple[object, ...]]":
    """Return the query of the last two values of each NEWS2 component that count at a time."""
    subjects: sa.BindParameter[str] = sa.bindparam("subjects", expanding=True)
    until = sa.bindparam("until", type_=sa.BigInteger)
    parts = []
    for signal in NEWS2_BANDS:
        wanted = OBSERVATIONS.c.subject_id.in_(subjects) & (OBSERVATIONS.c.signal == signal) & (OBSERVATIONS.c.recorded_at <= until)
        for which in (OBSERVATIONS.c.superseded_at.is_(None), OBSERVATIONS.c.superseded_at > until):  # an index for each
            newest = (OBSERVATIONS.c.observed_at.desc(), OBSERVATIONS.c.recorded_at.desc())
            parts.append(sa.select(sa.select(*_COLUMNS).where(wanted, which).order_by(*newest).limit(2).subquery()))
    return sa.union_all(*parts)


_LATEST: Final = _statement()


def read_latest(connection: sa.Connection, keys: Iterable[str], until: int) -> Mapping[str, Latest]:
    """Return the latest value of each NEWS2 component of a subject, by signal.

    Args:
        connection: of the journal.
        keys: under which the subject's observations are stored.
        until: microseconds; what was recorded later, and what was superseded by then, does not count.
    """
    rows: dict[str, list[sa.Row[tuple[object, ...]]]] = {}
    for row in connection.execute(_LATEST, {"subjects": list(keys), "until": until}):
        rows.setdefault(row.signal, []).append(row)
    latest = {}
    for signal, candidates in rows.items():
        time = max(row.observed_at for row in candidates)
        of_time = [row for row in candidates if row.observed_at == time]
        severity = rank_severity(np.full(len(of_time), _CODES[signal]), np.array([row.value for row in of_time]))
        _, best = max(((row.recorded_at, rank), position) for position, (row, rank) in enumerate(zip(of_time, severity, strict=True)))
        row = of_time[best]
        latest[signal] = Latest(row.value, row.observed_at, row.source, row.device_id, len(of_time) > 1)
    return latest
