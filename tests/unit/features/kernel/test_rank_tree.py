"""Order statistics, compared with numpy."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vigil.features.kernel.rank_tree import compute_quartile, find_kth, rank_values, update_count

VALUES = st.lists(st.integers(-50, 50) | st.integers(-(10**6), 10**6), min_size=1, max_size=40)


@settings(deadline=None)  # the first call compiles
@given(VALUES, st.data())
def test_compute_quartile_equals_numpy_for_any_content_of_the_window(values, data):
    values = np.array(values, dtype=np.int64)
    distinct, rank = rank_values(values, 0)
    tree = np.zeros(len(distinct) + 1, dtype=np.int64)
    for each in rank:
        update_count(tree, each, 1)
    removed = data.draw(st.sets(st.integers(0, len(values) - 1), max_size=len(values) - 1))
    for i in removed:
        update_count(tree, rank[i], -1)
    remaining = np.sort(np.delete(values, list(removed)))
    assert [distinct[find_kth(tree, k) - 1] for k in range(len(remaining))] == remaining.tolist()
    for quarter in (1, 2, 3):
        assert compute_quartile(tree, distinct, len(remaining), quarter) == 4 * np.quantile(remaining, quarter / 4)


def test_rank_values_starts_at_1_and_gives_ties_the_same_rank():
    distinct, rank = rank_values(np.array([-90, 7, 3, 7, -2]), 1)
    assert distinct.tolist() == [-2, 3, 7]
    assert rank[1:].tolist() == [3, 2, 3, 1]
