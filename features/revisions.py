"""Corrections and retractions: which version of an observation counts, and until when.

A source numbers the versions of an observation, or they are numbered by arrival: the original is version 1, and what corrects
or retracts it is one more. A newer version supersedes the older ones from the time of its recording on. Before that time the
older one counts, today as it did then. A version that arrives after a newer one changes nothing. An observation that was
retracted counts again if a still newer version says so, or another message.

Versions belong to one observation if source, message, subject and signal are the same. So a correction may change the time.
Where one message holds a signal at several times, the time has to be the same, too, and without a message it always has to be.

A repetition is no observation of its own. If the one that counts is retracted, so is what it repeated.
"""

from collections import Counter
from collections.abc import Hashable, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vigil.features.kernel.plan import UNBOUNDED, Int64

FINAL: Final = "final"
CORRECTED: Final = "corrected"
RETRACTED: Final = "retracted"
STATUSES: Final = (FINAL, CORRECTED, RETRACTED)
ORIGIN: Final = ["source", "message_id", "subject_id", "signal"]

Outcome = Literal["counts", "retracts", "repeated", "superseded"]


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of one observation after the versions so far.

    Attributes:
        version: number of the newest version; 0: none is known.
        is_retracted: whether that version retracts the observation.
        content: what that version says; anything that can be compared.
    """

    version: int = 0
    is_retracted: bool = False
    content: Hashable = None

    def after(self, version: int | None, status: str, content: Hashable) -> tuple[Outcome, "Standing"]:
        """Return what a version that arrives means, and what is known after it.

        Args:
            version: its number; None: the source sent none.
            status: one of :data:`STATUSES`.
            content: what it says.

        >>> outcome, standing = Standing().after(None, "final", 80.0)
        >>> outcome, standing = standing.after(None, "corrected", 88.0)
        >>> outcome, standing.version
        ('counts', 2)
        >>> standing.after(1, "final", 80.0)[0], standing.after(None, "retracted", None)[0]
        ('superseded', 'retracts')
        """
        is_retracted = status == RETRACTED
        content = None if is_retracted else content
        is_same = (is_retracted, content) == (self.is_retracted, self.content)
        if version is None:
            version = 1 if status == FINAL else self.version if is_same and self.version > 1 else max(self.version, 1) + 1
        if version < self.version or (version == self.version and not is_same):
            return "superseded", self
        if version == self.version:
            return "repeated", self
        return ("retracts" if is_retracted else "counts"), Standing(version, is_retracted, content)


@dataclass(slots=True, eq=False)
class Version:
    """A version that was stored.

    Attributes:
        observed_at: when it was observed, comparable with those of the other versions.
        content: what it says, as :class:`Standing` compares it.
        number: its number; None: it is an original.
        counts: whether no newer version superseded it.
        key: what its keeper knows it by.
    """

    observed_at: Any
    content: Hashable
    number: int | None
    counts: bool
    key: Any


@dataclass(slots=True)
class Revision:
    """What a correction or retraction made known.

    Attributes:
        identity_at: the time that tells which observation of its message it was of; None: the message had one only.
        observed_at: its own time.
        standing: what is known after it.
    """

    identity_at: Any | None
    observed_at: Any
    standing: Standing


class History:
    """What is known of the observations of one origin (:data:`ORIGIN`)."""

    def __init__(
        self, versions: Iterable[Version] = (), revisions: Iterable[Revision] = (), *, has_message: bool = True
    ) -> None:
        """Start from what is stored.

        Args:
            versions: in their order.
            revisions: what corrections and retractions made known.
            has_message: without one, only the time tells what a version belongs to, and originals never exclude each other.
        """
        self.has_message = has_message
        self._originals: Counter[Any] = Counter()  # how many were observed at each time, superseded ones too
        self._counting: dict[Any, list[Version]] = {}  # by the time they were observed
        self._standings: dict[Any, Standing] = {}  # of the newest revision by its identity_at
        self._of_one: dict[Any, Standing] = {}  # and, of those without identity_at, by their own time
        for version in versions:
            self.add(version)
        for revision in revisions:
            self._learn(revision)

    def take(
        self, version: Version, status: str, number: int | None, times: AbstractSet[Any] = frozenset()
    ) -> tuple[Outcome, list[Version], Revision | None]:
        """Take the next version, which is known from then on if it counts.

        Args:
            version: it, as it is stored if it counts; its ``number`` is set here.
            status: one of :data:`STATUSES`.
            number: as its source sent it; None: it sent none.
            times: when the originals recorded together with it were observed.

        Returns:
            What it means; the versions that it supersedes; the revision that it is, unless it is an original.
        """
        identity_at, counting, standing = self._find(version.observed_at, times)
        outcome, after = standing.after(number, status, version.content)
        if outcome in ("repeated", "superseded"):
            return outcome, [], None
        for superseded in counting:
            superseded.counts = False
            self._counting[superseded.observed_at].remove(superseded)
        is_original = after.version == 1 and status == FINAL  # a source may number its correction or retraction 1
        if outcome == "counts":
            version.number = None if is_original else after.version
            self.add(version)
        if is_original:
            return outcome, counting, None
        revision = Revision(identity_at, version.observed_at, after)
        self._learn(revision)
        return outcome, counting, revision

    def has_original(self, observed_at: Any) -> bool:
        """Return whether an original of a time is known."""
        return observed_at in self._originals

    def add(self, version: Version) -> None:
        """Add a version that is stored, or an original beside others of its origin."""
        if version.number is None:
            self._originals[version.observed_at] += 1
        if version.counts:
            self._counting.setdefault(version.observed_at, []).append(version)

    def forget(self, version: Version) -> None:
        """Take back a version that repeats the content of another observation. An original is then as if it never came."""
        if version.number is None:
            self._originals[version.observed_at] -= 1
            if not self._originals[version.observed_at]:
                del self._originals[version.observed_at]
        self._counting[version.observed_at].remove(version)

    def _learn(self, revision: Revision) -> None:
        self._standings[revision.identity_at] = _newer(self._standings.get(revision.identity_at), revision.standing)
        if revision.identity_at is None:
            self._of_one[revision.observed_at] = _newer(self._of_one.get(revision.observed_at), revision.standing)

    def _find(self, observed_at: Any, times: AbstractSet[Any]) -> tuple[Any | None, list[Version], Standing]:
        """Return the time that the identity needs (None: it needs none), what counts of it, and what is known of it."""
        is_one = self.has_message and not self._has_several(times)
        if is_one:
            counting = [version for versions in self._counting.values() for version in versions]
            known = self._standings.get(None)
        else:
            counting = list(self._counting.get(observed_at, ()))
            known = self._standings.get(observed_at)
            if (alone := self._of_one.get(observed_at)) is not None:  # known before the message had several
                known = _newer(known, alone)
        identity_at = None if is_one else observed_at
        if known is not None:
            return identity_at, counting, known
        if counting:
            return identity_at, counting, Standing(counting[-1].number or 1, content=counting[-1].content)
        return identity_at, counting, Standing()

    def _has_several(self, times: AbstractSet[Any]) -> bool:
        """Return whether the message holds the signal at several times."""
        if self._standings.keys() - {None}:
            return True
        own = self._originals.keys()
        return len(own) > 1 or len(times) > 1 or bool(times and own and times != own)


def _newer(known: Standing | None, other: Standing) -> Standing:
    return other if known is None or other.version > known.version else known


def is_revision(status: "pd.Series[Any]", version: "pd.Series[Any]") -> "pd.Series[bool]":
    """Return which rows are not originals: they correct, retract, or have a version above 1."""
    return status.isin([CORRECTED, RETRACTED]) | (pd.to_numeric(version, errors="coerce").fillna(1) > 1)


def counts_until(observations: pd.DataFrame) -> Int64:
    """Return until when each observation counts, in microseconds UTC; :data:`UNBOUNDED` where no newer version is known.

    Args:
        observations: checked observations, perhaps with ``superseded_at``.
    """
    if "superseded_at" not in observations:
        return np.full(len(observations), UNBOUNDED)
    ends = observations["superseded_at"]
    return np.where(ends.isna(), UNBOUNDED, to_microseconds(ends))


def split_by_validity(observations: pd.DataFrame, index: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Divide the index times of subjects with superseded observations, so that within each part the same ones count.

    Args:
        observations: checked observations, perhaps with ``superseded_at``.
        index: ``subject_id, index_time`` and more.

    Returns:
        Observations and index in which a part of a subject's index times is a subject of its own, whose key begins with the
        subject's. The index has the rows and the order of before.
    """
    if "superseded_at" not in observations or not observations["superseded_at"].notna().any():
        return observations.drop(columns="superseded_at", errors="ignore"), index
    observations = observations[_counts_at_some_time(observations, index)]
    ends = observations["superseded_at"]
    affected = observations["subject_id"].isin(observations.loc[ends.notna(), "subject_id"].unique())
    if not affected.any():
        return observations.drop(columns="superseded_at"), index
    parts, keys = [observations[~affected]], index["subject_id"].astype(object).copy()
    rows_of = index.groupby("subject_id", observed=True).groups
    for subject, rows in observations[affected].groupby("subject_id", observed=True):
        changes = rows["superseded_at"].dropna().drop_duplicates().sort_values()
        of_subject = rows_of[subject]
        part = changes.searchsorted(index.loc[of_subject, "index_time"], side="right")
        last = changes.searchsorted(rows["superseded_at"].fillna(pd.Timestamp.max.tz_localize("UTC")), side="left")
        keys.loc[of_subject] = [f"{subject}\x1f{number:06}" for number in part]
        parts += [rows[number <= last].assign(subject_id=f"{subject}\x1f{number:06}") for number in sorted(set(part))]
    return pd.concat(parts, ignore_index=True).drop(columns="superseded_at"), index.assign(subject_id=keys)


def _counts_at_some_time(observations: pd.DataFrame, index: pd.DataFrame) -> NDArray[np.bool_]:
    """Return which observations count at an index time of their subject, unless they are never superseded: those all stay."""
    counts = np.ones(len(observations), dtype=bool)
    rows = np.flatnonzero(observations["superseded_at"].notna())
    superseded = observations.iloc[rows]
    known_at = np.maximum(to_microseconds(superseded["observed_at"]), to_microseconds(superseded["recorded_at"]))
    subject = superseded["subject_id"].astype(object)
    known = pd.DataFrame({"row": rows, "subject_id": subject, "at": known_at, "until": counts_until(superseded)})
    times = pd.DataFrame({"subject_id": index["subject_id"].astype(object), "at": to_microseconds(index["index_time"])})
    following = pd.merge_asof(
        known.sort_values("at"),
        times.assign(index_time=times["at"]).sort_values("at"),
        on="at",
        by="subject_id",
        direction="forward",
    )
    counts[following["row"]] = following["index_time"] < following["until"]
    return counts


def to_microseconds(times: "pd.Series[pd.Timestamp]") -> Int64:
    """Return times as microseconds UTC; a missing one as the least integer."""
    return times.to_numpy("datetime64[us]").astype(np.int64)
