"""Raw scores of many rows by boosted trees, several times as fast as LightGBM and the same bit for bit.

LightGBM walks each row through each tree, and the processor guesses every turn. Here every node is compared with a whole block
of rows instead, and each row keeps a bit for each leaf that it can still reach. Where a row goes right, the leaves on the left
lose their bit. After all nodes of a tree, the row's leaf is the leftmost one left.

Lucchese C, et al. QuickScorer: a fast algorithm to rank documents with additive ensembles of regression trees. SIGIR 2015:
73-82.
"""

import weakref
from typing import Final, NamedTuple, Self

import lightgbm
import numba
import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Float32 = NDArray[np.float32]

_MAX_LEAVES: Final = 32  # bits of a row's set of leaves
_BLOCK: Final = 256  # rows compared at once; their features fit in the processor's cache
_CATEGORICAL, _DEFAULT_LEFT = 1, 2  # bits of a node's decision_type
_MISSING_NONE, _MISSING_NAN = 0, 8  # values of its bits 2 and 3
_MISSING: Final = 12
# The number of the lowest bit of a word x is DE_BRUIJN * (x & -x) >> 27, in a fixed order (Leiserson CE, Prokop H, Randall KH.
# Using de Bruijn sequences to index a 1 in a computer word. 1998).
_DE_BRUIJN: Final = 0x077CB531


class _Trees(NamedTuple):
    """Trees as arrays.

    Attributes:
        first: the nodes of tree t are first[t] to first[t + 1], shape (n_trees + 1,).
        feature: column that each node compares, shape (n_nodes,).
        threshold: the largest float32 that goes left, shape (n_nodes,).
        missing_left: whether a missing value goes left, shape (n_nodes,).
        reached: leaves that a row may still reach if it goes right, as bits, shape (n_nodes,).
        leaf: value of each leaf in the order of de Bruijn, shape (n_trees, 32).
    """

    first: NDArray[np.int64]
    feature: NDArray[np.int64]
    threshold: Float32
    missing_left: NDArray[np.bool_]
    reached: NDArray[np.uint32]
    leaf: Float64


class TreeScorer:
    """The trees of a booster, prepared for many rows."""

    def __init__(self, trees: _Trees) -> None:
        self._trees = trees

    @classmethod
    def of_booster(cls, booster: lightgbm.Booster) -> Self | None:
        """Prepare the trees of a booster; return None if only LightGBM can score them.

        These are trees with more than 32 leaves, categories, or zeros that count as missing.
        """
        trees = [_read_tree(text) for text in booster.model_to_string().split("\nTree=")[1:]]
        if any(tree is None for tree in trees):
            return None
        nodes = [tree for tree in trees if tree is not None]
        sizes = [len(tree.feature) for tree in nodes]
        joined = (np.concatenate([getattr(tree, name) for tree in nodes]) for name in _Trees._fields[1:])
        return cls(_Trees(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64), *joined))

    def score(self, matrix: Float32) -> Float64:
        """Return the raw score (log-odds) of each row, shape (n_rows,).

        Args:
            matrix: features, shape (n_rows, n_features).
        """
        out = np.zeros(len(matrix))
        _score(self._trees, matrix, out)
        return out


_SCORERS: Final[weakref.WeakKeyDictionary[lightgbm.Booster, TreeScorer | None]] = weakref.WeakKeyDictionary()


def score_many(booster: lightgbm.Booster, matrix: Float32) -> Float64:
    """Return the raw scores (log-odds) of many rows on one core, shape (n_rows,): those of ``Booster.predict``, bit for bit.

    Args:
        booster: a trained booster for two classes.
        matrix: its features, shape (n_rows, n_features).
    """
    if booster not in _SCORERS:
        _SCORERS[booster] = TreeScorer.of_booster(booster)
    scorer = _SCORERS[booster]
    if scorer is None:
        return np.asarray(booster.predict(matrix, raw_score=True, num_threads=1))
    return scorer.score(matrix)


def _read_tree(text: str) -> _Trees | None:
    """Read one tree of LightGBM's text format; ``first`` is empty. Return None if a :class:`TreeScorer` cannot hold it."""
    fields = dict(line.split("=", 1) for line in text.split("\n\n", 1)[0].splitlines()[1:])
    value = np.array(fields["leaf_value"].split(), dtype=np.float64)
    leaves = len(value)
    if leaves > _MAX_LEAVES or fields["num_cat"] != "0" or fields.get("is_linear", "0") != "0":
        return None
    if leaves == 1:
        split = left = right = kind = np.empty(0, dtype=np.int64)
        exact = np.empty(0)
    else:
        split, left, right, kind = (
            np.array(fields[name].split(), dtype=np.int64)
            for name in ("split_feature", "left_child", "right_child", "decision_type")
        )
        exact = np.array(fields["threshold"].split(), dtype=np.float64)
    missing = kind & _MISSING
    if not np.isin(missing, (_MISSING_NONE, _MISSING_NAN)).all() or (kind & _CATEGORICAL).any():
        return None
    order, reached = _order_leaves(left.tolist(), right.tolist())
    leaf = np.zeros((1, _MAX_LEAVES))
    bit = np.uint64(1) << np.arange(leaves, dtype=np.uint64)
    leaf[0, ((bit * np.uint64(_DE_BRUIJN)) & np.uint64(0xFFFFFFFF)) >> np.uint64(27)] = value[order]
    with np.errstate(over="ignore"):
        nearest = exact.astype(np.float32)
    # A value is compared as float64. It goes left if and only if it is at most the largest float32 below the threshold.
    threshold = np.where(nearest > exact, np.nextafter(nearest, np.float32(-np.inf)), nearest)
    # A model that saw no missing value takes one as 0.
    missing_left = np.where(missing == _MISSING_NAN, (kind & _DEFAULT_LEFT) > 0, exact >= 0)
    return _Trees(np.empty(0, np.int64), split, threshold.astype(np.float32), missing_left, reached, leaf)


def _order_leaves(left: list[int], right: list[int]) -> tuple[list[int], NDArray[np.uint32]]:
    """Return the leaves from left to right, and the bits of those that remain if a row goes right at each node."""
    order: list[int] = []
    reached = np.zeros(len(left), dtype=np.uint32)

    def visit(node: int) -> None:
        if node < 0:
            order.append(~node)
            return
        before = len(order)
        visit(left[node])
        lost = (1 << len(order)) - (1 << before)
        reached[node] = 0xFFFFFFFF & ~lost
        visit(right[node])

    visit(0 if left else -1)
    return order, reached


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _score(trees: _Trees, matrix: Float32, out: Float64) -> None:
    first, feature, threshold, missing_left, reached, leaf = trees
    columns = np.empty((matrix.shape[1], _BLOCK), dtype=np.float32)
    left = np.empty(_BLOCK, dtype=np.uint32)
    sums = np.empty(_BLOCK)
    for start in range(0, len(matrix), _BLOCK):
        rows = min(_BLOCK, len(matrix) - start)
        for row in range(rows):
            for column in range(matrix.shape[1]):
                columns[column, row] = matrix[start + row, column]
        sums[:] = 0.0
        for tree in range(len(first) - 1):
            left[:] = np.uint32(0xFFFFFFFF)
            for node in range(first[tree], first[tree + 1]):
                _compare(columns[feature[node]], threshold[node], missing_left[node], reached[node], left)
            _add_leaves(left, leaf[tree], sums)
        out[start : start + rows] = sums[:rows]


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def _compare(values: Float32, threshold: np.float32, missing_left: bool, reached: np.uint32, left: NDArray[np.uint32]) -> None:
    """Take the leaves on the left from rows that go right at a node."""
    if missing_left:
        for row in range(_BLOCK):
            left[row] &= reached if values[row] > threshold else np.uint32(0xFFFFFFFF)
    else:
        for row in range(_BLOCK):
            left[row] &= np.uint32(0xFFFFFFFF) if values[row] <= threshold else reached


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def _add_leaves(left: NDArray[np.uint32], leaf: Float64, sums: Float64) -> None:
    """Add to each sum the value of the row's leaf, which is its lowest bit."""
    for row in range(_BLOCK):
        lowest = np.uint32(left[row] & (~left[row] + np.uint32(1)))
        sums[row] += leaf[np.uint32(lowest * np.uint32(_DE_BRUIJN)) >> np.uint32(27)]
