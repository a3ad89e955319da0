"""What each observation means beside those before it: it counts, repeats one, or is a version of one.

What is recorded together is one group. A group is taken as a whole: what it supersedes no longer counts when its contents are
compared. Of the same content, a version of an observation counts before an original, and then the first one counts.

A message that only repeated another is not remembered, as the journal stores none. So once what it repeated is superseded, it
counts when it is sent again.
"""

from collections.abc import Hashable, Iterable
from itertools import groupby
from typing import Any, Final

import numpy as np
import pandas as pd

from vigil.features.kernel.plan import UNBOUNDED
from vigil.features.revisions import FINAL, ORIGIN, History, Version, counts_until, is_revision, to_microseconds
from vigil.features.signals import BOUNDS, measured_signal

CONTENT: Final = ["subject_id", "signal", "observed_at", "value"]
# Each gateway numbers its own messages, and one message may carry several observations.
MESSAGE_KEY: Final = ["source", "message_id", "subject_id", "signal", "observed_at"]


def resolve(rows: pd.DataFrame) -> pd.DataFrame:
    """Return what each row means, and when a newer version superseded it.

    Args:
        rows: usable observations and retractions in the order of :data:`vigil.features.observations.KEY`; their index is the
            order of arrival. Perhaps with ``status, version``.

    Returns:
        ``outcome``: ``counts``, ``retracts``, or the reason why the row does not count; ``superseded_at``.
    """
    resolved = pd.DataFrame(
        {"outcome": "counts", "superseded_at": pd.Series(pd.NaT, rows.index, dtype=rows["recorded_at"].dtype)}
    )
    has_message = rows["message_id"].notna().to_numpy()
    messages = _message_keys(rows) if has_message.any() else rows[MESSAGE_KEY]
    is_alike = _is_alike(messages) & has_message if has_message.any() else has_message
    repeats_message = _find_repeated_messages(rows, messages, is_alike)
    is_repeat = repeats_message.copy()
    others = rows[~repeats_message] if repeats_message.any() else rows  # a copy takes time
    is_repeat[~repeats_message] = others.duplicated(CONTENT).to_numpy()
    revises = is_revision(rows["status"], rows["version"]).to_numpy() if "status" in rows else np.zeros(len(rows), dtype=bool)
    if not revises.any() and not (is_repeat & is_alike & ~repeats_message).any():
        resolved.loc[is_repeat, "outcome"] = np.where(repeats_message, "duplicate_message", "duplicate_reading")[is_repeat]
        return resolved
    message, _ = pd.factorize(rows["message_id"])
    of_revised = np.where(has_message, np.isin(message, message[revises & has_message]), revises | _is_alike(messages))
    depends = is_alike | rows.duplicated(CONTENT, keep=False).to_numpy() | of_revised
    outcomes, ends = _InOrder(rows[depends]).resolve()
    resolved.loc[depends, "outcome"] = outcomes
    resolved.loc[depends, "superseded_at"] = pd.Series(ends, rows.index[depends], dtype=rows["recorded_at"].dtype)
    return resolved


def _message_keys(rows: pd.DataFrame) -> pd.DataFrame:
    """Return what tells messages apart. A value and a bound of one signal are then the same signal."""
    keys = rows[MESSAGE_KEY]
    return keys.assign(signal=keys["signal"].map(measured_signal)) if rows["signal"].isin(BOUNDS).any() else keys


def _is_alike(messages: pd.DataFrame) -> np.ndarray:
    alike: np.ndarray = messages.duplicated(keep=False).to_numpy()
    return alike


def _find_repeated_messages(rows: pd.DataFrame, messages: pd.DataFrame, is_alike: np.ndarray) -> np.ndarray:
    """Return which rows repeat a message that arrived before."""
    repeats = np.zeros(len(rows), dtype=bool)
    alike = np.flatnonzero(is_alike)
    if len(alike):
        arrival = np.lexsort((rows.index[alike], to_microseconds(rows["recorded_at"])[alike]))
        repeats[alike[arrival]] = messages.iloc[alike[arrival]].duplicated().to_numpy()
    return repeats


class _InOrder:
    """Rows one group after the other. It takes those that depend on each other only, since it is slow."""

    def __init__(self, rows: pd.DataFrame) -> None:
        self._arrival = rows.index.tolist()
        self._recorded = rows["recorded_at"].tolist()
        self._observed = rows["observed_at"].tolist()
        self._status = rows["status"].tolist() if "status" in rows else [FINAL] * len(rows)
        numbers = rows["version"].tolist() if "version" in rows else [None] * len(rows)
        self._number = [None if pd.isna(number) else int(number) for number in numbers]
        # A correction may make a bound a value.
        keys = rows[ORIGIN].assign(signal=rows["signal"].map(measured_signal))
        self._origin = [_hashable(key) for key in keys.itertuples(index=False, name=None)]
        self._content = [_hashable(key) for key in rows[CONTENT].itertuples(index=False, name=None)]
        self._revises = is_revision(rows["status"], rows["version"]).tolist() if "status" in rows else [False] * len(rows)
        self._outcomes = [""] * len(rows)
        self._ends: list[Any] = [pd.NaT] * len(rows)
        self._histories = {origin: History(has_message=origin[1] is not None) for origin in self._origin}
        self._counting: set[Hashable] = set()  # contents

    def resolve(self) -> tuple[list[str], list[Any]]:
        """Return the outcome and the end of each row."""
        revised_from: dict[Hashable, Any] = {}
        for origin, recorded_at, revises in zip(self._origin, self._recorded, self._revises, strict=True):
            if revises:
                revised_from[origin] = min(recorded_at, revised_from.get(origin, recorded_at))
        is_version = [
            origin in revised_from and revised_from[origin] <= recorded_at
            for origin, recorded_at in zip(self._origin, self._recorded, strict=True)
        ]
        order = sorted(
            range(len(self._recorded)), key=lambda row: (self._recorded[row], not is_version[row], self._arrival[row])
        )
        for _, group in groupby(order, key=self._recorded.__getitem__):
            self._take(list(group), is_version)
        return self._outcomes, self._ends

    def _take(self, group: list[int], is_version: list[bool]) -> None:
        times: dict[Hashable, set[Any]] = {}
        for row in group:
            if not self._revises[row]:
                times.setdefault(self._origin[row], set()).add(self._observed[row])
        fresh = []
        for row in group:
            origin = self._origin[row]
            history, version = self._histories[origin], Version(self._observed[row], self._content[row], None, True, row)
            if is_version[row]:
                outcome, superseded, _ = history.take(version, self._status[row], self._number[row], times.get(origin, set()))
                self._supersede(superseded, self._recorded[row])
                self._outcomes[row] = "duplicate_message" if outcome == "repeated" else outcome
            elif history.has_message and history.has_original(version.observed_at):
                self._outcomes[row] = "duplicate_message"
            else:
                history.add(version)
                self._outcomes[row] = "counts"
            if self._outcomes[row] == "counts":
                fresh.append(version)
        for version in fresh:
            if version.counts and version.content in self._counting:
                self._outcomes[version.key] = "duplicate_reading"
                self._histories[self._origin[version.key]].forget(version)
            elif version.counts:
                self._counting.add(version.content)

    def _supersede(self, versions: list[Version], at: Any) -> None:
        for version in versions:
            self._ends[version.key] = at
            if self._recorded[version.key] != at:  # else it never counted
                self._counting.discard(version.content)


def _hashable(key: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(None if pd.isna(part) else part for part in key)


def join_derived(rows: pd.DataFrame, is_derived: np.ndarray) -> tuple[pd.DataFrame, np.ndarray]:
    """Return from when on each row counts, in ``recorded_at``, and which rows repeat another one.

    What was sent and repeats one that counts is no observation of its own. What is derived counts as long as what it is derived
    from: if the one that it repeats is superseded before, it takes its place.

    Args:
        rows: accepted rows in the order in which they count, perhaps with ``superseded_at``.
        is_derived: which of them are derived.
    """
    repeats: np.ndarray = rows.duplicated(CONTENT).to_numpy()
    if "superseded_at" not in rows or not rows["superseded_at"].notna().any():
        return rows, repeats
    recorded, until = to_microseconds(rows["recorded_at"]).copy(), counts_until(rows)
    alike = np.flatnonzero(rows.duplicated(CONTENT, keep=False).to_numpy())
    counts_to: dict[Any, int] = {}  # until when rows of this content count so far
    keys = rows.iloc[alike][CONTENT].itertuples(index=False, name=None)
    for recorded_at, row, key in sorted(
        zip(recorded[alike].tolist(), alike.tolist(), keys, strict=True), key=lambda one: one[:2]
    ):
        covered = counts_to.get(key, -UNBOUNDED)
        begin = max(recorded_at, covered) if is_derived[row] else recorded_at
        repeats[row] = begin < covered or (begin > recorded_at and begin >= until[row])
        if not repeats[row]:
            recorded[row] = begin
            counts_to[key] = int(until[row])
    times = pd.Series(recorded.astype("datetime64[us]"), rows.index).dt.tz_localize("UTC").astype(rows["recorded_at"].dtype)
    return rows.assign(recorded_at=times), repeats
