"""Limits on concurrent computation, and a short-lived cache: one caller's expensive requests do not delay the others."""

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

MAX_PENDING_PER_CALLER: Final = 10  # expensive requests of one caller that are in progress or waiting
_THREADS: Final = 2  # Python computes in one thread at a time; the other may wait for the disk


class CallerConcurrencyLimiter:
    """Limiter of expensive requests: one at a time is computed for each caller, and two for all callers together."""

    def __init__(self) -> None:
        self._threads = CapacityLimiter(_THREADS)
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)  # by caller
        self._pending: Counter[str] = Counter()  # by caller

    async def run(self, caller: Caller, work: Callable[[], T]) -> T:
        """Run a function in a thread when it is the caller's turn, and return its result.

        Raises:
            ProblemError: the caller has :data:`MAX_PENDING_PER_CALLER` requests pending already (429).
        """
        name = caller.sub
        if self._pending[name] >= MAX_PENDING_PER_CALLER:
            raise ProblemError(problems.too_many_at_a_time(MAX_PENDING_PER_CALLER))
        self._pending[name] += 1
        try:
            async with self._locks[name]:
                return await run_sync(work, limiter=self._threads)
        finally:
            self._pending[name] -= 1
            if not self._pending[name]:
                del self._pending[name], self._locks[name]


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
