"""Corrections and retractions: which version of an observation counts, and until when.

A source numbers the versions of an observation, or they are numbered by arrival: the original is version 1, and what corrects
or retracts it is one more. A newer version supersedes the older ones from the time of its recording on. Before that time the
older one counts, today as it did then. A version that arrives after a newer one changes nothing. An observation that was
retracted counts again if a still newer version says so, or another message.

Versions belong to one observation if source, message, subject and signal are the same. So a correction may change the time.
Where one message holds a signal at several times, the time has to be the same, too, and without a message it always has to be.

A repetition is no observation of its own. If the one that counts is retracted, so is what it repeated.
"""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.kernel.plan import UNBOUNDED, Int64
from features.signals import measured_signal

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


def is_revision(status: "pd.Series[Any]", version: "pd.Series[Any]") -> "pd.Series[bool]":
    """Return which rows are not originals: they correct, retract, or have a version above 1."""
    return status.isin([CORRECTED, RETRACTED]) | (pd.to_numeric(version, errors="coerce").fillna(1) > 1)


def resolve_revisions(rows: pd.DataFrame) -> pd.DataFrame:
    """Return what each row means, and when it is superseded: ``outcome`` (empty: no version but this), ``superseded_at``.

    Args:
        rows: usable observations and retractions, :data:`ORIGIN`, ``observed_at, recorded_at, value, status, version``
            (missing: none was sent).
    """
    resolved = pd.DataFrame({"outcome": "", "superseded_at": pd.Series(pd.NaT, rows.index, dtype=rows["recorded_at"].dtype)})
    revises = is_revision(rows["status"], rows["version"])
    if not revises.any():
        return resolved
    message, _ = pd.factorize(rows["message_id"])
    is_related = np.isin(message, message[revises])  # versions of one observation have one message, or none
    rows, revises = rows[is_related], revises[is_related]
    signals = rows["signal"].tolist()
    keys = rows[ORIGIN].assign(signal=[measured_signal(name) for name in signals])  # a correction may make a bound a value
    origins = [_hashable(key) for key in keys.itertuples(index=False, name=None)]
    revised = {origin for origin, revision in zip(origins, revises, strict=True) if revision}
    times: dict[Hashable, set[pd.Timestamp]] = {}  # of the originals of one message and signal
    for origin, revision, observed_at in zip(origins, revises, rows["observed_at"], strict=True):
        if not revision:
            times.setdefault(origin, set()).add(observed_at)
    standings: dict[Hashable, Standing] = {}
    counting: dict[Hashable, int] = {}  # the row that counts
    recorded = rows["recorded_at"].tolist()
    columns = [rows[name].tolist() for name in ("version", "status", "observed_at", "value")]
    outcomes, ends = [""] * len(rows), [pd.NaT] * len(rows)
    for row in sorted(range(len(rows)), key=recorded.__getitem__):
        if (origin := origins[row]) not in revised:
            continue
        number, status, observed_at, value = (column[row] for column in columns)
        is_one = origin[1] is not None and len(times.get(origin, ())) <= 1
        identity = origin if is_one else (*origin, observed_at)
        version = None if pd.isna(number) else int(number)
        outcome, standings[identity] = standings.get(identity, Standing()).after(
            version, status, (observed_at, signals[row], value)
        )
        outcomes[row] = outcome
        if outcome in ("counts", "retracts"):
            if (superseded := counting.pop(identity, None)) is not None:
                ends[superseded] = recorded[row]
            if outcome == "counts":
                counting[identity] = row
    resolved.loc[rows.index, "outcome"] = outcomes
    resolved.loc[rows.index, "superseded_at"] = pd.Series(ends, rows.index, dtype=rows["recorded_at"].dtype)
    return resolved


def _hashable(key: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(None if pd.isna(part) else part for part in key)


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
