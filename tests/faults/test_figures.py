"""What is owed when deployments die, counted over many calls; how long it takes is the bench's to measure."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from tests.support.app import RunningGateway, make_config, running
from tests.support.deployments import FakeClock
from tests.support.drill import ask
from tests.support.upstream import Behaviour, Reset, ScriptedUpstream, Status

CALLS = 10_000
AT_ONCE = 50


async def call_often(gateway: RunningGateway, calls: int, clock: FakeClock) -> list[int]:
    """Send so many chat calls, 50 at once, a hundredth of a second of the gateway's clock apart; return the statuses."""
    left = iter(range(calls))
    statuses: list[int] = []

    async def call_on() -> None:
        for _ in left:
            statuses.append((await ask(gateway, "chat")).status)
            clock.advance(0.01)

    await asyncio.gather(*(call_on() for _ in range(AT_ONCE)))
    return statuses


@pytest.mark.parametrize("dead", [Reset(), Status(500)], ids=["resets", "fails"])
async def test_with_one_of_three_dead_every_call_is_answered_and_hardly_one_touches_it(dead: Behaviour) -> None:
    clock = FakeClock()
    async with AsyncExitStack() as stack:
        upstreams = [await stack.enter_async_context(ScriptedUpstream()) for _ in range(3)]
        upstreams[0].otherwise = dead
        gateway = await stack.enter_async_context(running(make_config(*upstreams), clock=clock))

        statuses = await call_often(gateway, CALLS, clock)

    assert statuses.count(200) >= 0.9999 * CALLS
    before_opening = AT_ONCE  # as many as were on their way when the first of them failed
    assert len(upstreams[0].requests) - before_opening <= 0.01 * CALLS


async def test_a_total_outage_is_not_multiplied_by_attempts() -> None:
    clock = FakeClock()
    async with AsyncExitStack() as stack:
        upstreams = [await stack.enter_async_context(ScriptedUpstream()) for _ in range(3)]
        for upstream in upstreams:
            upstream.otherwise = Status(500)
        gateway = await stack.enter_async_context(running(make_config(*upstreams), clock=clock))

        statuses = await call_often(gateway, 2_000, clock)

    attempts = sum(len(upstream.requests) for upstream in upstreams)
    assert attempts <= 1.10 * len(statuses) + 3
    assert set(statuses) <= {502, 503}
    assert statuses.count(503) > 0.8 * len(statuses)  # refused at once, without asking anybody
