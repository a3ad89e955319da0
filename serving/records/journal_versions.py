"""Versions of observations in the journal: corrections and retractions, applied one by one as they arrive.

What they mean is defined in :mod:`features.revisions`. Of what was stored, only ``superseded_at`` changes, and only once.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd
import sqlalchemy as sa

from features.declarations import Declarations
from features.observations import check, understand
from features.oxygen import SUFFIX
from features.revisions import FINAL, Standing, is_revision
from features.signals import measured_signal, signal_with_bounds
from serving.records.database import upsert
from serving.records.journal_rows import Receipt, insert_accepted
from serving.records.journal_tables import LATEST, OBSERVATIONS, REVISIONS
from serving.records.timestamps import microsecond

_Insert = Callable[[], None]


def find_versions(connection: sa.Connection, arrived: pd.DataFrame) -> "pd.Series[bool]":
    """Return which observations are versions of one that was corrected or retracted, in this group or before."""
    if "status" not in arrived or ((arrived["status"] == FINAL).all() and arrived["version"].isna().all()):
        revises = pd.Series(False, index=arrived.index)
    else:
        revises = is_revision(arrived["status"], arrived["version"])
    origins = set(arrived.loc[revises, "origin"])
    if connection.execute(sa.select(REVISIONS.c.seq).limit(1)).first() is not None:
        known = sa.select(REVISIONS.c.origin).where(REVISIONS.c.origin.in_(sa.bindparam("origins", expanding=True))).distinct()
        wanted = arrived["origin"].drop_duplicates().tolist()
        for first in range(0, len(wanted), 500):
            origins |= set(connection.execute(known, {"origins": wanted[first : first + 500]}).scalars())
    if not origins:
        return pd.Series(False, index=arrived.index)
    # Not Series.isin, which compares bytes as fixed-width text: a digest that ends with a zero byte would never be found.
    return pd.Series([origin in origins for origin in arrived["origin"]], index=arrived.index, dtype=bool)


def append_versions(
    connection: sa.Connection, arrived: pd.DataFrame, recorded_at: pd.Timestamp, declared: Declarations
) -> dict[int, Receipt]:
    """Apply versions in their order; return what became of them by row."""
    versions = arrived.reset_index(drop=True)
    if "status" not in versions:
        versions = versions.assign(status=FINAL, version=None)
    normalised, reasons = understand(versions, recorded_at, declared)
    receipts = {}
    counting: dict[tuple[bytes, int | None], _Insert] = {}
    for position, (row, reason) in enumerate(zip(versions["row"], reasons, strict=True)):
        if reason:
            receipts[row] = Receipt("quarantined", str(reason))
            continue
        receipts[row] = _append_version(
            connection, versions.iloc[[position]], normalised.iloc[position], microsecond(recorded_at), declared, counting
        )
    for insert in counting.values():  # another version said the same until it was superseded later in this group
        insert()
    return receipts


def _append_version(
    connection: sa.Connection,
    sent: pd.DataFrame,
    understood: "pd.Series[Any]",
    recorded_at: int,
    declared: Declarations,
    inserts: dict[tuple[bytes, int | None], _Insert],
) -> Receipt:
    subject, origin = str(understood["subject_id"]), sent["origin"].iloc[0]
    observed_at, signal, value = microsecond(understood["observed_at"]), str(understood["signal"]), float(understood["value"])
    rows = _rows_of(connection, subject, measured_signal(signal), origin, sent["message_id"].iloc[0])
    several = len({row.observed_at for row in rows if row.version is None}) > 1
    identity_at = observed_at if several else None
    counting = next(
        (row for row in rows if row.superseded_at is None and (not several or row.observed_at == observed_at)), None
    )
    standing = _standing(connection, origin, identity_at, counting, signal)
    number = understood["version"]
    version = None if pd.isna(number) else int(number)
    outcome, after = standing.after(version, str(understood["status"]), (observed_at, signal, value))
    if outcome in ("repeated", "superseded"):
        return Receipt("duplicate", "superseded" if outcome == "superseded" else None)
    if counting is not None:
        derived = (
            (OBSERVATIONS.c.subject_id == subject)
            & (OBSERVATIONS.c.signal == "on_oxygen")
            & (OBSERVATIONS.c.observed_at == counting.observed_at)
            & (OBSERVATIONS.c.origin == origin + SUFFIX.encode())
        )
        for ended in (OBSERVATIONS.c.seq == counting.seq, derived):
            superseded = OBSERVATIONS.update().where(ended, OBSERVATIONS.c.superseded_at.is_(None))
            connection.execute(superseded.values(superseded_at=recorded_at))
    inserts.pop((origin, identity_at), None)
    if outcome == "counts":
        accepted = check(sent.drop(columns=["status", "version"]), declared=declared).accepted
        origins = {sent["message_id"].iloc[0]: origin}
        insert = partial(insert_accepted, connection, accepted, origins, after.version if after.version > 1 else None)
        insert()
        inserts[origin, identity_at] = insert
    upsert(connection, LATEST, [{"subject_id": subject, "recorded_at": recorded_at}])
    if after.version > 1 or understood["status"] != FINAL:  # a source may number its correction or retraction 1
        connection.execute(
            REVISIONS.insert().values(
                recorded_at=recorded_at,
                subject_id=subject,
                origin=origin,
                identity_at=identity_at,
                version=after.version,
                is_retracted=after.is_retracted,
                observed_at=None if after.is_retracted else observed_at,
                value=None if after.is_retracted else value,
            )
        )
    return Receipt("accepted")


def _rows_of(connection: sa.Connection, subject: str, signal: str, origin: bytes, message: bytes) -> list[Any]:
    """Return the stored versions of one origin, superseded ones too. Each of the two queries has an index of its own.

    A version may be a value of the signal or a bound of it.

    An earlier version of Vigil stored no origin; then the message, which has the same time, tells.
    """
    is_known = (OBSERVATIONS.c.origin == origin) | (OBSERVATIONS.c.origin.is_(None) & (OBSERVATIONS.c.message == message))
    wanted = (OBSERVATIONS.c.subject_id == subject) & OBSERVATIONS.c.signal.in_(signal_with_bounds(signal)) & is_known
    columns = [OBSERVATIONS.c[name] for name in ("seq", "observed_at", "signal", "value", "version", "superseded_at")]
    counts = OBSERVATIONS.c.superseded_at.is_(None)
    return [row for which in (counts, ~counts) for row in connection.execute(sa.select(*columns).where(wanted, which))]


def _standing(connection: sa.Connection, origin: bytes, identity_at: int | None, counting: Any | None, signal: str) -> Standing:
    """Return what is known of an observation. ``signal``: the version's, where no row tells what the one before was of."""
    of_identity = REVISIONS.c.identity_at.is_(None) if identity_at is None else REVISIONS.c.identity_at == identity_at
    query = sa.select(REVISIONS).where(REVISIONS.c.origin == origin, of_identity).order_by(REVISIONS.c.version.desc()).limit(1)
    before = signal if counting is None else counting.signal
    if (last := connection.execute(query).first()) is not None:
        content = None if last.is_retracted else (last.observed_at, before, last.value)
        return Standing(last.version, last.is_retracted, content)
    if counting is None:
        return Standing()
    return Standing(1, is_retracted=False, content=(counting.observed_at, counting.signal, counting.value))
