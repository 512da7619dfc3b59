"""Conversations are counted beside the event loop, a few at a time, whoever leaves meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress

import pytest

from gateway.routing.counters import ChatCounters
from gateway.routing.windows import Uncounted
from gateway.tokens import Encodings, ModelTokenizer
from tests.support.deployments import make_deployments


class Held:
    """Work that ends when it is told to; `running` are those at it, `most` how many there ever were at one time."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.running = self.most = self.done = 0
        self._lock = threading.Lock()

    def work(self) -> None:
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        self.go_on.wait(20)
        with self._lock:
            self.running -= 1
            self.done += 1


async def tell_nothing(text: str, most: int | None) -> None:
    """Be a model whose process does not answer."""
    del text, most


def counters(*, own: bool = False) -> ChatCounters:
    tokenizer = ModelTokenizer(tell_nothing) if own else None
    return ChatCounters(Encodings(), lambda _: tokenizer)


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not is_so():
            await asyncio.sleep(0.005)


async def test_those_who_leave_while_they_are_counted_keep_their_turns_until_the_threads_are_done() -> None:
    counting, held = counters(), Held()
    (deployment,) = make_deployments("first/m")
    leaving = [asyncio.ensure_future(counting.run(deployment, held.work)) for _ in range(4)]
    await until(lambda: held.running == 1)

    leaving[0].cancel()  # which is being counted
    leaving[1].cancel()  # which waits
    for task in leaving[:2]:
        with suppress(asyncio.CancelledError):
            await task
    await asyncio.sleep(0.05)
    held.go_on.set()
    await asyncio.gather(*leaving[2:])

    assert held.most == 1
    assert held.done == 3  # who was waiting was never begun


async def test_what_fails_in_a_thread_is_raised_and_the_turn_is_over() -> None:
    counting = counters()
    (deployment,) = make_deployments("first/m")

    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            await counting.run(deployment, lambda: 1 // 0)

    assert await counting.run(deployment, lambda: "counted") == "counted"


async def test_models_that_do_not_answer_leave_threads_for_those_who_count_here() -> None:
    counting, held = counters(own=True), Held()
    hosted = counters()
    (deployment,) = make_deployments("first/m")
    waiting = [asyncio.ensure_future(counting.run(deployment, held.work)) for _ in range(50)]
    await until(lambda: held.running == 3)

    counted = await asyncio.wait_for(hosted.run(deployment, lambda: 7), 5)

    assert (counted, held.most) == (7, 3)
    held.go_on.set()
    await asyncio.gather(*waiting)


async def test_a_thousand_callers_are_counted_one_after_the_other() -> None:
    counting, held = counters(), Held()
    held.go_on.set()
    (deployment,) = make_deployments("first/m")

    await asyncio.gather(*(counting.run(deployment, held.work) for _ in range(1000)))

    assert (held.done, held.most) == (1000, 1)


async def test_those_who_wait_do_not_ask_a_model_again_that_just_did_not_tell() -> None:
    counting, held = counters(own=True), Held()
    (deployment,) = make_deployments("first/m")
    asked = 0

    def work() -> None:
        nonlocal asked
        asked += 1
        held.work()
        raise Uncounted

    waiting = [asyncio.ensure_future(counting.run(deployment, work)) for _ in range(50)]
    await until(lambda: held.running == 3)
    held.go_on.set()

    outcomes = await asyncio.gather(*waiting, return_exceptions=True)

    assert all(isinstance(outcome, Uncounted) for outcome in outcomes)
    assert asked < 10
    assert asked > 0
    with pytest.raises(Uncounted):
        await counting.run(deployment, work)
    assert asked > 3  # later ones ask again
