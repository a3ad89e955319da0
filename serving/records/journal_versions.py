"""Versions of observations in the journal: corrections and retractions, applied one by one as they arrive.

What they mean is defined in :mod:`vigil.features.revisions`. Of what was stored, only ``superseded_at`` changes, and only once.
"""

from collections.abc import Mapping
from typing import Any, Final

import pandas as pd
import sqlalchemy as sa

from vigil.features.declarations import Declarations
from vigil.features.observations import understand
from vigil.features.oxygen import FIO2, OXYGEN, SUFFIX, derive_oxygen
from vigil.features.revisions import FINAL, History, Outcome, Revision, Standing, Version, is_revision
from vigil.features.signals import measured_signal, signal_with_bounds
from vigil.serving.records.database import in_chunks, upsert
from vigil.serving.records.journal_rows import DIGEST_BYTES, Receipt, insert_accepted, shorten
from vigil.serving.records.journal_tables import LATEST, OBSERVATION_ROWS, OBSERVATIONS, REVISIONS, SERIES
from vigil.serving.records.timestamps import instants, microsecond

_RECEIPTS: Final[Mapping[Outcome, Receipt]] = {
    "counts": Receipt("accepted"),
    "retracts": Receipt("accepted"),
    "repeated": Receipt("duplicate"),
    "superseded": Receipt("duplicate", "superseded"),
}


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
        for some in in_chunks(wanted):
            origins |= set(connection.execute(known, {"origins": some}).scalars())
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
    understood, reasons = understand(versions, recorded_at, declared)
    understood = understood.assign(origin=versions["origin"], row=versions["row"])
    receipts = {row: Receipt("quarantined", reason) for row, reason in zip(versions["row"], reasons, strict=True) if reason}
    usable = understood[(reasons == "").to_numpy()]
    at = microsecond(recorded_at)
    histories = _histories(connection, usable)
    times = _times_of_originals(usable)
    superseded: list[tuple[str, bytes, Version]] = []
    fresh: dict[int, Version] = {}  # by position
    revisions: list[dict[str, Any]] = []
    sent: Any
    for position, sent in zip(usable.index, usable.to_dict("records"), strict=True):
        origin, observed_at = sent["origin"], microsecond(sent["observed_at"])
        number = None if pd.isna(sent["version"]) else int(sent["version"])
        version = Version(observed_at, (observed_at, sent["signal"], sent["value"]), None, True, None)
        outcome, ended, revision = histories[origin].take(version, sent["status"], number, times.get(origin, set()))
        receipts[sent["row"]] = _RECEIPTS[outcome]
        superseded += [(sent["subject_id"], origin, one) for one in ended if one.key is not None]  # else it is of this group
        if outcome == "counts":
            fresh[position] = version
        if revision is not None:
            revisions.append(_revision_row(sent, revision, at))
    _supersede(connection, superseded, at)
    _derive_again(connection, superseded, recorded_at)
    changed = usable.loc[[receipts[row].status == "accepted" for row in usable["row"]], "subject_id"].unique()
    upsert(connection, LATEST, [{"subject_id": subject, "recorded_at": at} for subject in changed])
    if revisions:
        connection.execute(REVISIONS.insert(), revisions)
    _insert(connection, usable, fresh, at)
    return receipts


def _insert(connection: sa.Connection, usable: pd.DataFrame, fresh: dict[int, Version], at: int) -> None:
    """Store the versions that count, or counted until a later one of the group, with the oxygen that follows from them."""
    accepted = usable.loc[list(fresh)].assign(
        version=pd.Series([version.number for version in fresh.values()], list(fresh), dtype=object),
        superseded_at=pd.Series([None if version.counts else at for version in fresh.values()], list(fresh), dtype=object),
    )
    insert_accepted(connection, pd.concat([accepted, derive_oxygen(accepted)]).sort_values("row", kind="stable"))


def _times_of_originals(usable: pd.DataFrame) -> dict[bytes, set[int]]:
    """Return when the originals of each origin were observed."""
    originals = usable[~is_revision(usable["status"], usable["version"]).to_numpy()]
    times: dict[bytes, set[int]] = {}
    for origin, observed_at in zip(originals["origin"], originals["observed_at"], strict=True):
        times.setdefault(origin, set()).add(microsecond(observed_at))
    return times


def _histories(connection: sa.Connection, usable: pd.DataFrame) -> dict[bytes, History]:
    """Return what the journal knows of the origins of some versions.

    A version may be a value of the signal or a bound of it. An earlier version of Vigil stored no origin; then the message,
    which has the same time, tells.
    """
    origins = dict.fromkeys(usable["origin"])
    stored: dict[bytes, list[Version]] = {origin: [] for origin in origins}
    signals: dict[bytes, str] = {}  # what counts, for revisions of an earlier version of Vigil
    of_message = dict(zip(usable["message_id"], usable["origin"], strict=True))
    of_short = {shorten(origin): origin for origin in origins}
    series = usable.assign(signal=usable["signal"].map(measured_signal)).groupby(["subject_id", "signal"], sort=False)
    for (subject, signal), own in series:
        for row in _stored_versions(connection, str(subject), str(signal), own):
            origin = of_message[row.message] if row.origin is None else of_short[row.origin]
            counts = row.superseded_at is None
            said = (row.observed_at, row.signal, row.value)
            stored[origin].append(Version(row.observed_at, said, row.version, counts, row.seq))
            if counts:
                signals[origin] = row.signal
    revisions: dict[bytes, list[Revision]] = {origin: [] for origin in origins}
    sent_signals = dict(zip(usable["origin"], usable["signal"], strict=True))
    for row in _stored_revisions(connection, list(origins)):
        signal = row.signal or signals.get(row.origin, sent_signals[row.origin])
        content = None if row.is_retracted else (row.observed_at, signal, row.value)
        standing = Standing(row.version, row.is_retracted, content)
        revisions[row.origin].append(Revision(row.identity_at, row.observed_at, standing))
    return {origin: History(stored[origin], revisions[origin]) for origin in origins}


def _stored_versions(connection: sa.Connection, subject: str, signal: str, own: pd.DataFrame) -> list["sa.Row[Any]"]:
    """Return the stored observations of some origins of one series. Each of the two conditions has an index of its own."""
    columns = [
        OBSERVATIONS.c[name]
        for name in ("seq", "observed_at", "signal", "value", "version", "superseded_at", "origin", "message")
    ]
    wanted = (OBSERVATIONS.c.subject_id == subject) & OBSERVATIONS.c.signal.in_(signal_with_bounds(signal))
    counts = OBSERVATIONS.c.superseded_at.is_(None)
    found: list[sa.Row[Any]] = []
    for some in in_chunks(list(dict.fromkeys(zip(own["origin"], own["message_id"], strict=True)))):
        is_known = OBSERVATIONS.c.origin.in_([shorten(origin) for origin, _ in some]) | (
            OBSERVATIONS.c.origin.is_(None) & OBSERVATIONS.c.message.in_([message for _, message in some])
        )
        for which in (counts, ~counts):
            found += connection.execute(sa.select(*columns).where(wanted, which, is_known)).all()
    return found


def _stored_revisions(connection: sa.Connection, origins: list[bytes]) -> list["sa.Row[Any]"]:
    return [
        row
        for some in in_chunks(origins)
        for row in connection.execute(sa.select(REVISIONS).where(REVISIONS.c.origin.in_(some)))
    ]


def _supersede(connection: sa.Connection, versions: list[tuple[str, bytes, Version]], at: int) -> None:
    """End stored versions, and the oxygen that follows from them."""
    if not versions:
        return
    rows = OBSERVATION_ROWS
    counts = rows.c.superseded_at.is_(None)
    ended = rows.update().where(rows.c.seq == sa.bindparam("key"), counts).values(superseded_at=at)
    connection.execute(ended, [{"key": version.key} for _, _, version in versions])
    of_oxygen = sa.select(SERIES.c.id).where(SERIES.c.subject_id == sa.bindparam("subject"), SERIES.c.signal == OXYGEN)
    derived = (
        (rows.c.series == of_oxygen.scalar_subquery())
        & (rows.c.observed_at == sa.bindparam("time"))
        & (rows.c.origin == sa.bindparam("derived_from"))
    )
    of_fio2 = [
        {"subject": subject, "time": version.observed_at, "derived_from": shorten(origin) + SUFFIX.encode()}
        for subject, origin, version in versions
        if version.content[1] == FIO2  # type: ignore[index]
    ]
    if of_fio2:
        connection.execute(rows.update().where(derived, counts).values(superseded_at=at), of_fio2)


def _derive_again(connection: sa.Connection, ended: list[tuple[str, bytes, Version]], recorded_at: pd.Timestamp) -> None:
    """Store the oxygen that follows from inspired fractions which still count, where what said the same has ended."""
    times = {(subject, version.observed_at) for subject, _, version in ended if version.content[1] in (FIO2, OXYGEN)}  # type: ignore[index]
    names = ("subject_id", "signal", "observed_at", "value", "device_id", "source", "message", "origin")
    for subject, observed_at in sorted(times):
        wanted = (
            (OBSERVATIONS.c.subject_id == subject)
            & (OBSERVATIONS.c.signal == FIO2)
            & (OBSERVATIONS.c.observed_at == observed_at)
            & OBSERVATIONS.c.superseded_at.is_(None)
        )
        rows = connection.execute(
            sa.select(*(OBSERVATIONS.c[name] for name in names)).where(wanted).order_by(OBSERVATIONS.c.seq)
        )
        fio2 = pd.DataFrame(rows.all(), columns=list(names))
        if not fio2.empty:
            # A digest that is not stored is not needed: these are recorded later than observed.
            messages = [message or bytes(DIGEST_BYTES) for message in fio2.pop("message")]
            counting = fio2.assign(observed_at=instants(fio2["observed_at"]), recorded_at=recorded_at, message_id=messages)
            insert_accepted(connection, derive_oxygen(counting))


def _revision_row(sent: Mapping[str, Any], revision: Revision, at: int) -> dict[str, Any]:
    is_retracted = revision.standing.is_retracted
    return {
        "recorded_at": at,
        "subject_id": sent["subject_id"],
        "origin": sent["origin"],
        "identity_at": revision.identity_at,
        "version": revision.standing.version,
        "is_retracted": is_retracted,
        "observed_at": revision.observed_at,
        "value": None if is_retracted else sent["value"],
        "signal": sent["signal"],
    }
