"""How often each caller may do something: a fixed window."""

import threading
import time
from collections import Counter
from typing import Final

_MOST_CALLERS: Final = 10_000  # remembered in one window; more are all the same caller


class RateLimit:
    """Limit on how often each caller may do something within a window of some seconds. Threads may share it."""

    def __init__(self, most: int, seconds: float = 1.0) -> None:
        self._most, self._seconds = most, seconds
        self._began = 0.0
        self._counts: Counter[str] = Counter()  # by caller, in the present window
        self._lock = threading.Lock()

    def hit(self, caller: str) -> bool:
        """Count once for a caller, and return whether that is within the limit."""
        return self._count(caller, 1) <= self._most

    def has_room(self, caller: str) -> bool:
        """Return whether a caller may do it once more."""
        return self._count(caller, 0) < self._most

    def _count(self, caller: str, times: int) -> int:
        now = time.monotonic()
        with self._lock:
            if now - self._began >= self._seconds:
                self._began = now
                self._counts.clear()
            name = caller if caller in self._counts or len(self._counts) < _MOST_CALLERS else ""
            count = self._counts[name] + times
            if times:
                self._counts[name] = count
            return count
