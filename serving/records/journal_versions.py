"""Versions of observations in the journal: corrections and retractions, applied one by one as they arrive.

What they mean is defined in :mod:`features.revisions`. Of what was stored, only ``superseded_at`` changes, and only once.
"""

import pandas as pd
import sqlalchemy as sa

from features.declarations import Declarations
from features.observations import check, understand
from features.oxygen import SUFFIX
from features.revisions import FINAL, History, Revision, Standing, Version, is_revision
from features.signals import measured_signal, signal_with_bounds
from serving.records.database import upsert
from serving.records.journal_rows import Receipt, insert_accepted
from serving.records.journal_tables import LATEST, OBSERVATIONS, REVISIONS
from serving.records.timestamps import microsecond


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
    """Apply versions in their order; return what became of them by row.

    They are stored at the end, so that what the group supersedes is no repetition of what the group says.
    """
    versions = arrived.reset_index(drop=True)
    if "status" not in versions:
        versions = versions.assign(status=FINAL, version=None)
    normalised, reasons = understand(versions, recorded_at, declared)
    at = microsecond(recorded_at)
    times = _times_of_originals(versions, normalised, reasons)
    histories: dict[bytes, History] = {}
    receipts, fresh = {}, []
    for position, (row, reason) in enumerate(zip(versions["row"], reasons, strict=True)):
        if reason:
            receipts[row] = Receipt("quarantined", str(reason))
            continue
        sent, understood = versions.iloc[[position]], normalised.iloc[position]
        subject, origin = str(understood["subject_id"]), sent["origin"].iloc[0]
        observed_at, signal, value = (
            microsecond(understood["observed_at"]),
            str(understood["signal"]),
            float(understood["value"]),
        )
        if origin not in histories:
            histories[origin] = _history(connection, subject, signal, origin, sent["message_id"].iloc[0])
        number = None if pd.isna(understood["version"]) else int(understood["version"])
        version = Version(observed_at, (observed_at, signal, value), None, True, None)
        outcome, superseded, revision = histories[origin].take(
            version, str(understood["status"]), number, times.get(origin, ())
        )
        if outcome in ("repeated", "superseded"):
            receipts[row] = Receipt("duplicate", "superseded" if outcome == "superseded" else None)
            continue
        receipts[row] = Receipt("accepted")
        _supersede(connection, subject, origin, superseded, at)
        if outcome == "counts":
            fresh.append((version, sent.drop(columns=["status", "version"])))
        upsert(connection, LATEST, [{"subject_id": subject, "recorded_at": at}])
        if revision is not None:
            _insert_revision(connection, subject, origin, revision, None if outcome == "retracts" else value, at)
    for version, sent in fresh:
        origins = {sent["message_id"].iloc[0]: sent["origin"].iloc[0]}
        superseded_at = None if version.counts else at
        insert_accepted(connection, check(sent, declared=declared).accepted, origins, version.number, superseded_at)
    return receipts


def _times_of_originals(versions: pd.DataFrame, normalised: pd.DataFrame, reasons: "pd.Series[str]") -> dict[bytes, set[int]]:
    """Return when the usable originals of each origin were observed."""
    times: dict[bytes, set[int]] = {}
    is_original = ~is_revision(normalised["status"], normalised["version"]) & (reasons == "").to_numpy()
    for origin, observed_at in zip(
        versions.loc[is_original, "origin"], normalised.loc[is_original, "observed_at"], strict=True
    ):
        times.setdefault(origin, set()).add(microsecond(observed_at))
    return times


def _history(connection: sa.Connection, subject: str, signal: str, origin: bytes, message: bytes) -> History:
    """Return what the journal knows of an origin. Each of the first two queries has an index of its own.

    A version may be a value of the signal or a bound of it.

    An earlier version of Vigil stored no origin; then the message, which has the same time, tells.
    """
    is_known = (OBSERVATIONS.c.origin == origin) | (OBSERVATIONS.c.origin.is_(None) & (OBSERVATIONS.c.message == message))
    signals = signal_with_bounds(measured_signal(signal))
    wanted = (OBSERVATIONS.c.subject_id == subject) & OBSERVATIONS.c.signal.in_(signals) & is_known
    columns = [OBSERVATIONS.c[name] for name in ("seq", "observed_at", "signal", "value", "version", "superseded_at")]
    counts = OBSERVATIONS.c.superseded_at.is_(None)
    rows = [row for which in (counts, ~counts) for row in connection.execute(sa.select(*columns).where(wanted, which))]
    versions = [
        Version(row.observed_at, (row.observed_at, row.signal, row.value), row.version, row.superseded_at is None, row.seq)
        for row in rows
    ]
    before = next((row.signal for row in rows if row.superseded_at is None), signal)
    revisions = [
        Revision(
            row.identity_at,
            row.observed_at,
            Standing(row.version, row.is_retracted, None if row.is_retracted else (row.observed_at, before, row.value)),
        )
        for row in connection.execute(sa.select(REVISIONS).where(REVISIONS.c.origin == origin))
    ]
    return History(versions, revisions)


def _supersede(connection: sa.Connection, subject: str, origin: bytes, versions: list[Version], at: int) -> None:
    """End stored versions, and the oxygen that follows from them. Those of this group have no key, and are not stored yet."""
    for version in versions:
        if version.key is None:
            continue
        derived = (
            (OBSERVATIONS.c.subject_id == subject)
            & (OBSERVATIONS.c.signal == "on_oxygen")
            & (OBSERVATIONS.c.observed_at == version.observed_at)
            & (OBSERVATIONS.c.origin == origin + SUFFIX.encode())
        )
        for ended in (OBSERVATIONS.c.seq == version.key, derived):
            superseded = OBSERVATIONS.update().where(ended, OBSERVATIONS.c.superseded_at.is_(None))
            connection.execute(superseded.values(superseded_at=at))


def _insert_revision(
    connection: sa.Connection, subject: str, origin: bytes, revision: Revision, value: float | None, at: int
) -> None:
    connection.execute(
        REVISIONS.insert().values(
            recorded_at=at,
            subject_id=subject,
            origin=origin,
            identity_at=revision.identity_at,
            version=revision.standing.version,
            is_retracted=revision.standing.is_retracted,
            observed_at=revision.observed_at,
            value=value,
        )
    )
