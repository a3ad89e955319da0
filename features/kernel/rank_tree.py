"""Order statistics of a sliding window. A Fenwick tree counts the observations of each distinct value in the window.

Fenwick PM. A new data structure for cumulative frequency tables. Softw Pract Exp 1994;24:327-336. Adding, removing and finding
the k-th smallest value each take time logarithmic in the number of distinct values, in any order of arrival.
"""

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]


class Ranks(NamedTuple):
    """The distinct values in ascending order, and the rank of each observation's value. The smallest value has rank 1."""

    distinct: Int64
    rank: Int64


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def rank_values(values: Int64, start: int) -> Ranks:
    """Rank the values from position ``start`` on. Earlier values get the rank 0."""
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
def update_count(tree: Int64, rank: int, change: int) -> None:
    """Add ``change`` observations of a rank, or remove them if negative. ``tree`` has one element more than there are ranks."""
    while rank < len(tree):
        tree[rank] += change
        rank += rank & -rank


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def find_kth(tree: Int64, k: int) -> int:
    """Return the rank of the k-th smallest observation, where k starts at 0."""
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
def compute_quartile(tree: Int64, values: Int64, n: int, quarter: int) -> int:
    """Return four times the quantile ``quarter`` / 4 of n observations.

    The quantile is linear between neighbours, so that the result is an exact integer.
    """
    position = (n - 1) * quarter
    low: int = values[find_kth(tree, position // 4) - 1]
    part = position % 4
    if part == 0:
        return 4 * low
    high: int = values[find_kth(tree, position // 4 + 1) - 1]
    return 4 * low + part * (high - low)
