"""Order statistics of a window that slides: how many readings of each distinct value are in it, as a Fenwick tree.

Fenwick PM. A new data structure for cumulative frequency tables. Softw Pract Exp 1994;24:327-336. Entering, leaving and
finding the k-th smallest each take time logarithmic in the number of distinct values, in any order of arrival.
"""

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]


class Ranks(NamedTuple):
    """The distinct values in ascending order, and the rank of each value among them (the smallest has rank 1)."""

    distinct: Int64
    rank: Int64


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def ranks_of(values: Int64, start: int) -> Ranks:
    """Rank the values from ``start`` on; those before have none."""
    ordered = np.sort(values[start:])
    distinct = 0
    for i in range(len(ordered)):
        if i == 0 or ordered[i] != ordered[i - 1]:
            ordered[distinct] = ordered[i]
            distinct += 1
    ordered = ordered[:distinct]
    rank = np.zeros(len(values), dtype=np.int64)
    rank[start:] = np.searchsorted(ordered, values[start:]) + 1
    return Ranks(ordered, rank)


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def add(tree: Int64, rank: int, change: int) -> None:
    """Let ``change`` readings of that rank enter (or leave, if negative). ``tree`` has one element more than ranks."""
    while rank < len(tree):
        tree[rank] += change
        rank += rank & -rank


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def kth(tree: Int64, k: int) -> int:
    """Rank of the k-th smallest reading, k from 0."""
    rank = 0
    bit = 1
    while 2 * bit < len(tree):
        bit *= 2
    while bit:
        if rank + bit < len(tree) and tree[rank + bit] <= k:
            rank += bit
            k -= tree[rank]
        bit //= 2
    return rank + 1


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def quarters(tree: Int64, values: Int64, n: int, quarter: int) -> int:
    """Four times the quantile at ``quarter`` / 4 of n readings, linear between neighbours: exact in whole numbers."""
    position = (n - 1) * quarter
    low: int = values[kth(tree, position // 4) - 1]
    part = position % 4
    if part == 0:
        return 4 * low
    high: int = values[kth(tree, position // 4 + 1) - 1]
    return 4 * low + part * (high - low)
