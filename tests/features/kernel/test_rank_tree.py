"""Order statistics against numpy, in whole numbers."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from features.kernel.rank_tree import add, kth, quarters, ranks_of

VALUES = st.lists(st.integers(-50, 50) | st.integers(-(10**6), 10**6), min_size=1, max_size=40)


@settings(deadline=None)  # the first call compiles
@given(VALUES, st.data())
def test_quantiles_of_whatever_is_in_the_window(values, data):
    values = np.array(values, dtype=np.int64)
    distinct, rank = ranks_of(values, 0)
    tree = np.zeros(len(distinct) + 1, dtype=np.int64)
    for each in rank:
        add(tree, each, 1)
    gone = data.draw(st.sets(st.integers(0, len(values) - 1), max_size=len(values) - 1))
    for i in gone:
        add(tree, rank[i], -1)
    left = np.sort(np.delete(values, list(gone)))
    assert [distinct[kth(tree, k) - 1] for k in range(len(left))] == left.tolist()
    for quarter in (1, 2, 3):
        assert quarters(tree, distinct, len(left), quarter) == 4 * np.quantile(left, quarter / 4)


def test_ranks_begin_at_one_and_ties_share_them():
    distinct, rank = ranks_of(np.array([-90, 7, 3, 7, -2]), 1)
    assert distinct.tolist() == [-2, 3, 7]
    assert rank[1:].tolist() == [3, 2, 3, 1]
