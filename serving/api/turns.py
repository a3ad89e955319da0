"""What takes long or anybody may ask is computed for few at a time: who asks much does not keep the others waiting."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from serving.api import problems
from serving.api.problems import ProblemError
from serving.auth.tokens import Caller

T = TypeVar("T")

MOST_OF_ONE_CALLER: Final = 10  # answers that one caller may wait for at a time


class Turns:
    """Callers take turns: of each one answer is computed at a time, and of all callers two."""

    def __init__(self) -> None:
        self._all = CapacityLimiter(2)  # Python computes in one thread at a time; another waits for the disk
        self._own: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._waiting: Counter[str] = Counter()

    async def take(self, caller: Caller, work: Callable[[], T]) -> T:
        """Compute an answer in a thread when it is the caller's turn.

        Raises:
            ProblemError: they wait for too many already (429).
        """
        name = caller.subject
        if self._waiting[name] >= MOST_OF_ONE_CALLER:
            raise ProblemError(problems.too_many_at_a_time(MOST_OF_ONE_CALLER))
        self._waiting[name] += 1
        try:
            async with self._own[name]:
                return await run_sync(work, limiter=self._all)
        finally:
            self._waiting[name] -= 1
            if not self._waiting[name]:
                del self._waiting[name], self._own[name]


class Fresh(Generic[T]):
    """A value that is made anew at most once in a while: of many who ask at once the first makes it, the others wait for it."""

    def __init__(self, make: Callable[[], T], seconds: float) -> None:
        self._make, self._seconds = make, seconds
        self._made: tuple[float, T] | None = None
        self._making = asyncio.Lock()

    async def get(self) -> T:
        """The value, at most so many seconds old."""
        async with self._making:
            if self._made is None or time.monotonic() - self._made[0] > self._seconds:
                value = await run_sync(self._make)
                self._made = time.monotonic(), value
            return self._made[1]
