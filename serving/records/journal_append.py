"""Appending a group of observations to the journal: what is new, what repeats, what cannot be used, and what corrects."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
import sqlalchemy as sa

from vigil.features.declarations import Declarations
from vigil.features.duplicates import MESSAGE_KEY
from vigil.features.measures import name_signal
from vigil.features.observations import TIME, check
from vigil.features.revisions import ORIGIN
from vigil.features.signals import measured_signal
from vigil.serving.records.journal_merges import address_versions, read_merges, touch_survivors
from vigil.serving.records.journal_rows import (
    DIGEST_BYTES,
    Address,
    Receipt,
    count_repetitions,
    digest,
    digest_origin,
    find_stored,
    insert_accepted,
    quarantine,
    shorten,
)
from vigil.serving.records.journal_versions import append_versions, find_versions
from vigil.serving.records.timestamps import microsecond, microseconds, not_ahead

_REPEATS: Final = ("duplicate_message", "duplicate_reading")


def append_group(
    connection: sa.Connection, frame: pd.DataFrame, recorded_at: pd.Timestamp, declared: Declarations
) -> list[Receipt]:
    """Store a group, and return what became of each observation, in order.

    Args:
        connection: in a transaction.
        frame: the observations, as :meth:`vigil.serving.records.journal.Journal.append` takes them.
        recorded_at: the time of the group.
        declared: what sources declare.
    """
    merges = read_merges(connection, frame["subject_id"].unique())
    named = frame.assign(signal=frame["signal"].map(name_signal))  # a version may name the signal by another code
    frame = frame.assign(subject_id=address_versions(connection, named, merges))
    named = named.assign(subject_id=frame["subject_id"])
    arrived = frame.assign(
        message_id=[digest(row) for row in _rows(named, MESSAGE_KEY)],
        origin=[digest_origin(row) for row in _rows(named, ORIGIN)],
        observed_at=not_ahead(frame["observed_at"].astype(TIME), recorded_at),
        recorded_at=pd.Series(recorded_at, index=frame.index, dtype=TIME),
        row=range(len(frame)),
    )
    versions = find_versions(connection, arrived)
    receipts = {}
    if versions.any():
        receipts = append_versions(connection, arrived[versions], recorded_at, declared)
        arrived = arrived[~versions]
    receipts |= _append_originals(connection, arrived, _addresses(named, arrived), recorded_at, declared)
    in_order = [receipts[row] for row in range(len(frame))]
    repeated = [row for row, receipt in enumerate(in_order) if receipt.status == "duplicate"]
    count_repetitions(connection, frame.iloc[repeated], recorded_at)
    unused = [row for row, receipt in enumerate(in_order) if receipt.status == "quarantined"]
    quarantine(connection, frame.iloc[unused], [in_order[row].reason for row in unused], recorded_at)
    accepted = [row for row, receipt in enumerate(in_order) if receipt.status == "accepted"]
    touch_survivors(connection, frame["subject_id"].iloc[accepted], merges, microsecond(recorded_at))
    return in_order


def _rows(frame: pd.DataFrame, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """Return the rows of some columns. Lists are much quicker to read one by one than columns of a frame."""
    return zip(*(frame[name].tolist() for name in columns), strict=True)


def _addresses(named: pd.DataFrame, arrived: pd.DataFrame) -> dict[bytes, Address]:
    """Return where the journal has what arrived, by the digest of the message. What has no subject or signal cannot be used."""
    sent = named.loc[arrived.index]
    times = microseconds(sent["observed_at"].astype(TIME)).tolist()
    rows = zip(arrived["message_id"], sent["subject_id"], sent["signal"], times, arrived["origin"], strict=True)
    return {
        message: Address(subject, measured_signal(signal), observed_at, shorten(origin))
        for message, subject, signal, observed_at, origin in rows
        if isinstance(subject, str) and isinstance(signal, str)
    }


def _append_originals(
    connection: sa.Connection,
    arrived: pd.DataFrame,
    addresses: dict[bytes, Address],
    recorded_at: pd.Timestamp,
    declared: Declarations,
) -> dict[int, Receipt]:
    """Store observations of which no other version is known; return what became of them by row."""
    if arrived.empty:
        return {}
    stored = find_stored(connection, addresses)
    checked = check(arrived.drop(columns=["status", "version"], errors="ignore"), recorded_at, declared)
    is_new = [message[:DIGEST_BYTES] not in stored.messages for message in checked.accepted["message_id"]]
    new = checked.accepted[np.array(is_new, dtype=bool)]
    origins = dict(zip(arrived["message_id"], arrived["origin"], strict=True))
    insert_accepted(connection, new.assign(origin=[origins[message[:DIGEST_BYTES]] for message in new["message_id"]]))
    contents = zip(*(new[name].tolist() for name in ("subject_id", "signal")), microseconds(new["observed_at"]).tolist(),
                   new["value"].tolist(), strict=True)  # fmt: skip
    inserted = {
        message: (content[1], content[3])
        for message, content in zip(new["message_id"], contents, strict=True)
        if content not in stored.contents
    }
    known = stored.messages | inserted
    unusable = dict(zip(checked.quarantined["row"], checked.quarantined["reason"], strict=True))
    receipts = {}
    for row, message, content in zip(
        arrived["row"], arrived["message_id"], _rows(checked.content, ("signal", "value")), strict=True
    ):
        reason = unusable.get(row)
        if reason is not None and reason not in _REPEATS:
            receipts[row] = Receipt("quarantined", reason)
        elif content != known.get(message, content):  # not known: another message had the same content
            receipts[row] = Receipt("quarantined", "duplicate_message")
        else:
            receipts[row] = Receipt("accepted" if message in inserted and reason is None else "duplicate")
    return receipts
