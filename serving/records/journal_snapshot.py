"""The journal as it stands at one moment, for those who make features or look for faults.

Subjects are survivors of merges (:mod:`vigil.serving.records.merges`): what is recorded of a merged key appears as its
survivor's, from the merge on. Here is the one place that applies merges; features, reproduction and drift follow without
knowing of them.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
import sqlalchemy as sa

from vigil.features.duplicates import CONTENT
from vigil.models.alarms.critical_bounds import Bound
from vigil.models.alarms.patient_terms import PatientTerms
from vigil.serving.records.journal_arrivals import Arrival, read_arrivals, read_newest_arrivals
from vigil.serving.records.journal_exports import JournalExport
from vigil.serving.records.journal_inputs import Input, count_inputs, read_newest_inputs
from vigil.serving.records.journal_intervals import recorded_between
from vigil.serving.records.journal_lookups import (
    Latest,
    counting,
    read_arrived_bounds,
    read_bounds,
    read_latest,
    read_standing_bounds,
)
from vigil.serving.records.journal_merges import read_merges
from vigil.serving.records.journal_readings import (
    Interval,
    StoredReading,
    Wanted,
    count_patients,
    find_at,
    find_rows,
    is_retracted,
    read_page,
    read_registrations,
)
from vigil.serving.records.journal_tables import (
    MERGES,
    OBSERVATION_ROWS,
    OBSERVATIONS,
    QUARANTINE,
    REGISTRATIONS,
    REPETITIONS,
    RETENTIONS,
    REVISIONS,
    TERMS,
)
from vigil.serving.records.journal_terms import read_ended_terms, read_termed, read_terms
from vigil.serving.records.merges import Merges, Move
from vigil.serving.records.registration import RecordedRegistration
from vigil.serving.records.timestamps import instants

_UNREAD: Final = ("message", "origin", "version", "superseded_at")
_SENT: Final = ["signal", "value", "comparator", "observed_at", "device_id", "source"]


class Superseded(NamedTuple):
    """Times of an observation in whose place a newer version counts, or nothing; microseconds."""

    observed_at: int
    recorded_at: int


class JournalSnapshot:
    """One read transaction. All times are microseconds, and intervals hold their later end but not their earlier one."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def end_of_groups(self, after: int, until: int, most: int) -> int | None:
        """Return the time of the group that holds the last of the next ``most`` observations; a group is never divided.

        None: there is no group in the interval.
        """
        rows = OBSERVATION_ROWS
        new = sa.select(rows.c.recorded_at).where(recorded_between(after + 1, until, rows))
        some = new.order_by(rows.c.seq).limit(most).subquery()
        last, number = self._connection.execute(sa.select(sa.func.max(some.c.recorded_at), sa.func.count())).one()
        if number == most:
            return int(last)
        others = [
            self._connection.execute(
                sa.select(sa.func.max(table.c.recorded_at)).where(table.c.recorded_at.between(after + 1, until))
            ).scalar()
            for table in (REGISTRATIONS, REVISIONS, MERGES, TERMS)
        ]
        ends = [end for end in (last, *others) if end is not None]
        return max(ends) if ends else None

    def observations(self, after: int, until: int, subject: str | None = None) -> pd.DataFrame:
        """Return accepted observations by time of recording, of all subjects or of one, as they counted at ``until``.

        Of one subject it is all until then, and ``recorded_at`` is the time from which on each counts for the subject, which
        may be that of a merge. Of all subjects it is what was recorded in the interval, at that time. Of the same observation
        under several keys of one subject the first counts. Those that retention dropped are left out, even while it is still
        deleting them.
        """
        if subject is None:
            rows = self._frame(_OF_ALL, {"since": after + 1, "until": until})
            merges = read_merges(self._connection, rows["subject_id"].unique(), until)
            rows = self._only_first(rows, merges, until)
        else:
            merges = read_merges(self._connection, [subject], until)
            rows = _of_survivors(self._frame(_OF_KEYS, {"keys": merges.keys(subject), "until": until}), merges)
        return rows.assign(observed_at=instants(rows["observed_at"]), recorded_at=instants(rows["recorded_at"]))

    def keys(self, subject: str) -> list[str]:
        """Return the keys that count for a subject now."""
        return read_merges(self._connection, [subject]).keys(subject)

    def readings(self, wanted: Wanted, after: int | None, most: int) -> list[StoredReading]:
        """Return the next readings that count (:func:`read_page`)."""
        return read_page(self._connection, wanted, after, most)

    def rows(self, numbers: Sequence[int]) -> list[StoredReading]:
        """Return readings by their numbers (:func:`find_rows`)."""
        return find_rows(self._connection, numbers)

    def readings_at(self, keys: Sequence[str], times: Sequence[int]) -> list[StoredReading]:
        """Return the readings that were observed at some times (:func:`find_at`)."""
        return find_at(self._connection, keys, times)

    def is_retracted(self, reading: StoredReading) -> bool:
        """Return whether a reading was retracted (:func:`is_retracted`)."""
        return is_retracted(self._connection, reading)

    def registrations(
        self, wards: Sequence[str] | None, recorded: Interval, after: int, most: int
    ) -> list[tuple[int, RecordedRegistration]]:
        """Return the present registrations of subjects (:func:`read_registrations`)."""
        return read_registrations(self._connection, wards, recorded, after, most)

    def patients_by_ward(self) -> dict[str, int]:
        """Return how many patients are in each ward now (:func:`count_patients`)."""
        return count_patients(self._connection)

    def export(self, wards: Collection[str] | None, since: int | None, until: int) -> JournalExport:
        """Return what an export tells (:class:`JournalExport`)."""
        return JournalExport(self._connection, wards, since, until)

    def arrivals(self, after: int, until: int) -> list[Arrival]:
        """Return the originals recorded in an interval, in that order (:func:`read_arrivals`)."""
        return read_arrivals(self._connection, after, until)

    def newest_arrivals(self, subject: str, after: int, until: int) -> list[Arrival]:
        """Return the newest originals of each signal of a subject, recorded in an interval (:func:`read_newest_arrivals`)."""
        return read_newest_arrivals(self._connection, subject, after, until)

    def latest(self, times: Mapping[str, int]) -> dict[str, Mapping[str, Latest]]:
        """Return the latest value of each NEWS2 component, by subject and signal, with who sent it (:func:`read_latest`)."""
        return read_latest(self._connection, times)

    def newest_inputs(self, subject: str, since: int, until: int) -> list[Input]:
        """Return the latest observation of each signal of a subject that counted (:func:`read_newest_inputs`)."""
        return read_newest_inputs(self._connection, subject, since, until)

    def count_inputs(self, subject: str, since: int, until: int) -> int:
        """Return how many observations of a subject counted (:func:`count_inputs`)."""
        return count_inputs(self._connection, subject, since, until)

    def arrived_bounds(self, after: int, until: int) -> dict[str, list[Bound]]:
        """Return the bounds recorded in an interval, by subject (:func:`read_arrived_bounds`)."""
        return read_arrived_bounds(self._connection, after, until)

    def bounds(self, subject: str, after: int, until: int) -> list[Bound]:
        """Return the bounds of a subject observed in an interval (:func:`read_bounds`)."""
        return read_bounds(self._connection, subject, after, until)

    def standing_bounds(self, times: Mapping[str, int]) -> dict[str, tuple[Bound, ...]]:
        """Return the bounds that stand for subjects, each at a time of its own (:func:`read_standing_bounds`)."""
        return read_standing_bounds(self._connection, times)

    def terms(self, times: Mapping[str, int]) -> dict[str, PatientTerms]:
        """Return the terms of patients that hold, each at a time of its own (:func:`read_terms`)."""
        return read_terms(self._connection, times)

    def termed(self, after: int, until: int) -> dict[str, int]:
        """Return the subjects of which terms were recorded in an interval (:func:`read_termed`)."""
        return read_termed(self._connection, after, until)

    def ended_terms(self, after: int, until: int) -> set[str]:
        """Return the subjects of which terms ended in an interval (:func:`read_ended_terms`)."""
        return read_ended_terms(self._connection, after, until)

    def registered(self, after: int, until: int) -> dict[str, int]:
        """Return the subjects that were registered in an interval, and the time of the last registration of each."""
        query = sa.select(REGISTRATIONS.c.subject_id, REGISTRATIONS.c.recorded_at)
        rows = self._connection.execute(query.where(REGISTRATIONS.c.recorded_at.between(after + 1, until)))
        return {row.subject_id: row.recorded_at for row in rows}

    def registration(self, subject: str, until: int) -> RecordedRegistration | None:
        """Return the last registration of a subject up to a time."""
        columns = [REGISTRATIONS.c[field.name] for field in fields(RecordedRegistration)]
        query = sa.select(*columns).where(REGISTRATIONS.c.subject_id == subject, REGISTRATIONS.c.recorded_at <= until)
        row = self._connection.execute(query.order_by(REGISTRATIONS.c.seq.desc()).limit(1)).first()
        return None if row is None else RecordedRegistration(*row)

    def moves(self, after: int, until: int) -> list[Move]:
        """Return what the merges and unmerges of an interval do, in order."""
        query = sa.select(MERGES.c.subject_id).where(MERGES.c.recorded_at.between(after + 1, until))
        merges = read_merges(self._connection, self._connection.execute(query).scalars(), until)
        return [move for move in merges.moves if move.recorded_at > after]

    def merged_into(self, subject: str, until: int) -> str | None:
        """Return the subject that a merged one counts for; None: it is not merged."""
        survivor = read_merges(self._connection, [subject], until).survivor(subject)
        return None if survivor == subject else survivor

    def revised(self, after: int, until: int) -> dict[str, int]:
        """Return the subjects with a correction, retraction, merge or unmerge in an interval, and the time of the first."""
        first = sa.select(REVISIONS.c.subject_id, sa.func.min(REVISIONS.c.recorded_at))
        wanted = first.where(REVISIONS.c.recorded_at.between(after + 1, until)).group_by(REVISIONS.c.subject_id)
        rows = self._connection.execute(wanted).all()
        merges = read_merges(self._connection, [row[0] for row in rows], until)
        times = [(merges.survivor(subject), at) for subject, at in rows]
        for move in self.moves(after, until):
            times += [(move.origin, move.recorded_at), (move.target, move.recorded_at)]
        return dict(sorted(times, key=lambda row: -row[1]))  # of several the earliest stays

    def superseded(self, after: int, until: int) -> dict[str, list[Superseded]]:
        """Return the observations that ceased to count for a subject in an interval, by subject.

        They were corrected or retracted, or an unmerge took them away.
        """
        columns = [OBSERVATIONS.c[name] for name in ("subject_id", "observed_at", "recorded_at")]
        rows = self._connection.execute(sa.select(*columns).where(OBSERVATIONS.c.superseded_at.between(after + 1, until))).all()
        merges = read_merges(self._connection, {row.subject_id for row in rows}, until)
        found: dict[str, list[Superseded]] = {}
        for subject, observed_at, recorded_at in rows:
            known_at = max(recorded_at, merges.since(subject))
            found.setdefault(merges.survivor(subject), []).append(Superseded(observed_at, known_at))
        for move in self.moves(after, until):
            if self.merged_into(move.origin, until) is None:
                found.setdefault(move.origin, []).extend(self._taken_away(move))
        return found

    def last_change(self, subject: str, until: int) -> int:
        """Return when the last correction, retraction, merge, unmerge or terms of a subject were recorded; 0: never."""
        merges = read_merges(self._connection, [subject], until)
        keys = merges.keys(subject)
        last = [
            sa.select(sa.func.max(table.c.recorded_at)).where(table.c.subject_id.in_(keys), table.c.recorded_at <= until)
            for table in (REVISIONS, TERMS)
        ]
        return max(merges.last_move(subject), *(self._connection.execute(query).scalar() or 0 for query in last))

    def recorded_times(self, subject: str, after: int, until: int) -> set[int]:
        """Return the times of the groups in an interval that hold something of a subject."""
        merges = read_merges(self._connection, [subject], until)
        tables: dict[sa.FromClause, sa.ColumnElement[bool]] = {
            OBSERVATIONS: recorded_between(after + 1, until),
            **{table: table.c.recorded_at.between(after + 1, until) for table in (REVISIONS, REGISTRATIONS)},
        }
        queries = [
            sa.select(table.c.recorded_at).where(table.c.subject_id.in_({subject, *merges.keys(subject)}), in_interval)
            for table, in_interval in tables.items()
        ]
        moved = {move.recorded_at for move in merges.moves if after < move.recorded_at <= until}
        return moved | set(self._connection.execute(sa.union(*queries)).scalars())

    def last_retention(self) -> int | None:
        """Return when retention last dropped observations; None: never."""
        return self._connection.execute(sa.select(sa.func.max(RETENTIONS.c.recorded_at))).scalar()

    def quarantined(self, after: int, until: int) -> pd.DataFrame:
        """Return quarantined observations of an interval: ``subject_id, recorded_at, reason`` and the fields as sent."""
        columns = [QUARANTINE.c[name] for name in ("subject_id", "recorded_at", "reason", "observation")]
        rows = self._frame(sa.select(*columns).where(QUARANTINE.c.recorded_at.between(after + 1, until)))
        sent = pd.DataFrame([json.loads(text) for text in rows.pop("observation")], index=rows.index).reindex(columns=_SENT)
        sent["observed_at"] = pd.to_datetime(sent["observed_at"], format="ISO8601", utc=True, errors="coerce")
        return self._named(rows, until).assign(recorded_at=instants(rows["recorded_at"])).join(sent)

    def repetitions(self, after: int, until: int) -> pd.DataFrame:
        """Return repeated observations of an interval, one row each, without a value, as of the time they arrived."""
        rows = self._frame(sa.select(REPETITIONS).where(REPETITIONS.c.recorded_at.between(after + 1, until)))
        rows = self._named(rows, until).loc[rows.index.repeat(rows["times"])]
        recorded_at = instants(rows["recorded_at"])
        return rows.assign(recorded_at=recorded_at, observed_at=recorded_at, reason="duplicate_message", value=np.nan)

    def _only_first(self, rows: pd.DataFrame, merges: Merges, until: int) -> pd.DataFrame:
        """Return rows under the keys of survivors, without those that repeat what was known under another key."""
        if not merges:
            return rows
        survivors = rows["subject_id"].map(merges.survivor)
        groups = [keys for subject in survivors.unique() if len(keys := merges.keys(subject)) > 1]
        if groups:
            keys = [key for group in groups for key in group]
            times = rows.loc[rows["subject_id"].isin(keys), "observed_at"]
            near = OBSERVATIONS.c.subject_id.in_(keys) & OBSERVATIONS.c.observed_at.between(int(times.min()), int(times.max()))
            known = self._frame(_counting(near, until))
            is_first = rows["seq"].isin(_of_survivors(known, merges)["seq"])
            rows = rows[is_first | ~rows["subject_id"].isin(keys)]
        return rows.assign(subject_id=survivors[rows.index])

    def _taken_away(self, move: Move) -> list[Superseded]:
        """Return the observations that counted for a subject until a move took them away."""
        before = move.recorded_at - 1
        merges = read_merges(self._connection, move.keys, before)
        rows = _of_survivors(self._frame(_OF_KEYS, {"keys": sorted(move.keys), "until": before}), merges)
        return [Superseded(*row) for row in zip(rows["observed_at"].tolist(), rows["recorded_at"].tolist(), strict=True)]

    def _named(self, rows: pd.DataFrame, until: int) -> pd.DataFrame:
        """Return rows under the keys of survivors at a time."""
        merges = read_merges(self._connection, rows["subject_id"].dropna().unique(), until)
        return rows.assign(subject_id=rows["subject_id"].map(merges.survivor, na_action="ignore"))

    def _frame(
        self, query: "sa.Select[Any] | sa.CompoundSelect[Any]", values: Mapping[str, Any] = MappingProxyType({})
    ) -> pd.DataFrame:
        result = self._connection.execute(query, values)
        return pd.DataFrame(result.all(), columns=list(result.keys()))


def _counting(wanted: sa.ColumnElement[bool], until: "int | sa.BindParameter[int]") -> "sa.CompoundSelect[Any]":
    """Return the query of observations that counted at a time, whatever they were superseded by since."""
    columns = [column for column in OBSERVATIONS.c if column.name not in _UNREAD]
    return counting(columns, wanted, until).order_by("recorded_at", "seq")


# Made once, since they are executed with every group and every subject.
_UNTIL: Final[sa.BindParameter[int]] = sa.bindparam("until", type_=sa.BigInteger)
_OF_ALL: Final = _counting(recorded_between(sa.bindparam("since", type_=sa.BigInteger), _UNTIL), _UNTIL)
_OF_KEYS: Final = _counting(OBSERVATIONS.c.subject_id.in_(sa.bindparam("keys", expanding=True)), _UNTIL)


def _of_survivors(rows: pd.DataFrame, merges: Merges) -> pd.DataFrame:
    """Return rows as they count for survivors: from the merge on, and of the same content the first."""
    if not merges:
        return rows
    since = rows["subject_id"].map(merges.since)
    counted = rows.assign(
        subject_id=rows["subject_id"].map(merges.survivor), recorded_at=np.maximum(rows["recorded_at"], since)
    )
    return counted.sort_values(["recorded_at", "seq"]).drop_duplicates(CONTENT)
