"""A fair share of the computing: turns of callers, and what is refused."""

import asyncio
import time

import pytest

from vigil.serving.api.concurrency import MAX_OWN_SECONDS, MAX_WAIT_SECONDS, Workload
from vigil.serving.api.problems import ProblemError
from vigil.serving.auth.rate import RateLimit
from vigil.serving.auth.tokens import Caller


def caller(name):
    return Caller(name, frozenset(), None, 0.0)


def slow(seconds=0.01):
    return lambda: time.sleep(seconds)


async def statuses(tasks):
    results = await asyncio.gather(*tasks, return_exceptions=True)
    return ["done" if result is None else result.problem.code for result in results]


def test_one_caller_may_have_only_some_work_waiting():
    async def ask():
        workload = Workload()
        return await statuses([workload.run(caller("greedy"), slow()) for _ in range(200)])

    codes = asyncio.run(ask())
    assert set(codes) == {"done", "too_much_at_a_time"}
    assert codes.index("too_much_at_a_time") == codes.count("done")  # the first ones are done


def test_work_of_many_callers_is_refused_before_it_would_wait_too_long():
    async def ask():
        workload = Workload()
        began = time.monotonic()
        waits = []

        async def one(number):
            await workload.run(caller(f"c{number}"), slow())
            waits.append(time.monotonic() - began)

        return await statuses([one(number) for number in range(300)]), max(waits)

    codes, longest = asyncio.run(ask())
    assert set(codes) == {"done", "busy"}
    assert longest < 5 * MAX_WAIT_SECONDS  # on a machine that is busy with other things


def test_a_question_about_many_patients_lets_others_in_between():
    order = []

    async def ask():
        workload = Workload()
        many = workload.run_parts(
            caller("batch"), lambda part: [order.append("batch"), time.sleep(0.02), part][2], list(range(500))
        )
        task = asyncio.create_task(many)
        await asyncio.sleep(0.01)
        for _ in range(3):
            await workload.run(caller("other"), lambda: order.append("other"))
        return await task

    assert asyncio.run(ask()) == list(range(500))
    assert order.count("batch") == 20
    assert max(index for index, name in enumerate(order) if name == "other") < 15


def test_after_the_work_is_done_or_failed_more_is_taken():
    async def ask():
        workload = Workload()

        def fail():
            raise ValueError("as expected")

        for _ in range(100):
            with pytest.raises(ValueError, match="as expected"):
                await workload.run(caller("a"), fail)
        await workload.run(caller("a"), slow(0))
        assert not workload._waiting

    asyncio.run(ask())


def test_a_large_question_is_taken_from_a_caller_who_has_none_waiting():
    async def ask():
        workload = Workload()
        large = workload.run_parts(caller("a"), list, list(range(500)))  # more than one's share of work
        with pytest.raises(ProblemError) as refused:
            await asyncio.gather(large, workload.run(caller("a"), slow(), patients=500))
        return refused.value.problem.code

    assert asyncio.run(ask()) == "too_much_at_a_time"
    assert MAX_OWN_SECONDS < MAX_WAIT_SECONDS


def test_rate_limit_begins_anew_with_each_window():
    limit = RateLimit(2, seconds=0.05)
    assert [limit.hit("a") for _ in range(3)] == [True, True, False]
    assert limit.hit("b")
    assert not limit.has_room("a")
    time.sleep(0.06)
    assert limit.has_room("a")
    assert limit.hit("a")
