"""The journal: every reading that was accepted, in the order it became durable; whose it is; and what could not be used.

A reading is on the disk before it is acknowledged. Its ``recorded_at`` is when we learned of it, and never goes back, so features
as of a time are those of the readings recorded until then. A reading delivered again is recognised by its message and by what it
says, and counts once.

Patients appear by pseudonym (:mod:`features.pseudonyms`); only the table ``identities`` knows whose each is.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.dialects import sqlite

from features.observations import MESSAGE_KEY, TIME, check, numbers, to_resolution
from serving.database import DatabaseError, open_database

FILE: Final = "journal.db"

Status = Literal["accepted", "duplicate", "quarantined"]

METADATA: Final = sa.MetaData()
IDENTITIES: Final = sa.Table(
    "identities",
    METADATA,
    sa.Column("patient", sa.String, primary_key=True),
    sa.Column("identifier", sa.String, nullable=False),
)
PATIENTS: Final = sa.Table(  # what is known of a patient, from when on: rows are added, never changed
    "patients",
    METADATA,
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("patient", sa.String, nullable=False, index=True),
    sa.Column("recorded_at", sa.BigInteger, nullable=False),  # microseconds UTC, as all times here
    sa.Column("ward", sa.String, nullable=False),
    sa.Column("age", sa.Float),
    sa.Column("sex", sa.Float),
    sa.Column("unit_admitted_at", sa.BigInteger),
    sa.Column("hospital_admitted_at", sa.BigInteger),
)
READINGS: Final = sa.Table(
    "readings",
    METADATA,
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("patient", sa.String, nullable=False),
    sa.Column("signal", sa.String, nullable=False),
    sa.Column("observed_at", sa.BigInteger, nullable=False),
    sa.Column("value", sa.Float, nullable=False),
    sa.Column("recorded_at", sa.BigInteger, nullable=False),
    sa.Column("device_id", sa.String),
    sa.Column("source", sa.String),
    sa.Column("message", sa.LargeBinary, nullable=False, unique=True),  # digest of MESSAGE_KEY
    sa.UniqueConstraint("patient", "signal", "observed_at", "value"),
    sqlite_autoincrement=True,  # a number is never given twice, even when the last row was dropped
)
QUARANTINE: Final = sa.Table(
    "quarantine",
    METADATA,
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("recorded_at", sa.BigInteger, nullable=False, index=True),
    sa.Column("patient", sa.String),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("reading", sa.String, nullable=False),  # JSON, as it came
)
SKEW: Final = pd.Timedelta(seconds=5)  # that a device's clock may be ahead of ours: such a reading is taken as of its arrival

_CHUNK: Final = 500  # values in a query
_REPEATS: Final = ("duplicate_message", "duplicate_reading")


@dataclass(frozen=True, slots=True)
class Received:
    """What became of a reading. ``reason``: why it was quarantined, a key of :data:`features.observations.REASONS`."""

    status: Status
    reason: str | None = None


class Journal:
    """The journal of one home. Writing is for one thread at a time; the other processes wait."""

    def __init__(self, home: Path) -> None:
        self.engine = open_database(home / FILE, METADATA)
        self._writing = self.engine.execution_options(writes=True)
        self._identified: set[str] = set()

    def append(self, readings: Sequence[Mapping[str, Any]], now: datetime) -> list[Received]:
        """Keep readings; they are on the disk when this returns.

        Args:
            readings: ``identifier, subject_id`` (its pseudonym), ``signal, value, unit, observed_at`` (an instant, or None where
                it could not be read), ``device_id, source, message_id``.
            now: the present; readings are recorded then, or right after the last ones before them.

        Returns:
            What became of each, in order.

        Raises:
            DatabaseError: nothing was kept.
        """
        if not readings:
            return []
        try:
            with self._writing.begin() as connection:
                return self._append(connection, pd.DataFrame.from_records(readings), now)
        except sa.exc.OperationalError as error:
            raise DatabaseError(f"{FILE}: cannot be written ({type(error.orig).__name__}); is the disk full?") from None

    def _append(self, connection: sa.Connection, frame: pd.DataFrame, now: datetime) -> list[Received]:
        last_seq, recorded_at = _next(connection, now)
        observed_at = frame["observed_at"].astype(TIME)
        ahead = observed_at - recorded_at
        arrived = frame.assign(
            message_id=[_digest(row) for row in frame[MESSAGE_KEY].itertuples(index=False)],
            observed_at=observed_at.where(~((ahead > pd.Timedelta(0)) & (ahead <= SKEW)), recorded_at),
            recorded_at=pd.Series(recorded_at, index=frame.index, dtype=TIME),
            row=np.arange(len(frame)),
        )
        checked = check(arrived, recorded_at)
        self._identify(connection, frame)
        _insert(connection, checked.accepted)
        kept = _kept(connection, arrived["message_id"])
        unusable = dict(zip(checked.quarantined["row"], checked.quarantined["reason"], strict=True))
        results = []
        for row, (message, value) in enumerate(zip(arrived["message_id"], _rounded(arrived), strict=True)):
            reason = unusable.get(row)
            seq, said = kept.get(message, (0, value))  # not kept: what it says was kept from another message
            if reason is not None and reason not in _REPEATS:
                results.append(Received("quarantined", reason))
            elif value != said:
                results.append(Received("quarantined", "duplicate_message"))
            else:
                results.append(Received("accepted" if seq > last_seq and reason is None else "duplicate"))
        put_aside = [place for place, result in enumerate(results) if result.status == "quarantined"]
        _quarantine(connection, frame.iloc[put_aside], [results[place].reason for place in put_aside], recorded_at)
        return results

    def _identify(self, connection: sa.Connection, frame: pd.DataFrame) -> None:
        new = dict(zip(frame["subject_id"], frame["identifier"], strict=True))
        new = {patient: identifier for patient, identifier in new.items() if patient not in self._identified}
        if new:
            rows = [{"patient": patient, "identifier": identifier} for patient, identifier in new.items()]
            connection.execute(sqlite.insert(IDENTITIES).on_conflict_do_nothing(), rows)
            self._identified.update(new)


def _next(connection: sa.Connection, now: datetime) -> tuple[int, pd.Timestamp]:
    """The last number given, and when readings that come now are recorded: never before, nor with, those that are there."""
    last = connection.execute(sa.select(READINGS.c.seq, READINGS.c.recorded_at).order_by(READINGS.c.seq.desc()).limit(1)).first()
    at = pd.Timestamp(now).tz_convert("UTC").as_unit("us")
    return (0, at) if last is None else (last.seq, max(at, instant(last.recorded_at + 1)))


def _insert(connection: sa.Connection, accepted: pd.DataFrame) -> None:
    if accepted.empty:
        return
    columns = {
        "patient": accepted["subject_id"],
        "signal": accepted["signal"],
        "observed_at": _microseconds(accepted["observed_at"]),
        "value": accepted["value"],
        "recorded_at": _microseconds(accepted["recorded_at"]),
        "device_id": accepted["device_id"],
        "source": accepted["source"],
        "message": accepted["message_id"],
    }
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*(column.tolist() for column in columns.values()), strict=True)]
    connection.execute(sqlite.insert(READINGS).on_conflict_do_nothing(), rows)


def _kept(connection: sa.Connection, messages: "pd.Series[bytes]") -> dict[bytes, tuple[int, float]]:
    """Number and value of the readings that are there, by message."""
    wanted = messages.drop_duplicates().tolist()
    found: dict[bytes, tuple[int, float]] = {}
    for first in range(0, len(wanted), _CHUNK):
        among = READINGS.c.message.in_(wanted[first : first + _CHUNK])
        rows = connection.execute(sa.select(READINGS.c.message, READINGS.c.seq, READINGS.c.value).where(among))
        found |= {row.message: (row.seq, row.value) for row in rows}
    return found


def _quarantine(connection: sa.Connection, readings: pd.DataFrame, reasons: Iterable[str | None], at: pd.Timestamp) -> None:
    rows = [
        {
            "recorded_at": microsecond(at),
            "patient": reading.pop("subject_id"),
            "reason": reason,
            "reading": json.dumps({name: value for name, value in reading.items() if name != "identifier"}, default=str),
        }
        for reading, reason in zip(readings.to_dict("records"), reasons, strict=True)
    ]
    if rows:
        connection.execute(QUARANTINE.insert(), rows)


def _digest(key: Iterable[Any]) -> bytes:
    """Of the parts of a message that make a reading the same when it is delivered again."""
    return hashlib.blake2b(json.dumps([str(part) for part in key]).encode(), digest_size=16).digest()


def _rounded(frame: pd.DataFrame) -> list[float]:
    return to_resolution(numbers(frame["value"]).to_numpy(), frame["signal"]).tolist()


def instant(microseconds: int) -> pd.Timestamp:
    """The time of a number of microseconds since 1970, UTC."""
    return pd.Timestamp(microseconds, unit="us", tz="UTC").as_unit("us")


def microsecond(time: pd.Timestamp) -> int:
    """The other way round."""
    return int(time.to_datetime64().astype("datetime64[us]").astype(np.int64))


def _microseconds(times: "pd.Series[pd.Timestamp]") -> NDArray[np.int64]:
    return np.asarray(times.to_numpy("datetime64[us]").astype(np.int64))
