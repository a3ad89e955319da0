"""Rows of the journal's tables, as a group of observations writes them."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import pandas as pd
import sqlalchemy as sa

from serving.records.database import in_chunks, insert_new, upsert
from serving.records.journal_tables import LATEST, OBSERVATIONS, QUARANTINE, REPETITIONS
from serving.records.timestamps import microsecond, microseconds

Status = Literal["accepted", "duplicate", "quarantined"]

_DIGEST_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of an observation.

    Attributes:
        status: whether it counts.
        reason: why it was quarantined, a key of :data:`features.observations.REASONS`; of a duplicate ``superseded`` if a newer
            version is known.
    """

    status: Status
    reason: str | None = None


def insert_accepted(connection: sa.Connection, accepted: pd.DataFrame, origins: Mapping[bytes, bytes]) -> None:
    """Store accepted observations.

    Args:
        connection: of the group's transaction.
        accepted: of :func:`features.observations.check`; ``message_id`` is a digest, and of a derived observation that of the
            message, with a suffix. Perhaps with ``version`` (missing: an original) and ``superseded_at`` (microseconds;
            missing: it counts).
        origins: digest of the origin by that of the message.
    """
    if accepted.empty:
        return
    messages = accepted["message_id"].tolist()
    columns = {
        "subject_id": accepted["subject_id"],
        "signal": accepted["signal"],
        "observed_at": microseconds(accepted["observed_at"]),
        "value": accepted["value"],
        "recorded_at": microseconds(accepted["recorded_at"]),
        "device_id": accepted["device_id"],
        "source": accepted["source"],
        "message": messages,
        "origin": [origins[message[:_DIGEST_BYTES]] + message[_DIGEST_BYTES:] for message in messages],
    }
    columns |= {name: accepted[name].astype(object) for name in ("version", "superseded_at") if name in accepted}
    rows: list[Any] = pd.DataFrame(columns).to_dict("records")
    insert_new(connection, OBSERVATIONS, rows)
    latest = {row["subject_id"]: row["recorded_at"] for row in rows}
    upsert(connection, LATEST, [{"subject_id": subject, "recorded_at": at} for subject, at in latest.items()])


def count_repetitions(connection: sa.Connection, observations: pd.DataFrame, at: pd.Timestamp) -> None:
    """Count observations that were stored before: a gateway that sends everything twice is broken."""
    if observations.empty:
        return
    columns = ("subject_id", "signal", "device_id", "source")
    keys = observations[list(columns)].itertuples(index=False, name=None)
    times = Counter(tuple(None if pd.isna(part) else part for part in key) for key in keys)
    rows = [{**dict(zip(columns, key, strict=True)), "recorded_at": microsecond(at), "times": n} for key, n in times.items()]
    connection.execute(REPETITIONS.insert(), rows)


def find_stored(connection: sa.Connection, messages: "pd.Series[bytes]") -> dict[bytes, tuple[int, tuple[str, float]]]:
    """Return number, and signal and value, of the stored observations that count, by message."""
    wanted = messages.drop_duplicates().tolist()
    stored: dict[bytes, tuple[int, tuple[str, float]]] = {}
    columns = [OBSERVATIONS.c[name] for name in ("message", "seq", "signal", "value")]
    for some in in_chunks(wanted):
        counts = OBSERVATIONS.c.message.in_(some) & OBSERVATIONS.c.superseded_at.is_(None)
        rows = connection.execute(sa.select(*columns).where(counts))
        stored |= {row.message: (row.seq, (row.signal, row.value)) for row in rows}
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
    return hashlib.blake2b(json.dumps([str(part) for part in key]).encode(), digest_size=_DIGEST_BYTES).digest()


def digest_origin(key: Iterable[Any]) -> bytes:
    """Return the digest of what the versions of an observation have in common. Made for every observation, so it is quick."""
    return hashlib.blake2b("\x1f".join(map(str, key)).encode(), digest_size=_DIGEST_BYTES).digest()
