"""The state of subjects in memory: who they are, and their observations as far as a feature may yet need them.

Features are bit-identical whether the process ran without a break or rebuilt its state from the journal: both are made of the
groups recorded up to a time, by :class:`vigil.features.online.SubjectFeatures`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from vigil.features.batch import encode_observations, plan_computation
from vigil.features.kernel.plan import UNBOUNDED
from vigil.features.online import SubjectFeatures, features_of_each
from vigil.serving.records.journal import UNASSIGNED
from vigil.serving.records.journal_snapshot import JournalSnapshot
from vigil.serving.records.registration import RecordedRegistration
from vigil.serving.records.timestamps import instant


@dataclass
class SubjectState:
    """One subject.

    Attributes:
        ward: where the patient lies.
        discharged: whether monitoring has stopped.
        features: made of their observations so far.
        index_time: of the last group that holds something of them, microseconds.
        merged_into: the subject that they count for; None: they are not merged.
    """

    ward: str
    discharged: bool
    features: SubjectFeatures
    index_time: int
    merged_into: str | None = None


class SubjectStates:
    """The subjects of one journal, each loaded when it is first needed."""

    def __init__(self, views: tuple[str, ...], cursor: int = 0) -> None:
        """Start without a subject.

        Args:
            views: of the features to compute.
            cursor: time of the last group that counts as read, microseconds.
        """
        self.views = views
        self.names = plan_computation(views).features
        self.cursor = cursor
        self._subjects: dict[str, SubjectState] = {}
        self._last_retention: int | None = None

    def advance(self, journal: JournalSnapshot, most: int, until: int = UNBOUNDED) -> dict[str, int]:
        """Take in the next groups, about ``most`` observations, up to a time.

        Returns:
            The subjects concerned, and the time of the first group of each.
        """
        self._forget_dropped(journal)
        end = journal.end_of_groups(self.cursor, until, most)
        if end is None:
            return {}
        start, self.cursor = self.cursor, end
        rows = journal.observations(start, end)
        concerned = journal.registered(start, end) | journal.termed(start, end) | journal.revised(start, end)
        moved = {key for move in journal.moves(start, end) for key in move.keys}
        for subject in concerned.keys() | moved:
            self._subjects.pop(subject, None)  # loaded again below, or when needed, with what is known of them now
        first = rows.drop_duplicates("subject_id")
        recorded_at = first["recorded_at"].to_numpy("datetime64[us]").astype(np.int64).tolist()
        concerned |= dict(zip(first["subject_id"], recorded_at, strict=True))
        self._insert(rows[rows["subject_id"].isin(self._subjects)])
        for subject in concerned:
            self.load(journal, subject)
        return concerned

    def load(self, journal: JournalSnapshot, subject: str) -> SubjectState:
        """Return a subject's state, from everything the journal holds of them up to the cursor."""
        if subject not in self._subjects:
            registration = journal.registration(subject, self.cursor)
            self._subjects[subject] = SubjectState(
                UNASSIGNED if registration is None else registration.ward,
                registration is not None and registration.discharged,
                _empty_features(registration, self.views),
                0 if registration is None else registration.recorded_at,
                journal.merged_into(subject, self.cursor),
            )
            state = self._subjects[subject]
            state.index_time = max(state.index_time, journal.last_change(subject, self.cursor))
            self._insert(journal.observations(0, self.cursor, subject))
        return self._subjects[subject]

    def ward(self, subject: str) -> str:
        """Return where a subject is."""
        return self._subjects[subject].ward

    def index_time(self, subject: str) -> int:
        """Return the time of the last group that holds something of a subject, microseconds."""
        return self._subjects[subject].index_time

    def is_monitored(self, subject: str) -> bool:
        """Return whether a subject is known to the journal, not discharged, and not merged into another."""
        state = self._subjects[subject]
        return state.index_time > 0 and not state.discharged and state.merged_into is None

    def merged_into(self, subject: str) -> str | None:
        """Return the subject that a merged one counts for; None: it is not merged."""
        return self._subjects[subject].merged_into

    def features(self, subjects: Sequence[str], time: int | None = None) -> pd.DataFrame:
        """Return features of subjects as of their last group, or of a later time: ``subject_id, index_time`` and features."""
        states = [self._subjects[subject] for subject in subjects]
        times = np.array([state.index_time if time is None else time for state in states], dtype=np.int64)
        if states:
            matrix = features_of_each([state.features for state in states], times)
        else:
            matrix = np.empty((0, len(self.names)), dtype=np.float32)
        frame = pd.DataFrame(matrix, columns=list(self.names), copy=False)
        frame.insert(0, "index_time", pd.Series(times.astype("datetime64[us]")).dt.tz_localize("UTC"))
        frame.insert(0, "subject_id", list(subjects))
        return frame

    def evict(self, time: int, silent_since: int) -> None:
        """Bound the memory: summarise what no feature at or after a time needs singly, and drop long silent subjects."""
        self._subjects = {key: state for key, state in self._subjects.items() if state.index_time >= silent_since}
        for state in self._subjects.values():
            state.features.forget(time)

    def _insert(self, rows: pd.DataFrame) -> None:
        """Insert observations of loaded subjects; checked as one frame, since a frame costs more than an observation."""
        if rows.empty:
            return
        rows = rows.sort_values("subject_id", kind="stable")
        steps = encode_observations(rows)
        subjects, first = np.unique(rows["subject_id"].to_numpy(object), return_index=True)
        for subject, begin, end in zip(subjects, first, [*first[1:], len(rows)], strict=True):
            state = self._subjects[subject]
            state.features.insert(*(column[begin:end] for column in steps))
            state.index_time = max(state.index_time, int(steps[2][end - 1]))  # recorded_at ascends

    def _forget_dropped(self, journal: JournalSnapshot) -> None:
        """Drop every state after a retention: observations that it took from the journal must not live on here."""
        last = journal.last_retention()
        if last != self._last_retention:
            self._subjects.clear()
            self._last_retention = last


def features_as_of(journal: JournalSnapshot, views: tuple[str, ...], subjects: Sequence[str], time: int) -> pd.DataFrame:
    """Return features as of a time (microseconds) of those subjects that the journal knew then and that were not merged.

    Returns:
        ``subject_id, index_time`` and the features, one row a known subject.
    """
    states = SubjectStates(views, cursor=time)
    loaded = {subject: states.load(journal, subject) for subject in subjects}
    known = [subject for subject, state in loaded.items() if state.index_time and state.merged_into is None]
    return states.features(known, time)


def _empty_features(registration: RecordedRegistration | None, views: tuple[str, ...]) -> SubjectFeatures:
    if registration is None:
        return SubjectFeatures(views=views)
    admitted: dict[str, Any] = {name: getattr(registration, name) for name in ("unit_admitted_at", "hospital_admitted_at")}
    admitted = {name: pd.NaT if time is None else instant(time) for name, time in admitted.items()}
    return SubjectFeatures(
        age=np.nan if registration.age is None else registration.age,
        sex=np.nan if registration.sex is None else registration.sex,
        pregnant=np.nan if registration.pregnant is None else float(registration.pregnant),
        **admitted,
        views=views,
    )
