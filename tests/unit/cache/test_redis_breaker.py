"""The breaker: when nobody waits for Redis any more, and when they do again."""

from __future__ import annotations

import asyncio

from gateway.cache.redis_breaker import MOST_FAILURES, Breaker
from tests.support.redis_tier import until


class Redis:
    """Is well or not; keeps what it was asked for and how long was waited before."""

    def __init__(self, answers: list[str]) -> None:
        self.answers = answers
        self.pauses: list[float] = []
        self.told: list[str] = []

    async def probe(self) -> str:
        return self.answers.pop(0)

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(0)

    def breaker(self, thrown: float = 0.5) -> Breaker:
        return Breaker(self.probe, self.told.append, lambda: thrown, self.sleep)


async def test_three_failures_open_it_and_are_told_once() -> None:
    redis = Redis([])
    breaker = redis.breaker()

    breaker.failed("timeout")
    breaker.failed("timeout")
    assert not breaker.is_open
    breaker.failed("timeout")
    breaker.failed("timeout")

    assert breaker.is_open
    assert redis.told == ["timeout"]
    await breaker.close()


async def test_the_first_success_is_told_once() -> None:
    redis = Redis([])
    breaker = redis.breaker()

    breaker.succeeded()
    breaker.succeeded()

    assert redis.told == [""]


async def test_a_refusal_opens_it_at_once() -> None:
    redis = Redis([])
    breaker = redis.breaker()
    breaker.succeeded()

    breaker.failed("connection refused", MOST_FAILURES)

    assert breaker.is_open
    assert redis.told == ["", "connection refused"]
    await breaker.close()


async def test_a_failure_in_a_hundred_never_opens_it() -> None:
    breaker = Redis([]).breaker()

    for _ in range(50):
        breaker.failed("timeout")
        for _ in range(99):
            breaker.succeeded()

    assert not breaker.is_open


async def test_every_second_failing_opens_it() -> None:
    breaker = Redis([]).breaker()

    for _ in range(5):
        breaker.failed("timeout")
        breaker.succeeded()

    assert breaker.is_open
    await breaker.close()


async def test_one_good_probe_closes_it() -> None:
    redis = Redis(["timeout", "LOADING", ""])
    breaker = redis.breaker()
    breaker.failed("timeout", MOST_FAILURES)

    await until(lambda: not breaker.is_open)

    assert redis.told == ["timeout", ""]
    assert redis.answers == []


async def test_failing_again_at_once_opens_it_at_once_and_for_longer() -> None:
    redis = Redis(["", ""])
    breaker = redis.breaker()
    breaker.failed("timeout", MOST_FAILURES)
    await until(lambda: not breaker.is_open)

    breaker.failed("timeout")

    assert breaker.is_open
    await until(lambda: not breaker.is_open)
    assert redis.pauses == [1.0, 1.5]


async def test_after_some_answers_it_is_as_patient_as_before() -> None:
    redis = Redis(["", ""])
    breaker = redis.breaker()
    breaker.failed("timeout", MOST_FAILURES)
    await until(lambda: not breaker.is_open)

    for _ in range(8):
        breaker.succeeded()
    breaker.failed("timeout")
    breaker.failed("timeout")

    assert not breaker.is_open
    breaker.failed("timeout")
    await until(lambda: not breaker.is_open)
    assert redis.pauses == [1.0, 1.0]


async def test_an_answer_that_was_asked_for_before_does_not_close_it() -> None:
    redis = Redis([])
    breaker = redis.breaker()
    breaker.failed("timeout", MOST_FAILURES)

    breaker.succeeded()

    assert breaker.is_open
    await breaker.close()


async def test_pauses_grow_and_stay_below_five_seconds() -> None:
    redis = Redis(["timeout"] * 8 + [""])
    breaker = redis.breaker(thrown=1.0)
    breaker.failed("timeout", MOST_FAILURES)

    await until(lambda: not breaker.is_open)

    assert redis.pauses[0] == 1.1
    assert redis.pauses == sorted(redis.pauses)
    assert 4 < redis.pauses[-1] < 4.45  # leaves half a second for the probe


async def test_pauses_differ_from_process_to_process() -> None:
    low, high = Redis([""]), Redis([""])
    breakers = [low.breaker(0.0), high.breaker(1.0)]

    for breaker in breakers:
        breaker.failed("timeout", MOST_FAILURES)
    await until(lambda: not any(breaker.is_open for breaker in breakers))

    assert (low.pauses, high.pauses) == ([0.9], [1.1])


async def test_closing_ends_the_probing() -> None:
    before = asyncio.all_tasks()
    breaker = Redis(["timeout"] * 1_000_000).breaker()
    breaker.failed("timeout", MOST_FAILURES)

    await breaker.close()

    assert asyncio.all_tasks() == before
