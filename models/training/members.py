"""Members of a risk model: the rows that each one learns from, and work on several of them at once."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
R = TypeVar("R")


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

    This is faster than threads within a member, which wait for each other.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(work, items)
