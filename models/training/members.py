"""Members of a risk model: the rows that each one learns from, and work on several of them at once."""

import ctypes
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
R = TypeVar("R")

_CPUS: Final = os.cpu_count() or 1
_CORES: Final = threading.BoundedSemaphore(_CPUS)
_PREPARING: Final = threading.Lock()


def draw_rows(
    rows: NDArray[np.int64], labels: NDArray[np.float64], max_negatives: int | None, seed: list[int]
) -> NDArray[np.int64]:
    """Return all rows with an event and at most so many without, in ascending order.

    Args:
        rows: positions among the labels, ascending.
        labels: 0 or 1 at those positions.
        max_negatives: how many rows without an event to draw; None: all.
        seed: of the draw.

    >>> draw_rows(np.array([0, 1, 3]), np.array([0.0, 1.0, 0.0, 1.0]), 0, [1]).tolist()
    [1, 3]
    """
    negative = rows[labels[rows] == 0]
    if max_negatives is None or len(negative) <= max_negatives:
        return rows
    drawn = np.random.default_rng(seed).choice(negative, max_negatives, replace=False)
    return np.sort(np.concatenate([rows[labels[rows] == 1], drawn]))


def map_on_cores(work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """Work on several items at once, each on one core, and yield the results in order.

    This is faster than threads within a member, which wait for each other. Callers in several threads share the cores: all of
    them together work on one item per core, because an item of a large cohort takes half a gigabyte.
    """

    def work_on_core(item: T) -> R:
        with _CORES:
            return work(item)

    with ThreadPoolExecutor(_CPUS) as pool:
        yield from pool.map(work_on_core, items)


def map_side_by_side(work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """Work on several items at once, and yield the results in order. An item may itself call :func:`map_on_cores`."""
    with ThreadPoolExecutor(_CPUS) as pool:
        yield from pool.map(work, items)


@contextmanager
def preparing_alone() -> Iterator[Callable[[], None]]:
    """Wait until no other member prepares its rows. The yielded function, or the end of the block, lets the next one begin.

    Sorting the values of a large cohort's rows into bins takes two gigabytes, and learning from them a quarter of one.
    """
    has_ended = False

    def end() -> None:
        nonlocal has_ended
        if not has_ended:
            has_ended = True
            release_memory()
            _PREPARING.release()

    _PREPARING.acquire()  # released by another function, so not by a with statement
    try:
        yield end
    finally:
        end()


def release_memory() -> None:
    """Give freed memory back to the system. The C library of Linux keeps it, gigabytes of a large cohort."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
