"""The journal: every accepted observation in the order it became durable, who the subjects are, and what was quarantined.

An observation is on the disk before it is acknowledged. What becomes durable together is a group, and every group has a time,
``recorded_at``. That time never goes back and no two groups share it. So a reader who has read up to a time knows that nothing
will appear before it later: features as of a time are those of the groups up to it, today and in a year. An observation that
arrives again is recognised by its message and by its content. It counts once, and the repetition is counted.

Subjects appear by their key; only :mod:`serving.identity.identities` knows their identifiers.
"""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
import sqlalchemy as sa

from features.declarations import UNDECLARED, Declarations
from features.observations import MESSAGE_KEY, TIME, check
from serving.records.clock import SteadyClock
from serving.records.database import (
    ChangeWatch,
    Schema,
    delete_in_steps,
    insert_new,
    open_database,
    reading,
    upsert,
    with_retries,
    writing,
)
from serving.records.journal_snapshot import JournalSnapshot
from serving.records.journal_tables import (
    GROUP_TIME,
    LATEST,
    METADATA,
    OBSERVATIONS,
    QUARANTINE,
    RECORDED,
    REGISTRATIONS,
    REPETITIONS,
    RETENTIONS,
)
from serving.records.registration import Registration
from serving.records.timestamps import instant, microsecond, microseconds, not_ahead

logger = logging.getLogger("vigil.serving")

SCHEMA: Final = Schema("journal", METADATA, revision="0002")
UNASSIGNED: Final = ""  # the ward of subjects that are not registered

Status = Literal["accepted", "duplicate", "quarantined"]

_CLOCK_SLACK_US: Final = 60_000_000
_CHUNK: Final = 500  # values in a query
_REPEATS: Final = ("duplicate_message", "duplicate_reading")
# Executed before every risk, so it is compiled once.
_LATEST_OF: Final = sa.select(LATEST.c.subject_id, LATEST.c.recorded_at).where(
    LATEST.c.subject_id.in_(sa.bindparam("subjects", expanding=True))
)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of an observation. ``reason``: why it was quarantined, a key of :data:`features.observations.REASONS`."""

    status: Status
    reason: str | None = None


class Journal:
    """The journal of one home. Writers wait for each other; readers wait for no one."""

    def __init__(self, home: Path, clock: Callable[[], datetime] | None = None) -> None:
        self._engine = open_database(home, SCHEMA)
        self._clock = clock or SteadyClock()
        self._is_ahead = False
        self._watch = ChangeWatch(self._engine)

    def append(self, group: Callable[[], Sequence[Mapping[str, Any]]], declared: Declarations = UNDECLARED) -> list[Receipt]:
        """Store a group of observations; they are on the disk when this returns.

        Args:
            group: returns the observations; called inside the transaction, before anything is written. Each has ``subject_id,
                signal, value, unit, observed_at`` (None where it could not be read), ``device_id, source, message_id``, and
                perhaps ``sent``: the fields as the sender wrote them, for the quarantine.
            declared: what sources declare of their units.

        Returns:
            What became of each, in order.

        Raises:
            DatabaseError: nothing was stored.
        """
        with writing(self._engine) as connection:
            observations = group()
            if not observations:
                return []
            return _append(connection, pd.DataFrame.from_records(observations), self._next_time(connection), declared)

    def register(self, registrations: Sequence[Registration], first: Callable[[], object] = lambda: None) -> None:
        """Store what is known of subjects from now on. ``first`` is called inside the transaction, before anything is written.

        Raises:
            DatabaseError: nothing was stored.
        """
        with writing(self._engine) as connection:
            first()
            at = microsecond(self._next_time(connection))
            connection.execute(REGISTRATIONS.insert(), [{**asdict(row), "recorded_at": at} for row in registrations])

    def tick(self) -> pd.Timestamp:
        """Return the present, as a time after all groups so far and before all that will follow."""
        with writing(self._engine) as connection:
            return self._next_time(connection)

    def has_changed(self) -> bool:
        """Return whether another connection wrote since the last call. For one thread."""
        return self._watch.has_changed()

    @contextmanager
    def snapshot(self) -> Iterator[JournalSnapshot]:
        """Open the journal as it stands at one moment, for reading."""
        with reading(self._engine) as connection:
            yield JournalSnapshot(connection)

    def latest(self) -> int | None:
        """Return the time of the last group, microseconds."""
        with reading(self._engine) as connection:
            return connection.execute(sa.select(GROUP_TIME.c.recorded_at)).scalar()

    def latest_of(self, subjects: Sequence[str]) -> dict[str, int]:
        """Return when the last observation of each subject was recorded, microseconds; subjects without one are left out."""
        with reading(self._engine) as connection:
            return {row.subject_id: row.recorded_at for row in connection.execute(_LATEST_OF, {"subjects": subjects})}

    def waiting_since(self, time: int) -> pd.Timestamp | None:
        """Return when the first group after a time (microseconds) was recorded; None: there is none."""
        first = [
            sa.select(sa.func.min(table.c.recorded_at)).where(table.c.recorded_at > time)
            for table in (OBSERVATIONS, REGISTRATIONS)
        ]
        with reading(self._engine) as connection:
            times = [at for query in first if (at := connection.execute(query).scalar()) is not None]
        return instant(min(times)) if times else None

    def wards_of(self, subjects: Iterable[str]) -> dict[str, str]:
        """Return the ward of each subject; :data:`UNASSIGNED` for those that are not registered."""
        wanted = list(dict.fromkeys(subjects))
        latest = (
            sa.select(sa.func.max(REGISTRATIONS.c.seq))
            .where(REGISTRATIONS.c.subject_id.in_(wanted))
            .group_by(REGISTRATIONS.c.subject_id)
        )
        query = sa.select(REGISTRATIONS.c.subject_id, REGISTRATIONS.c.ward).where(REGISTRATIONS.c.seq.in_(latest))
        with reading(self._engine) as connection:
            return dict.fromkeys(wanted, UNASSIGNED) | {row.subject_id: row.ward for row in connection.execute(query)}

    def has_ward(self, ward: str) -> bool:
        """Return whether a subject was ever registered in a ward, as far as the journal goes back."""
        query = sa.select(REGISTRATIONS.c.seq).where(REGISTRATIONS.c.ward == ward).limit(1)
        with reading(self._engine) as connection:
            return connection.execute(query).first() is not None

    def registered_since(self, subjects: Iterable[str], time: pd.Timestamp) -> set[str]:
        """Return those of some subjects that were registered at or after a time."""
        query = sa.select(REGISTRATIONS.c.subject_id).where(
            REGISTRATIONS.c.subject_id.in_(sorted(subjects)), REGISTRATIONS.c.recorded_at >= microsecond(time)
        )
        with reading(self._engine) as connection:
            return set(connection.execute(query).scalars())

    def settle_clock(self) -> int | None:
        """Record again, in the same order and just before the present, what was recorded while the clock was ahead.

        Returns:
            Time of the last group that was recorded correctly, microseconds, 0 if there is none; None: nothing was ahead.
        """
        with writing(self._engine) as connection:
            now = microsecond(pd.Timestamp(self._clock()))
            last = connection.execute(sa.select(GROUP_TIME.c.recorded_at)).scalar()
            if last is None or last <= now:
                return None
            union = sa.union(*(sa.select(table.c.recorded_at) for table in RECORDED))
            recorded = connection.execute(union).scalars().all()
            ahead = sorted(at for at in recorded if at > now)
            correct = max((at for at in recorded if at <= now), default=0)
            begin = max(now - len(ahead), correct)
            for position, at in enumerate(ahead, start=1):
                for table in RECORDED:
                    connection.execute(table.update().where(table.c.recorded_at == at).values(recorded_at=begin + position))
            connection.execute(GROUP_TIME.update().values(recorded_at=begin + len(ahead)))
        return correct

    def drop_before(self, time: pd.Timestamp) -> int:
        """Let observations recorded before a time count no more, and delete the registrations of then.

        It is one transaction, so that features are made of all of it or of nothing. The observations are deleted afterwards
        (:meth:`delete_before`), which takes longer. The last registration before that time stays where the subject has
        observations since, which need it.

        Returns:
            How many registrations were deleted.
        """
        at = microsecond(time)
        old = REGISTRATIONS.c.recorded_at < at
        last_known = sa.select(sa.func.max(REGISTRATIONS.c.seq)).where(old).group_by(REGISTRATIONS.c.subject_id)
        observed_since = sa.exists().where(
            OBSERVATIONS.c.subject_id == REGISTRATIONS.c.subject_id, OBSERVATIONS.c.recorded_at >= at
        )

        def drop() -> int:
            with writing(self._engine) as connection:
                count = sa.select(sa.func.count()).select_from(OBSERVATIONS).where(OBSERVATIONS.c.recorded_at < at)
                observations = int(connection.execute(count).scalar_one())
                connection.execute(LATEST.delete().where(LATEST.c.recorded_at < at))
                superfluous = old & ~(REGISTRATIONS.c.seq.in_(last_known) & observed_since)
                registrations = connection.execute(REGISTRATIONS.delete().where(superfluous)).rowcount
                if observations or registrations:
                    dropped_at = microsecond(self._next_time(connection))
                    connection.execute(RETENTIONS.insert().values(recorded_at=dropped_at, before=at, observations=observations))
            return registrations

        return with_retries(drop)

    def delete_before(self, time: pd.Timestamp) -> dict[str, int]:
        """Delete observations, quarantined ones and repetitions recorded before a time; return how many of each table."""
        at = microsecond(time)
        return {
            table.name: delete_in_steps(self._engine, table, table.c.recorded_at < at)
            for table in (OBSERVATIONS, QUARANTINE, REPETITIONS)
        }

    def forget(self, subjects: Sequence[str], delete: Callable[[list[str]], int]) -> int:
        """Call a function with those of some subjects of which the journal holds nothing; return what it returns.

        The journal is locked meanwhile. An identity is stored under the same lock before an observation, so no subject comes
        back in between.
        """

        def forget_unknown() -> int:
            with writing(self._engine) as connection:
                known: set[str] = set()
                for table in (OBSERVATIONS, REGISTRATIONS, QUARANTINE, REPETITIONS):
                    query = sa.select(table.c.subject_id).distinct().where(table.c.subject_id.in_(subjects))
                    known |= set(connection.execute(query).scalars())
                return delete([subject for subject in subjects if subject not in known])

        return with_retries(forget_unknown)

    def _next_time(self, connection: sa.Connection) -> pd.Timestamp:
        """Return when the group that is written now is recorded: now, but never before nor with an earlier group.

        Where the clock was ahead, new groups are recorded right after those. Observations look older than they are, but none is
        lost, and :meth:`settle_clock` corrects the times.
        """
        last = connection.execute(sa.select(GROUP_TIME.c.recorded_at)).scalar()
        now = microsecond(pd.Timestamp(self._clock()))
        ahead = 0 if last is None else last - now
        is_ahead = ahead > _CLOCK_SLACK_US
        if is_ahead and not self._is_ahead:  # logged when it begins, not at every group
            logger.error(
                "%s: the last observation is recorded %.0f s ahead of the clock, so observations look older than they are; if "
                "the clock is right: vigil clock --settle",
                SCHEMA.file,
                ahead / 1e6,
            )
        self._is_ahead = is_ahead
        at = now if last is None else max(now, last + 1)
        upsert(connection, GROUP_TIME, [{"id": 1, "recorded_at": at}])
        return instant(at)


def _append(connection: sa.Connection, frame: pd.DataFrame, recorded_at: pd.Timestamp, declared: Declarations) -> list[Receipt]:
    last_seq = connection.execute(sa.select(sa.func.max(OBSERVATIONS.c.seq))).scalar() or 0
    observed_at = frame["observed_at"].astype(TIME)
    arrived = frame.assign(
        message_id=[_digest(row) for row in frame[MESSAGE_KEY].itertuples(index=False)],
        observed_at=not_ahead(observed_at, recorded_at),
        recorded_at=pd.Series(recorded_at, index=frame.index, dtype=TIME),
        row=np.arange(len(frame)),
    )
    checked = check(arrived, recorded_at, declared)
    _insert_accepted(connection, checked.accepted)
    stored = _stored(connection, arrived["message_id"])
    unusable = dict(zip(checked.quarantined["row"], checked.quarantined["reason"], strict=True))
    receipts = []
    for row, (message, value) in enumerate(zip(arrived["message_id"], checked.converted.tolist(), strict=True)):
        reason = unusable.get(row)
        seq, stored_value = stored.get(message, (0, value))  # not stored: another message had the same content
        if reason is not None and reason not in _REPEATS:
            receipts.append(Receipt("quarantined", reason))
        elif value != stored_value:
            receipts.append(Receipt("quarantined", "duplicate_message"))
        else:
            receipts.append(Receipt("accepted" if seq > last_seq and reason is None else "duplicate"))
    repeated = [row for row, receipt in enumerate(receipts) if receipt.status == "duplicate"]
    _count_repetitions(connection, frame.iloc[repeated], recorded_at)
    unused = [row for row, receipt in enumerate(receipts) if receipt.status == "quarantined"]
    _quarantine(connection, frame.iloc[unused], [receipts[row].reason for row in unused], recorded_at)
    return receipts


def _insert_accepted(connection: sa.Connection, accepted: pd.DataFrame) -> None:
    if accepted.empty:
        return
    columns = {
        "subject_id": accepted["subject_id"],
        "signal": accepted["signal"],
        "observed_at": microseconds(accepted["observed_at"]),
        "value": accepted["value"],
        "recorded_at": microseconds(accepted["recorded_at"]),
        "device_id": accepted["device_id"],
        "source": accepted["source"],
        "message": accepted["message_id"],
    }
    rows: list[Any] = pd.DataFrame(columns).to_dict("records")
    insert_new(connection, OBSERVATIONS, rows)
    latest = {row["subject_id"]: row["recorded_at"] for row in rows}
    upsert(connection, LATEST, [{"subject_id": subject, "recorded_at": at} for subject, at in latest.items()])


def _count_repetitions(connection: sa.Connection, observations: pd.DataFrame, at: pd.Timestamp) -> None:
    """Count observations that were stored before: a gateway that sends everything twice is broken."""
    if observations.empty:
        return
    columns = ("subject_id", "signal", "device_id", "source")
    keys = observations[list(columns)].itertuples(index=False, name=None)
    times = Counter(tuple(None if pd.isna(part) else part for part in key) for key in keys)
    rows = [{**dict(zip(columns, key, strict=True)), "recorded_at": microsecond(at), "times": n} for key, n in times.items()]
    connection.execute(REPETITIONS.insert(), rows)


def _stored(connection: sa.Connection, messages: "pd.Series[bytes]") -> dict[bytes, tuple[int, float]]:
    """Return number and value of the stored observations, by message."""
    wanted = messages.drop_duplicates().tolist()
    stored: dict[bytes, tuple[int, float]] = {}
    for first in range(0, len(wanted), _CHUNK):
        chunk = OBSERVATIONS.c.message.in_(wanted[first : first + _CHUNK])
        rows = connection.execute(sa.select(OBSERVATIONS.c.message, OBSERVATIONS.c.seq, OBSERVATIONS.c.value).where(chunk))
        stored |= {row.message: (row.seq, row.value) for row in rows}
    return stored


def _quarantine(connection: sa.Connection, observations: pd.DataFrame, reasons: Iterable[str | None], at: pd.Timestamp) -> None:
    rows = []
    for sent, reason in zip(observations.to_dict("records"), reasons, strict=True):
        subject = sent.pop("subject_id")
        text = json.dumps(sent | sent.pop("sent", {}), default=str)
        row = {"recorded_at": microsecond(at), "subject_id": subject, "reason": reason}
        rows.append({**row, "observation": text, "digest": _digest([subject, reason, text])})
    insert_new(connection, QUARANTINE, rows)


def _digest(key: Iterable[Any]) -> bytes:
    """Return the digest of those parts of a message that make an observation the same when it arrives again."""
    return hashlib.blake2b(json.dumps([str(part) for part in key]).encode(), digest_size=16).digest()
