"""Merges: two subject keys that turned out to be of one person, from a time on, and unmerges, which undo that.

A merge says that one key counts for another, its survivor. The survivor may be merged in turn; then both count for the end of
the chain. What was recorded of a key counts for its survivor from the merge on, and not before: an observation counts as if it
were recorded at the later of its own time and the merge, until it is superseded or the merge is undone. From an unmerge on it
counts for its own key again, in the same way. So features as of a time never change.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Merge(NamedTuple):
    """A row of the journal: from ``recorded_at`` (microseconds) on, ``subject_id`` counts for ``into``; None: for itself."""

    recorded_at: int
    subject_id: str
    into: str | None


@dataclass(frozen=True, slots=True)
class Move:
    """What one merge or unmerge does: from ``recorded_at`` on, ``keys`` count for ``target`` and no longer for ``origin``."""

    recorded_at: int
    keys: frozenset[str]
    origin: str
    target: str


class Merges:
    """Which key counts for which other one, after all merges up to a time.

    >>> merges = Merges([Merge(10, "b", "a"), Merge(20, "c", "b"), Merge(30, "b", None)])
    >>> merges.survivor("c"), merges.keys("b"), merges.since("c")
    ('b', ['b', 'c'], 30)
    """

    def __init__(self, rows: Sequence[Merge]) -> None:
        """Apply rows in the order in which they were recorded. They never make a cycle."""
        self._into: dict[str, str] = {}
        self._members: dict[str, set[str]] = {}  # the keys merged into each, one step
        self._since: dict[str, int] = {}
        self.named: set[str] = set()  # every key of any row
        self.moves: list[Move] = []
        for row in rows:
            self._apply(row)

    def __bool__(self) -> bool:
        """Return whether there was any merge."""
        return bool(self.moves)

    def chain(self, subject: str) -> list[str]:
        """Return a key, the key that it is merged into, and so on; the last one is its survivor."""
        chain = [subject]
        while (into := self._into.get(chain[-1])) is not None:
            chain.append(into)
        return chain

    def survivor(self, subject: str) -> str:
        """Return the key that a key counts for, at the end of the chain; itself where it is not merged."""
        return self.chain(subject)[-1]

    def into(self, subject: str) -> str | None:
        """Return the key that a key was merged into, one step; None: it is not merged."""
        return self._into.get(subject)

    def keys(self, subject: str) -> list[str]:
        """Return the keys that count for a subject, in order; none where it is merged itself."""
        return [] if subject in self._into else sorted(self._below(subject))

    def since(self, subject: str) -> int:
        """Return since when a key has counted for its present survivor, microseconds; 0: it was never merged."""
        return self._since.get(subject, 0)

    def last_move(self, subject: str) -> int:
        """Return when a key last began or ceased to count for a subject, microseconds; 0: never."""
        return max((move.recorded_at for move in self.moves if subject in (move.origin, move.target)), default=0)

    def _apply(self, row: Merge) -> None:
        origin, keys = self.survivor(row.subject_id), self._below(row.subject_id)
        if (former := self._into.pop(row.subject_id, None)) is not None:
            self._members[former].discard(row.subject_id)
        if row.into is not None:
            self._into[row.subject_id] = row.into
            self._members.setdefault(row.into, set()).add(row.subject_id)
        self._since |= dict.fromkeys(keys, row.recorded_at)
        self.named |= {row.subject_id, row.into or row.subject_id}
        self.moves.append(Move(row.recorded_at, frozenset(keys), origin, self.survivor(row.subject_id)))

    def _below(self, subject: str) -> Collection[str]:
        """Return a key and those merged into it, over all steps."""
        found, waiting = {subject}, [subject]
        while waiting:
            members = self._members.get(waiting.pop(), set())
            found |= members
            waiting += members
        return found
