"""Rows of the journal's tables, as a group of observations writes them."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import pandas as pd
import sqlalchemy as sa

from vigil.features.signals import measured_signal, signal_with_bounds
from vigil.serving.records.database import in_chunks, insert_new, number_rows, upsert
from vigil.serving.records.journal_tables import LATEST, OBSERVATION_ROWS, QUARANTINE, REPETITIONS, SENDERS, SERIES
from vigil.serving.records.timestamps import microsecond, microseconds

Status = Literal["accepted", "duplicate", "quarantined"]

DIGEST_BYTES: Final = 16
_ORIGIN_BYTES: Final = 8  # of a digest, with an observation: among 10^6 of a series, two share them with a probability of 10^-8

_COUNTING: Final = (
    sa.select(
        SERIES.c.subject_id,
        SERIES.c.signal,
        *(OBSERVATION_ROWS.c[name] for name in ("observed_at", "value", "origin", "message")),
    )
    .join(SERIES, SERIES.c.id == OBSERVATION_ROWS.c.series)
    .where(OBSERVATION_ROWS.c.superseded_at.is_(None))
)
_OF_MESSAGES: Final = _COUNTING.where(OBSERVATION_ROWS.c.message.in_(sa.bindparam("messages", expanding=True)))
# SQLite looks at each time in each series, so a query names few of them.
_NEAR: Final = _COUNTING.where(
    SERIES.c.subject_id.in_(sa.bindparam("subjects", expanding=True)),
    SERIES.c.signal.in_(sa.bindparam("signals", expanding=True)),
    OBSERVATION_ROWS.c.observed_at.in_(sa.bindparam("times", expanding=True)),
)
_ADDRESSES: Final = 100  # in one query


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of an observation.

    Attributes:
        status: whether it counts.
        reason: why it was quarantined, a key of :data:`vigil.features.observations.REASONS`; of a duplicate ``superseded`` if a
            newer version is known.
    """

    status: Status
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Address:
    """What tells a message from others.

    Attributes:
        subject_id, signal: what it is of; of a bound the signal that is bounded.
        observed_at: as it was sent, microseconds.
        origin: its digest, shortened.
    """

    subject_id: str
    signal: str
    observed_at: int
    origin: bytes


@dataclass(frozen=True, slots=True)
class Stored:
    """What the journal holds, of what counts, where a group has messages.

    Attributes:
        messages: the signal and value of each stored message, by its digest.
        contents: ``subject_id, signal, observed_at, value`` of the observations of any message at the same times.
    """

    messages: dict[bytes, tuple[str, float]]
    contents: set[tuple[str, str, int, float]]


def insert_accepted(connection: sa.Connection, accepted: pd.DataFrame) -> None:
    """Store accepted observations, but none whose content counts already.

    Args:
        connection: of the group's transaction.
        accepted: of :func:`vigil.features.observations.check`; ``message_id`` is a digest, and of a derived observation that of
            the message, with a suffix. With ``origin``, the digest of its message's origin, and perhaps with ``version``
            (missing: an original) and ``superseded_at`` (microseconds; missing: it counts).
    """
    if accepted.empty:
        return
    subjects = accepted["subject_id"].tolist()
    series = list(zip(subjects, accepted["signal"].tolist(), strict=True))
    senders = list(zip(_texts(accepted["source"]), _texts(accepted["device_id"]), strict=True))
    series_numbers, sender_numbers = number_rows(connection, SERIES, series), number_rows(connection, SENDERS, senders)
    observed_at, recorded_at = microseconds(accepted["observed_at"]).tolist(), microseconds(accepted["recorded_at"]).tolist()
    messages = accepted["message_id"].tolist()
    columns = {
        "series": [series_numbers[own] for own in series],
        "observed_at": observed_at,
        "value": accepted["value"].tolist(),
        "recorded_at": recorded_at,
        "sender": [sender_numbers[own] for own in senders],
        "origin": [
            None if origin is None else shorten(origin) + message[DIGEST_BYTES:]
            for origin, message in zip(accepted["origin"].tolist(), messages, strict=True)
        ],
        "message": [
            message if observed == recorded else None
            for message, observed, recorded in zip(messages, observed_at, recorded_at, strict=True)
        ],
    }
    columns |= {name: accepted[name].astype(object).tolist() for name in ("version", "superseded_at") if name in accepted}
    insert_new(
        connection, OBSERVATION_ROWS, [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    )
    latest = dict(zip(subjects, recorded_at, strict=True))
    upsert(connection, LATEST, [{"subject_id": subject, "recorded_at": at} for subject, at in latest.items()])


def _texts(column: "pd.Series[str]") -> list[str]:
    return [text if isinstance(text, str) else "" for text in column.tolist()]


def count_repetitions(connection: sa.Connection, observations: pd.DataFrame, at: pd.Timestamp) -> None:
    """Count observations that were stored before: a gateway that sends everything twice is broken."""
    if observations.empty:
        return
    columns = ("subject_id", "signal", "device_id", "source")
    keys = observations[list(columns)].itertuples(index=False, name=None)
    times = Counter(tuple(None if pd.isna(part) else part for part in key) for key in keys)
    rows = [{**dict(zip(columns, key, strict=True)), "recorded_at": microsecond(at), "times": n} for key, n in times.items()]
    connection.execute(REPETITIONS.insert(), rows)


def find_stored(connection: sa.Connection, addresses: Mapping[bytes, Address]) -> Stored:
    """Return what the journal holds of messages, given by their digests, and what else it holds at their times."""
    stored = Stored({}, set())
    for some in in_chunks(list(addresses)):
        for row in connection.execute(_OF_MESSAGES, {"messages": some}):
            stored.messages[row.message] = (row.signal, row.value)
    wanted = {own: message for message, own in addresses.items()}
    in_order = sorted(wanted, key=lambda own: (own.subject_id, own.observed_at))
    for first in range(0, len(in_order), _ADDRESSES):
        several = in_order[first : first + _ADDRESSES]
        near = {
            "subjects": list({own.subject_id for own in several}),
            "signals": list({name for own in several for name in signal_with_bounds(own.signal)}),
            "times": list({own.observed_at for own in several}),
        }
        for row in connection.execute(_NEAR, near):
            stored.contents.add((row.subject_id, row.signal, row.observed_at, row.value))
            own = Address(row.subject_id, measured_signal(row.signal), row.observed_at, row.origin)
            if row.message is None and own in wanted:
                stored.messages[wanted[own]] = (row.signal, row.value)
    return stored


def quarantine(connection: sa.Connection, observations: pd.DataFrame, reasons: Iterable[str | None], at: pd.Timestamp) -> None:
    """Store observations that cannot be used, as they were sent, with the reason."""
    rows = []
    for sent, reason in zip(observations.to_dict("records"), reasons, strict=True):
        subject = sent.pop("subject_id")
        sent.pop("received_at", None)  # among what was sent, if it was
        text = json.dumps(sent | sent.pop("sent", {}), default=str)
        row = {"recorded_at": microsecond(at), "subject_id": subject, "reason": reason}
        rows.append({**row, "observation": text, "digest": digest([subject, reason, text])})
    insert_new(connection, QUARANTINE, rows)


def digest(key: Iterable[Any]) -> bytes:
    """Return the digest of those parts of a message that make an observation the same when it arrives again."""
    return hashlib.blake2b(json.dumps([str(part) for part in key]).encode(), digest_size=DIGEST_BYTES).digest()


def digest_origin(key: Iterable[Any]) -> bytes:
    """Return the digest of what the versions of an observation have in common. Made for every observation, so it is quick."""
    return hashlib.blake2b("\x1f".join(map(str, key)).encode(), digest_size=DIGEST_BYTES).digest()


def shorten(origin: bytes) -> bytes:
    """Return the digest of an origin as observations have it."""
    return origin[:_ORIGIN_BYTES]
