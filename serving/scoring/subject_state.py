"""Patients as the journal knows them: their readings in memory, as far as features may yet need them.

Whoever was never interrupted and whoever begins anew from the journal have the same features, bit for bit: both are made of the
groups recorded until a time, by :class:`features.online.PatientFeatures`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
import sqlalchemy as sa

from features.batch import as_steps, computation
from features.kernel.plan import UNBOUNDED
from features.online import PatientFeatures
from serving.records.database import instant
from serving.records.journal import DROPPED, PATIENTS, READINGS

UNASSIGNED: Final = ""  # the ward of patients of whom only readings are known


@dataclass
class Monitored:
    """One patient.

    Attributes:
        ward: where he is.
        discharged: nobody watches him any more.
        features: what was made of his readings.
        index_time: of the last group that says something of him, microseconds.
    """

    ward: str
    discharged: bool
    features: PatientFeatures
    index_time: int


class MonitoredPatients:
    """Those of one journal, each read from it when first asked for."""

    def __init__(self, views: tuple[str, ...], cursor: int = 0) -> None:
        """Begin with nobody.

        Args:
            views: of features that are computed.
            cursor: time of the last group that counts as read, microseconds.
        """
        self.views = views
        self.names = computation(views).features
        self.cursor = cursor
        self._patients: dict[str, Monitored] = {}
        self._dropped: int | None = None

    def advance(self, connection: sa.Connection, most: int, until: int = UNBOUNDED) -> dict[str, int]:
        """Take in the groups that were journalled since, some ``most`` readings, up to a time.

        Returns:
            The patients they are about, and of each the time of the first.
        """
        self._forget_dropped(connection)
        end = self._end_of_groups(connection, most, until)
        if end is None:
            return {}
        new = self.cursor + 1, end
        self.cursor = end
        rows = _readings(connection, READINGS.c.recorded_at.between(*new))
        moved = sa.select(PATIENTS.c.patient, PATIENTS.c.recorded_at).where(PATIENTS.c.recorded_at.between(*new))
        about = {row.patient: row.recorded_at for row in connection.execute(moved)}
        for patient in about:
            self._patients.pop(patient, None)  # his features are made anew, of what is known now
        first = rows.drop_duplicates("subject_id")
        recorded_at = first["recorded_at"].to_numpy("datetime64[us]").astype(np.int64).tolist()
        about |= dict(zip(first["subject_id"], recorded_at, strict=True))
        self._take_in(rows[rows["subject_id"].isin(self._patients)])
        for patient in about:
            self.entry(connection, patient)
        return about

    def entry(self, connection: sa.Connection, patient: str) -> Monitored:
        """A patient, made of everything that the journal holds of him up to the cursor."""
        if patient not in self._patients:
            facts = connection.execute(
                sa.select(PATIENTS)
                .where(PATIENTS.c.patient == patient, PATIENTS.c.recorded_at <= self.cursor)
                .order_by(PATIENTS.c.seq.desc())
                .limit(1)
            ).first()
            self._patients[patient] = Monitored(
                UNASSIGNED if facts is None else facts.ward,
                facts is not None and facts.discharged,
                _features(facts, self.views),
                0 if facts is None else facts.recorded_at,
            )
            mine = (READINGS.c.patient == patient) & (READINGS.c.recorded_at <= self.cursor)
            self._take_in(_readings(connection, mine))
        return self._patients[patient]

    def ward(self, patient: str) -> str:
        """Where a patient is."""
        return self._patients[patient].ward

    def index_time(self, patient: str) -> int:
        """Of the last group that says something of a patient, microseconds."""
        return self._patients[patient].index_time

    def is_watched(self, patient: str) -> bool:
        """Whether there is somebody to watch: the journal knows him, and he was not discharged."""
        entry = self._patients[patient]
        return entry.index_time > 0 and not entry.discharged

    def at(self, patients: Sequence[str], time: int | None = None) -> pd.DataFrame:
        """Features of patients as known at their last group, or at a later time: ``subject_id, index_time`` and features."""
        entries = [self._patients[patient] for patient in patients]
        when = np.array([entry.index_time if time is None else time for entry in entries], dtype=np.int64)
        matrix = np.empty((len(patients), len(self.names)), dtype=np.float32)
        for row, entry in enumerate(entries):
            matrix[row] = entry.features.at(when[row : row + 1])[0]
        frame = pd.DataFrame(matrix, columns=list(self.names), copy=False)
        frame.insert(0, "index_time", pd.Series(when.astype("datetime64[us]")).dt.tz_localize("UTC"))
        frame.insert(0, "subject_id", list(patients))
        return frame

    def forget(self, time: int, silent_since: int) -> None:
        """Memory stays flat: sum up what no feature at or after a time can tell from its sum; let the long silent go."""
        self._patients = {name: entry for name, entry in self._patients.items() if entry.index_time >= silent_since}
        for entry in self._patients.values():
            entry.features.forget(time)

    def _end_of_groups(self, connection: sa.Connection, most: int, until: int) -> int | None:
        """Time of the group that holds the last of so many new readings; a group is never divided."""
        new = sa.select(READINGS.c.recorded_at).where(READINGS.c.recorded_at.between(self.cursor + 1, until))
        some = new.order_by(READINGS.c.recorded_at).limit(most).subquery()
        last, readings = connection.execute(sa.select(sa.func.max(some.c.recorded_at), sa.func.count())).one()
        if readings == most:
            return int(last)
        facts = sa.select(sa.func.max(PATIENTS.c.recorded_at)).where(PATIENTS.c.recorded_at.between(self.cursor + 1, until))
        ends = [end for end in (last, connection.execute(facts).scalar()) if end is not None]
        return max(ends) if ends else None

    def _take_in(self, rows: pd.DataFrame) -> None:
        """Readings of patients who are here, to each his own; checked as one frame, since a frame costs more than a reading."""
        if rows.empty:
            return
        rows = rows.sort_values("subject_id", kind="stable")
        steps = as_steps(rows)
        patient, first = np.unique(rows["subject_id"].to_numpy(object), return_index=True)
        for name, begin, end in zip(patient, first, [*first[1:], len(rows)], strict=True):
            entry = self._patients[name]
            entry.features.insert(*(column[begin:end] for column in steps))
            entry.index_time = max(entry.index_time, int(steps[2][end - 1]))  # recorded_at ascends

    def _forget_dropped(self, connection: sa.Connection) -> None:
        """Where readings were dropped from the journal they must not live on here."""
        last = connection.execute(sa.select(sa.func.max(DROPPED.c.recorded_at))).scalar()
        if last != self._dropped:
            self._patients.clear()
            self._dropped = last


def features_as_of(connection: sa.Connection, views: tuple[str, ...], patients: Sequence[str], time: int) -> pd.DataFrame:
    """Features of those of the patients whom the journal knew at a time, microseconds: ``subject_id, index_time``, features."""
    journal = MonitoredPatients(views, cursor=time)
    known = [patient for patient in dict.fromkeys(patients) if journal.entry(connection, patient).index_time]
    return journal.at(known, time)


def _readings(connection: sa.Connection, condition: "sa.ColumnElement[bool]") -> pd.DataFrame:
    # What was dropped is no longer there from one moment on, even if retention is still deleting it.
    kept = sa.select(sa.func.coalesce(sa.func.max(DROPPED.c.before), 0)).scalar_subquery()
    query = (
        sa.select(READINGS).where(condition, READINGS.c.recorded_at >= kept).order_by(READINGS.c.recorded_at, READINGS.c.seq)
    )
    rows = pd.DataFrame(connection.execute(query).all(), columns=[column.name for column in READINGS.columns])
    for column in ("observed_at", "recorded_at"):
        rows[column] = pd.Series(rows[column].to_numpy("datetime64[us]"), dtype="datetime64[us]").dt.tz_localize("UTC")
    return rows.rename(columns={"patient": "subject_id"})


def _features(facts: Any, views: tuple[str, ...]) -> PatientFeatures:
    if facts is None:
        return PatientFeatures(views=views)
    admitted: dict[str, Any] = {name: getattr(facts, name) for name in ("unit_admitted_at", "hospital_admitted_at")}
    admitted = {name: pd.NaT if time is None else instant(time) for name, time in admitted.items()}
    return PatientFeatures(
        age=np.nan if facts.age is None else facts.age,
        sex=np.nan if facts.sex is None else facts.sex,
        pregnant=np.nan if facts.pregnant is None else float(facts.pregnant),
        **admitted,
        views=views,
    )
