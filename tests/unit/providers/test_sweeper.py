"""One timer keeps all limits, and takes nobody else's cancellation for its own."""

from __future__ import annotations

import asyncio
import gc

import pytest

from gateway.providers.sweeper import INTERVAL_SECONDS, Sweeper, TimeLimit

SHORT = INTERVAL_SECONDS / 2
FOREVER = 3600.0


async def wait_for_ever() -> None:
    await asyncio.get_running_loop().create_future()


async def test_a_block_that_takes_too_long_ends_in_timeout_error() -> None:
    with pytest.raises(TimeoutError), TimeLimit(Sweeper(), SHORT):
        await wait_for_ever()

    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_block_that_ends_in_time_is_left_alone() -> None:
    sweeper = Sweeper()

    with TimeLimit(sweeper, SHORT):
        await asyncio.sleep(0)
    for _ in range(3):
        await sweep_once(sweeper)


async def sweep_once(sweeper: Sweeper) -> None:
    """Wait until the sweeper has looked once more."""
    looked = asyncio.get_running_loop().create_future()

    class Look:
        def sweep(self, now: float) -> None:
            if not looked.done():
                looked.set_result(now)

    with sweeper.watching(Look()):
        await looked


async def test_the_blocks_own_error_passes() -> None:
    with pytest.raises(KeyError), TimeLimit(Sweeper(), FOREVER):
        raise KeyError("ours")


async def test_somebody_elses_cancellation_passes_as_it_is() -> None:
    entered = asyncio.Event()

    async def work() -> None:
        with TimeLimit(Sweeper(), FOREVER):
            entered.set()
            await wait_for_ever()

    task = asyncio.create_task(work())
    await entered.wait()

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_at_the_same_time_as_the_limit_is_not_swallowed() -> None:
    sweeper = Sweeper()
    limit = TimeLimit(sweeper, FOREVER)
    entered = asyncio.Event()

    async def work() -> None:
        with limit:
            entered.set()
            await wait_for_ever()

    task = asyncio.create_task(work())
    await entered.wait()

    limit.sweep(asyncio.get_running_loop().time() + 2 * FOREVER)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_of_nested_limits_the_inner_one_ends_only_its_block() -> None:
    sweeper = Sweeper()

    with TimeLimit(sweeper, FOREVER):
        with pytest.raises(TimeoutError), TimeLimit(sweeper, SHORT):
            await wait_for_ever()
        await asyncio.sleep(0)


async def test_of_nested_limits_the_outer_one_passes_through_the_inner() -> None:
    sweeper = Sweeper()
    inner_raised: list[type[BaseException] | None] = []

    with pytest.raises(TimeoutError), TimeLimit(sweeper, SHORT):
        try:
            with TimeLimit(sweeper, FOREVER):
                await wait_for_ever()
        except BaseException as error:
            inner_raised.append(type(error))
            raise

    assert inner_raised == [asyncio.CancelledError]


async def test_nested_limits_that_end_together_raise_at_the_outer_one() -> None:
    sweeper = Sweeper()

    with pytest.raises(TimeoutError), TimeLimit(sweeper, SHORT), TimeLimit(sweeper, SHORT):
        await wait_for_ever()

    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_inside_asyncios_own_timeout_each_keeps_to_its_own() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(SHORT):
            with TimeLimit(Sweeper(), FOREVER):
                await wait_for_ever()


async def test_a_limit_that_was_extended_does_not_end_the_block() -> None:
    sweeper = Sweeper()

    with TimeLimit(sweeper, SHORT) as limit:
        limit.extend(FOREVER)
        for _ in range(3):
            await sweep_once(sweeper)


async def test_an_idle_sweeper_has_no_timer_and_wakes_up_again() -> None:
    sweeper = Sweeper()
    await sweep_once(sweeper)
    await asyncio.sleep(3 * INTERVAL_SECONDS)
    idle = sweeper._timer

    await sweep_once(sweeper)

    assert idle is None


async def test_a_limit_is_forgotten_when_its_block_ends() -> None:
    sweeper = Sweeper()

    with TimeLimit(sweeper, FOREVER):
        pass
    gc.collect()

    assert not sweeper._watched
