"""Patients as the journal knows them: their readings in memory, as far as features may yet need them.

Whoever was never interrupted and whoever begins anew from the journal have the same features, bit for bit: both are made of the
readings recorded until a time, by :class:`features.online.PatientFeatures`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
import sqlalchemy as sa

from features.build import as_steps, computation
from features.catalogue import computed_for
from features.observations import TIME
from features.online import PatientFeatures
from serving.journal import PATIENTS, READINGS, instant

UNASSIGNED: Final = ""  # the ward of patients of whom only readings are known


@dataclass
class Monitored:
    """One patient.

    Attributes:
        ward: where he is.
        features: what was made of his readings.
        index_time: recorded_at of the last reading that is in it, microseconds.
    """

    ward: str
    features: PatientFeatures
    index_time: int = 0


class MonitoredPatients:
    """Those of one journal, each read from it when first asked for."""

    def __init__(self, service: str) -> None:
        """Begin with nobody.

        Args:
            service: the feature service whose views are computed.
        """
        self.views = computed_for(service)
        self.names = computation(self.views).features
        self._patients: dict[str, Monitored] = {}
        self.cursor = 0  # number of the last journal row that is in anybody

    def advance(self, connection: sa.Connection, most: int) -> list[str]:
        """Take in what was journalled since; returns the patients that have new readings."""
        query = sa.select(READINGS).where(READINGS.c.seq > self.cursor).order_by(READINGS.c.seq).limit(most)
        rows = _readings(connection, query)
        if rows.empty:
            return []
        self.cursor = int(rows["seq"].iloc[-1])
        patients = rows["subject_id"].unique().tolist()
        known = [patient for patient in patients if patient in self._patients]
        self._take_in(rows[rows["subject_id"].isin(known)])
        for patient in patients:
            self._patients.get(patient) or self._begin(connection, patient)
        return patients

    def _begin(self, connection: sa.Connection, patient: str) -> None:
        """Everything that the journal holds of a patient, up to the cursor."""
        facts = connection.execute(
            sa.select(PATIENTS).where(PATIENTS.c.patient == patient).order_by(PATIENTS.c.seq.desc()).limit(1)
        ).first()
        self._patients[patient] = Monitored(UNASSIGNED if facts is None else facts.ward, _features(facts, self.views))
        mine = sa.select(READINGS).where(READINGS.c.patient == patient, READINGS.c.seq <= self.cursor)
        self._take_in(_readings(connection, mine.order_by(READINGS.c.seq)))

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
            entry.index_time = int(steps[2][end - 1])  # recorded_at ascends with the number

    def at(self, patients: Sequence[str], times: Sequence[int] | None = None) -> pd.DataFrame:
        """Features of patients as known at their last reading, or at later times: ``subject_id, index_time`` and features."""
        when = [self._patients[patient].index_time for patient in patients] if times is None else list(times)
        matrix = np.empty((len(patients), len(self.names)), dtype=np.float32)
        for row, (patient, time) in enumerate(zip(patients, when, strict=True)):
            matrix[row] = self._patients[patient].features.at(np.array([time]))[0]
        frame = pd.DataFrame(matrix, columns=list(self.names), copy=False)
        frame.insert(0, "index_time", pd.Series(np.array(when, dtype="datetime64[us]")).dt.tz_localize("UTC"))
        frame.insert(0, "subject_id", list(patients))
        return frame


def _readings(connection: sa.Connection, query: sa.Select[Any]) -> pd.DataFrame:
    rows = pd.DataFrame(connection.execute(query).all(), columns=[column.name for column in READINGS.columns])
    for column in ("observed_at", "recorded_at"):
        rows[column] = pd.Series(rows[column].to_numpy("datetime64[us]"), dtype="datetime64[us]").dt.tz_localize("UTC")
    return rows.rename(columns={"patient": "subject_id"})


def _features(facts: Any, views: tuple[str, ...]) -> PatientFeatures:
    if facts is None:
        return PatientFeatures(views=views)
    admitted = {name: getattr(facts, name) for name in ("unit_admitted_at", "hospital_admitted_at")}
    return PatientFeatures(
        age=np.nan if facts.age is None else facts.age,
        sex=np.nan if facts.sex is None else facts.sex,
        **{name: pd.NaT if time is None else instant(time) for name, time in admitted.items()},
        views=views,
    )
