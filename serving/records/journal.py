"""The journal: every reading that was accepted, in the order it became durable; who the patients are; what could not be used.

A reading is on the disk before it is acknowledged. What becomes durable together is a group, and groups have a time,
``recorded_at``: when we learned of them. It never goes back and no two groups share it, so whoever has read the journal up to a
time knows that nothing will yet appear before it: features as of a time are those of the groups up to it, today and in a year.
A reading delivered again is recognised by its message and by what it says, and counts once; that it came again is noted.

Patients appear by pseudonym; only :mod:`serving.identity.identities` knows whose each is.
"""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
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
from serving.records.clock import SteadyClock
from serving.records.database import instant, microsecond, open_database, reading, writing
from serving.records.timestamps import not_ahead

logger = logging.getLogger("vigil.serving")

FILE: Final = "journal.db"

Status = Literal["accepted", "duplicate", "quarantined"]

METADATA: Final = sa.MetaData()
PATIENTS: Final = sa.Table(  # what is known of a patient, from when on: rows are added, never changed
    "patients",
    METADATA,
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("patient", sa.String, nullable=False, index=True),
    sa.Column("recorded_at", sa.BigInteger, nullable=False, index=True),  # microseconds UTC, as all times here
    sa.Column("ward", sa.String, nullable=False),
    sa.Column("age", sa.Float),
    sa.Column("sex", sa.Float),
    sa.Column("unit_admitted_at", sa.BigInteger),
    sa.Column("hospital_admitted_at", sa.BigInteger),
    sa.Column("discharged", sa.Boolean, nullable=False),
    sa.Column("pregnant", sa.Boolean),  # null: unknown
)
READINGS: Final = sa.Table(
    "readings",
    METADATA,
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("patient", sa.String, nullable=False),
    sa.Column("signal", sa.String, nullable=False),
    sa.Column("observed_at", sa.BigInteger, nullable=False),
    sa.Column("value", sa.Float, nullable=False),
    sa.Column("recorded_at", sa.BigInteger, nullable=False, index=True),
    sa.Column("device_id", sa.String),
    sa.Column("source", sa.String),
    sa.Column("message", sa.LargeBinary, nullable=False, unique=True),  # digest of MESSAGE_KEY
    sa.UniqueConstraint("patient", "signal", "observed_at", "value"),
)
QUARANTINE: Final = sa.Table(
    "quarantine",
    METADATA,
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("recorded_at", sa.BigInteger, nullable=False, index=True),
    sa.Column("patient", sa.String),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("reading", sa.String, nullable=False),  # JSON, as it came
    sa.Column("digest", sa.LargeBinary, nullable=False, unique=True),  # of all of it: sent again it is put aside once
)
REPEATED: Final = sa.Table(  # what came of a group although it was there already: how often, of whom, from where
    "repeated",
    METADATA,
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("recorded_at", sa.BigInteger, nullable=False, index=True),
    sa.Column("patient", sa.String, nullable=False),
    sa.Column("signal", sa.String, nullable=False),
    sa.Column("device_id", sa.String),
    sa.Column("source", sa.String),
    sa.Column("times", sa.Integer, nullable=False),
)
LATEST: Final = sa.Table(  # of each patient: when the last reading of him was recorded
    "latest",
    METADATA,
    sa.Column("patient", sa.String, primary_key=True),
    sa.Column("recorded_at", sa.BigInteger, nullable=False),
)
_TIME: Final = sa.Table(  # one row: that of the last group
    "time", METADATA, sa.Column("id", sa.Integer, primary_key=True), sa.Column("recorded_at", sa.BigInteger, nullable=False)
)
DROPPED: Final = sa.Table(  # what retention took away, and when: readings recorded before a time count no more from that row on
    "dropped",
    METADATA,
    sa.Column("recorded_at", sa.BigInteger, primary_key=True),
    sa.Column("before", sa.BigInteger, nullable=False),
    sa.Column("readings", sa.Integer, nullable=False),
)
_RECORDED: Final = (READINGS, PATIENTS, QUARANTINE, REPEATED, LATEST, DROPPED)  # what has a time of recording
_CLOCK_SLACK_US: Final = 60_000_000
_CHUNK: Final = 500  # values in a query
_REPEATS: Final = ("duplicate_message", "duplicate_reading")
# Asked before every risk, so it is put together once.
_LATEST_OF: Final = sa.select(LATEST.c.patient, LATEST.c.recorded_at).where(
    LATEST.c.patient.in_(sa.bindparam("patients", expanding=True))
)


@dataclass(frozen=True, slots=True)
class Received:
    """What became of a reading. ``reason``: why it was quarantined, a key of :data:`features.observations.REASONS`."""

    status: Status
    reason: str | None = None


class Journal:
    """The journal of one home. Writers wait for each other; readers for nobody.

    Attributes:
        engine: the database, for reading.
    """

    def __init__(self, home: Path, clock: Callable[[], datetime] | None = None) -> None:
        self.engine = open_database(home / FILE, METADATA)
        self._clock = clock or SteadyClock()
        self._is_ahead = False
        self._watch: Any = None
        self._seen: int | None = None

    def append(self, readings: Sequence[Mapping[str, Any]], first: Callable[[], object] = lambda: None) -> list[Received]:
        """Keep a group of readings; they are on the disk when this returns.

        Args:
            readings: ``subject_id`` (a pseudonym), ``signal, value, unit, observed_at`` (an instant, or None where it could not
                be read), ``device_id, source, message_id``;
                ``sent``, if given: fields as they came, for the quarantine.
            first: what must be on the disk before; done while nobody else writes here.

        Returns:
            What became of each, in order.

        Raises:
            DatabaseError: nothing was kept.
        """
        if not readings:
            return []
        with writing(self.engine) as connection:
            first()
            return _append(connection, pd.DataFrame.from_records(readings), self._next(connection))

    def register(self, patients: Sequence[Mapping[str, Any]], first: Callable[[], object] = lambda: None) -> None:
        """Keep what is known of patients from now on: the columns of :data:`PATIENTS`, without number and time.

        ``first``: as for :meth:`append`.

        Raises:
            DatabaseError: nothing was kept.
        """
        with writing(self.engine) as connection:
            first()
            at = microsecond(self._next(connection))
            connection.execute(PATIENTS.insert(), [{**facts, "recorded_at": at} for facts in patients])

    def drop(self, before: pd.Timestamp) -> tuple[int, int]:
        """From now on readings recorded before a time count no more, nor what was said of patients then.

        In one transaction, so that whoever makes features sees all of it or nothing. The readings are still to be deleted,
        which takes longer. What was last said before that time of a patient who has readings since stays: they need it.

        Returns:
            How many readings, and how many rows of patients; those are deleted already.
        """
        time = microsecond(before)
        old = PATIENTS.c.recorded_at < time
        last_said = sa.select(sa.func.max(PATIENTS.c.seq)).where(old).group_by(PATIENTS.c.patient)
        since = sa.exists().where(READINGS.c.patient == PATIENTS.c.patient, READINGS.c.recorded_at >= time)
        with writing(self.engine) as connection:
            count = sa.select(sa.func.count()).select_from(READINGS).where(READINGS.c.recorded_at < time)
            readings = int(connection.execute(count).scalar_one())
            connection.execute(LATEST.delete().where(LATEST.c.recorded_at < time))
            patients = connection.execute(PATIENTS.delete().where(old, ~(PATIENTS.c.seq.in_(last_said) & since))).rowcount
            if readings or patients:
                at = microsecond(self._next(connection))
                connection.execute(DROPPED.insert().values(recorded_at=at, before=time, readings=readings))
        return readings, patients

    def tick(self) -> pd.Timestamp:
        """The present, as a time that no group was recorded after and none will be recorded before."""
        with writing(self.engine) as connection:
            return self._next(connection)

    def settle(self) -> int | None:
        """Record anew, in the same order, what was recorded while the clock was ahead: just before the present.

        Returns:
            Time of the last group that was recorded rightly, microseconds, 0 where there is none; None: nothing was ahead.
        """
        with writing(self.engine) as connection:
            now = microsecond(pd.Timestamp(self._clock()))
            last = connection.execute(sa.select(_TIME.c.recorded_at)).scalar()
            if last is None or last <= now:
                return None
            union = sa.union(*(sa.select(table.c.recorded_at) for table in _RECORDED))
            recorded = connection.execute(union).scalars().all()
            ahead = sorted(at for at in recorded if at > now)
            right = max((at for at in recorded if at <= now), default=0)
            begin = max(now - len(ahead), right)
            for place, at in enumerate(ahead, start=1):
                for table in _RECORDED:
                    connection.execute(table.update().where(table.c.recorded_at == at).values(recorded_at=begin + place))
            connection.execute(_TIME.update().values(recorded_at=begin + len(ahead)))
        return right

    def changed(self) -> bool:
        """Whether anything was written since this was asked last; costs next to nothing. For one thread."""
        if self._watch is None:
            self._watch = self.engine.raw_connection()  # outside of any transaction, which would see nothing new
        version = self._watch.cursor().execute("PRAGMA data_version").fetchone()[0]
        before, self._seen = self._seen, version
        return bool(version != before)

    def latest(self) -> int | None:
        """Time of the last group, microseconds."""
        with reading(self.engine) as connection:
            return connection.execute(sa.select(_TIME.c.recorded_at)).scalar()

    def latest_of(self, patients: Sequence[str]) -> dict[str, int]:
        """When the last reading of each patient was recorded, microseconds; of those it has some of."""
        with reading(self.engine) as connection:
            return {row.patient: row.recorded_at for row in connection.execute(_LATEST_OF, {"patients": patients})}

    def waiting_since(self, time: int) -> pd.Timestamp | None:
        """When the first group after a time, microseconds, was recorded; None: there is none."""
        first = [
            sa.select(sa.func.min(table.c.recorded_at)).where(table.c.recorded_at > time) for table in (READINGS, PATIENTS)
        ]
        with reading(self.engine) as connection:
            found = [at for query in first if (at := connection.execute(query).scalar()) is not None]
        return instant(min(found)) if found else None

    def _next(self, connection: sa.Connection) -> pd.Timestamp:
        """When the group that is written now is recorded: now, but never before, nor with, those that are there.

        Where the clock was ahead, what comes is recorded right after that: readings look older than they are, but none is lost,
        and :meth:`settle` puts the times right.
        """
        last = connection.execute(sa.select(_TIME.c.recorded_at)).scalar()
        now = microsecond(pd.Timestamp(self._clock()))
        ahead = 0 if last is None else last - now
        is_ahead = ahead > _CLOCK_SLACK_US
        if is_ahead and not self._is_ahead:  # said once
            logger.error(
                "%s: the last reading is recorded %.0f s ahead of the clock, so readings look older than they are; if the "
                "clock is right: vigil clock --settle",
                FILE,
                ahead / 1e6,
            )
        self._is_ahead = is_ahead
        at = now if last is None else max(now, last + 1)
        connection.execute(sqlite.insert(_TIME).values(id=1, recorded_at=at).on_conflict_do_update(set_={"recorded_at": at}))
        return instant(at)


def _append(connection: sa.Connection, frame: pd.DataFrame, recorded_at: pd.Timestamp) -> list[Received]:
    last_seq = connection.execute(sa.select(sa.func.max(READINGS.c.seq))).scalar() or 0
    observed_at = frame["observed_at"].astype(TIME)
    arrived = frame.assign(
        message_id=[_digest(row) for row in frame[MESSAGE_KEY].itertuples(index=False)],
        observed_at=not_ahead(observed_at, recorded_at),
        recorded_at=pd.Series(recorded_at, index=frame.index, dtype=TIME),
        row=np.arange(len(frame)),
    )
    checked = check(arrived, recorded_at)
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
    again = [place for place, result in enumerate(results) if result.status == "duplicate"]
    _count_again(connection, frame.iloc[again], recorded_at)
    put_aside = [place for place, result in enumerate(results) if result.status == "quarantined"]
    _quarantine(connection, frame.iloc[put_aside], [results[place].reason for place in put_aside], recorded_at)
    return results


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
    rows: list[Any] = pd.DataFrame(columns).to_dict("records")
    connection.execute(sqlite.insert(READINGS).on_conflict_do_nothing(), rows)
    row = sqlite.insert(LATEST)
    later = row.on_conflict_do_update(index_elements=["patient"], set_={"recorded_at": row.excluded.recorded_at})
    latest = {entry["patient"]: entry["recorded_at"] for entry in rows}
    connection.execute(later, [{"patient": patient, "recorded_at": at} for patient, at in latest.items()])


def _count_again(connection: sa.Connection, readings: pd.DataFrame, at: pd.Timestamp) -> None:
    """Deliveries that said nothing new are not kept, but counted: a gateway that sends everything twice is broken."""
    if readings.empty:
        return
    what = readings[["subject_id", "signal", "device_id", "source"]].itertuples(index=False, name=None)
    times = Counter(tuple(None if pd.isna(part) else part for part in key) for key in what)
    columns = ("patient", "signal", "device_id", "source")
    rows = [{**dict(zip(columns, key, strict=True)), "recorded_at": microsecond(at), "times": n} for key, n in times.items()]
    connection.execute(REPEATED.insert(), rows)


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
    rows = []
    for sent, reason in zip(readings.to_dict("records"), reasons, strict=True):
        patient = sent.pop("subject_id")
        text = json.dumps(sent | sent.pop("sent", {}), default=str)
        about = {"recorded_at": microsecond(at), "patient": patient, "reason": reason}
        rows.append({**about, "reading": text, "digest": _digest([patient, reason, text])})
    if rows:
        connection.execute(sqlite.insert(QUARANTINE).on_conflict_do_nothing(), rows)


def _digest(key: Iterable[Any]) -> bytes:
    """Of the parts of a message that make a reading the same when it is delivered again."""
    return hashlib.blake2b(json.dumps([str(part) for part in key]).encode(), digest_size=16).digest()


def _rounded(frame: pd.DataFrame) -> list[float]:
    rounded: list[float] = to_resolution(numbers(frame["value"]).to_numpy(), frame["signal"]).tolist()
    return rounded


def _microseconds(times: "pd.Series[pd.Timestamp]") -> NDArray[np.int64]:
    return np.asarray(times.to_numpy("datetime64[us]").astype(np.int64))
