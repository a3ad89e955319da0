"""Corrections and retractions: which version of an observation counts, and until when.

A source numbers the versions of an observation, or they are numbered by arrival: the original is version 1, and what corrects
or retracts it is one more. A newer version supersedes the older ones from the time of its recording on. Before that time the
older one counts, today as it did then. A version that arrives after a newer one changes nothing. An observation that was
retracted counts again if a still newer version says so, or another message.

Versions belong to one observation if source, message, subject and signal are the same. So a correction may change the time.
Where one message holds a signal at several times, the time has to be the same, too, and without a message it always has to be.

A repetition is no observation of its own. If the one that counts is retracted, so is what it repeated.
"""

from collections.abc import Collection, Hashable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.kernel.plan import UNBOUNDED, Int64

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


@dataclass(slots=True)
class History:
    """What is known of the observations of one origin (:data:`ORIGIN`).

    Attributes:
        versions: the stored ones in their order.
        revisions: what corrections and retractions made known.
        has_message: without one, only the time tells what a version belongs to, and originals never exclude each other.
    """

    versions: list[Version] = field(default_factory=list)
    revisions: list[Revision] = field(default_factory=list)
    has_message: bool = True

    def take(
        self, version: Version, status: str, number: int | None, times: Collection[Any] = ()
    ) -> tuple[Outcome, list[Version], Revision | None]:
        """Take the next version, which becomes one of :attr:`versions` if it counts.

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
        is_original = after.version == 1 and status == FINAL  # a source may number its correction or retraction 1
        if outcome == "counts":
            version.number = None if is_original else after.version
            self.versions.append(version)
        if is_original:
            return outcome, counting, None
        revision = Revision(identity_at, version.observed_at, after)
        self.revisions.append(revision)
        return outcome, counting, revision

    def add(self, version: Version) -> None:
        """Add an original of which no other version is known. It counts beside others of its origin."""
        self.versions.append(version)

    def forget(self, version: Version) -> None:
        """Take back a version that repeats the content of another observation. An original is then as if it never came."""
        self.versions.remove(version)

    def _find(self, observed_at: Any, times: Collection[Any]) -> tuple[Any | None, list[Version], Standing]:
        """Return the time that the identity needs (None: it needs none), what counts of it, and what is known of it."""
        originals = {version.observed_at for version in self.versions if version.number is None} | set(times)
        several = len(originals) > 1 or any(revision.identity_at is not None for revision in self.revisions)
        identity_at = observed_at if several or not self.has_message else None
        counting = [version for version in self.versions if version.counts and identity_at in (None, version.observed_at)]
        known = [
            revision.standing
            for revision in self.revisions
            if identity_at == (revision.observed_at if several and revision.identity_at is None else revision.identity_at)
        ]
        if known:
            return identity_at, counting, max(known, key=lambda standing: standing.version)
        if counting:
            return identity_at, counting, Standing(counting[-1].number or 1, content=counting[-1].content)
        return identity_at, counting, Standing()


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
