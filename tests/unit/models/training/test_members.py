"""Work on several members at once: in order, one preparing at a time, and never waiting for each other for ever."""

import threading

import pytest

from vigil.models.training.members import map_on_cores, map_side_by_side, preparing_alone


def test_map_on_cores_within_map_side_by_side_gives_every_result_in_order():
    def work(item):
        return list(map_on_cores(lambda part: (item, part), range(5)))

    expected = [[(item, part) for part in range(5)] for item in range(7)]
    assert list(map_side_by_side(work, range(7))) == expected


def test_preparing_alone_lets_the_next_member_begin_once_the_rows_are_prepared():
    has_begun = threading.Event()

    def prepare_next():
        with preparing_alone():
            has_begun.set()

    follower = threading.Thread(target=prepare_next)
    with preparing_alone() as prepared:
        follower.start()
        assert not has_begun.wait(0.1)
        prepared()
        assert has_begun.wait(10)
        prepared()  # a learner may say so at every tree
    follower.join()


def test_preparing_alone_ends_with_an_error_too():
    with pytest.raises(ZeroDivisionError), preparing_alone():
        _ = 1 / 0
    with preparing_alone() as prepared:
        prepared()
