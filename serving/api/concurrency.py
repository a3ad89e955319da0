"""A fair share of the computing for each caller, and a short-lived cache."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Generic, TypeVar

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from vigil.serving.api import problems
from vigil.serving.api.problems import ProblemError
from vigil.serving.auth.tokens import Caller

T = TypeVar("T")
U = TypeVar("U")

MAX_WAIT_SECONDS: Final = 0.2  # until a question is computed; one that would wait longer is refused
MAX_OWN_SECONDS: Final = MAX_WAIT_SECONDS / 2  # of computing that one caller may have waiting
_THREADS: Final = 2  # Python computes in one thread at a time; the other may wait for the disk
_PART: Final = 25  # patients of one question that are computed before others have their turn
_FIRST_GUESS: Final = 0.01  # seconds of computing a patient
_WEIGHT: Final = 0.1  # of the latest part in the mean of those seconds


class Workload:
    """The questions that have to be computed, in threads: every caller has their turn, and what would wait too long is refused.

    Work is counted in patients, and the seconds that one takes are learned. A caller with much work waits for all of it; others
    wait for a part of it only.
    """

    def __init__(self) -> None:
        self._threads = CapacityLimiter(_THREADS)
        self._turns: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(_THREADS))  # by caller
        self._waiting: Counter[str] = Counter()  # patients, by caller
        self._seconds = _FIRST_GUESS

    async def run(self, caller: Caller, work: Callable[[], T], patients: int = 1) -> T:
        """Run a function in a thread when it is the caller's turn, and return its result.

        Args:
            caller: whose work it is.
            work: the function.
            patients: whose work it is as much as.

        Raises:
            ProblemError: too much of the caller's work is waiting already (429), or it would have to wait too long (503).
        """
        self._admit(caller.sub, patients)
        try:
            return await self._take_turn(caller.sub, work, patients)
        finally:
            self._settle(caller.sub, patients)

    async def run_parts(self, caller: Caller, work: Callable[[Sequence[T]], list[U]], items: Sequence[T]) -> list[U]:
        """Run a function of patients part by part, and return all its results. Raises as :meth:`run`."""
        self._admit(caller.sub, len(items))
        results: list[U] = []
        try:
            for first in range(0, len(items), _PART):
                part = items[first : first + _PART]
                results += await self._take_turn(caller.sub, partial(work, part), len(part))
        finally:
            self._settle(caller.sub, len(items))
        return results

    def _admit(self, name: str, patients: int) -> None:
        own = self._waiting[name]
        if own and self._lasts(own + patients) > MAX_OWN_SECONDS:
            raise ProblemError(problems.too_much_at_a_time(MAX_OWN_SECONDS))
        others = sum(min(waiting, max(own, _PART)) for other, waiting in self._waiting.items() if other != name)
        if self._lasts(own + others) > MAX_WAIT_SECONDS:
            raise ProblemError(problems.busy())
        self._waiting[name] += patients

    def _settle(self, name: str, patients: int) -> None:
        self._waiting[name] -= patients
        if not self._waiting[name]:
            del self._waiting[name]
            self._turns.pop(name, None)

    def _lasts(self, patients: int) -> float:
        return patients * self._seconds / _THREADS

    async def _take_turn(self, name: str, work: Callable[[], T], patients: int) -> T:
        async with self._turns[name]:
            return await run_sync(partial(self._measured, work, patients), limiter=self._threads)

    def _measured(self, work: Callable[[], T], patients: int) -> T:
        began = time.monotonic()
        try:
            return work()
        finally:
            self._seconds += _WEIGHT * ((time.monotonic() - began) / patients - self._seconds)


class ShortLivedCache(Generic[T]):
    """Cache of one value for a few seconds. If several tasks need a new value at once, one computes it and the others wait.

    Args:
        compute: returns a new value; it runs in a thread.
        seconds: how long a value is used.
    """

    def __init__(self, compute: Callable[[], T], seconds: float) -> None:
        self._compute, self._seconds = compute, seconds
        self._cached: tuple[float, T] | None = None  # when it was computed, and the value
        self._lock = asyncio.Lock()

    async def get(self) -> T:
        """Return a value of at most the stated age."""
        async with self._lock:
            if self._cached is None or time.monotonic() - self._cached[0] > self._seconds:
                value = await run_sync(self._compute)
                self._cached = time.monotonic(), value
            return self._cached[1]
