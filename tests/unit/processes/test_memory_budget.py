"""Models share a memory: idle ones make room, least recently used first, and one at work is never ended."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.processes.memory import (
    MEBIBYTE,
    REST_SECONDS,
    Budget,
    Tenant,
    TooLarge,
    estimate,
    mebibytes,
    resident_bytes,
)
from gateway.processes.model_plan import parts_of, print_of


class House:
    """A budget of 100 bytes and its models; `evicted` are those that were ended, with the reason."""

    def __init__(self, limit: int | None = 100) -> None:
        self.budget = Budget(limit, turn_seconds=60.0)
        self.evicted: list[tuple[str, str]] = []
        self.waits = 0

    def tenant(self, name: str, takes: int) -> Tenant:
        def see_off(reason: str) -> None:
            self.evicted.append((name, reason))
            asyncio.get_running_loop().call_soon(self.budget.release, made)

        made = Tenant(name, see_off)
        made.takes = takes
        return made

    def loaded(self, name: str, takes: int, *, idle_since: float | None = None) -> Tenant:
        made = self.tenant(name, takes)
        assert self.budget.admit_if_free(made)
        if idle_since is not None:
            self.budget.note_idle(made, idle_since)
        return made

    def count_wait(self) -> None:
        self.waits += 1

    async def admit(self, tenant: Tenant, patience: float = 0.0) -> None:
        await asyncio.wait_for(self.budget.admit(tenant, self.count_wait, patience), 5)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                await asyncio.sleep(0)


async def test_without_a_limit_everything_fits() -> None:
    house = House(None)

    await house.admit(house.tenant("a", 10**15))
    await house.admit(house.tenant("b", 10**15))

    assert house.evicted == []


async def test_what_fits_beside_the_others_ends_none() -> None:
    house = House()
    house.loaded("a", 60, idle_since=1.0)

    await house.admit(house.tenant("b", 40))

    assert house.evicted == []


async def test_the_least_recently_used_go_first_and_no_more_than_needed() -> None:
    house = House()
    house.loaded("newest", 30, idle_since=3.0)
    house.loaded("oldest", 30, idle_since=1.0)
    house.loaded("middle", 30, idle_since=2.0)

    await house.admit(house.tenant("b", 60))

    assert house.evicted == [("oldest", "b"), ("middle", "b")]


async def test_a_busy_one_is_waited_for_and_no_idle_one_ended_in_vain() -> None:
    house = House()
    busy = house.loaded("busy", 60)
    house.loaded("idle", 30, idle_since=1.0)
    admitting = asyncio.create_task(house.admit(house.tenant("b", 80)))
    await house.until(lambda: house.waits)
    assert house.evicted == []

    house.budget.note_idle(busy, 2.0)
    await admitting

    assert house.evicted == [("idle", "b"), ("busy", "b")]


async def test_one_that_is_at_work_only_for_a_moment_is_waited_for_in_silence() -> None:
    house = House()
    busy = house.loaded("busy", 60)
    admitting = asyncio.create_task(house.admit(house.tenant("b", 80), patience=60.0))
    await asyncio.sleep(0)

    house.budget.note_idle(busy, 1.0)
    await admitting

    assert (house.evicted, house.waits) == ([("busy", "b")], 0)


async def test_one_that_ended_by_itself_leaves_its_room() -> None:
    house = House()
    other = house.loaded("other", 60)
    admitting = asyncio.create_task(house.admit(house.tenant("b", 80)))
    await house.until(lambda: house.waits)

    house.budget.release(other)
    await admitting

    assert house.evicted == []


async def test_two_that_wait_are_both_served_in_turn() -> None:
    house = House()
    busy = house.loaded("busy", 100)
    first, second = house.tenant("first", 70), house.tenant("second", 70)
    admitting = [asyncio.create_task(house.admit(tenant)) for tenant in (first, second)]
    await house.until(lambda: house.waits == 2)

    house.budget.release(busy)
    await house.until(lambda: any(task.done() for task in admitting))
    assert not all(task.done() for task in admitting)
    house.budget.note_idle(first if first.is_busy else second, 1.0)

    await asyncio.gather(*admitting)
    assert len(house.evicted) == 1


async def test_one_at_work_makes_room_when_it_has_had_its_turn_and_another_has_waited_as_long() -> None:
    house = House()
    house.budget = Budget(100, turn_seconds=0.3)
    loop = asyncio.get_running_loop()
    busy = house.loaded("busy", 60)
    house.budget.start_turn(busy, loading_seconds=0.0)
    began = loop.time()

    await house.admit(house.tenant("b", 80))

    assert house.evicted == [("busy", "b")]
    assert loop.time() - began >= 0.3


async def test_one_whose_caller_asks_one_thing_after_the_other_is_left_to_it_for_a_turn() -> None:
    house = House()
    house.budget = Budget(100, turn_seconds=0.6)
    loop = asyncio.get_running_loop()
    asked = house.loaded("asked", 60)
    house.budget.start_turn(asked, loading_seconds=0.0)
    began = loop.time()
    admitting = asyncio.create_task(house.admit(house.tenant("b", 80)))

    while not admitting.done():
        asked.is_busy = True
        await asyncio.sleep(0.01)
        house.budget.note_idle(asked, loop.time())
        await asyncio.sleep(0.01)

    assert house.evicted == [("asked", "b")]
    assert 0.6 <= loop.time() - began < 5.0


async def test_one_whose_callers_have_gone_makes_room_before_its_turn_is_over() -> None:
    house = House()
    loop = asyncio.get_running_loop()
    left = house.loaded("left", 60)
    house.budget.start_turn(left, loading_seconds=0.0)
    house.budget.note_idle(left, 1.0)
    began = loop.time()

    await house.admit(house.tenant("b", 80))

    assert house.evicted == [("left", "b")]
    assert loop.time() - began >= REST_SECONDS


async def test_one_that_took_long_to_load_is_left_to_its_callers_for_longer() -> None:
    house = House()
    for name, seconds in (("slow", 40.0), ("quick", 0.0)):
        made = house.loaded(name, 50)
        house.budget.start_turn(made, loading_seconds=seconds)
        house.budget.note_idle(made, 1.0 if name == "slow" else 2.0)

    await house.admit(house.tenant("b", 50))

    assert house.evicted == [("quick", "b")]


async def test_one_that_is_being_loaded_is_not_asked_to_leave() -> None:
    house = House()
    house.budget = Budget(100, turn_seconds=0.0)
    house.loaded("loading", 60)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await house.budget.admit(house.tenant("b", 80), house.count_wait, 0.0)

    assert (house.evicted, house.waits) == ([], 1)


async def test_one_stays_at_work_for_as_long_as_it_was_loaded() -> None:
    house = House()
    house.budget = Budget(100, turn_seconds=0.0)
    slow, quick = house.loaded("slow", 50), house.loaded("quick", 50)
    house.budget.start_turn(slow, loading_seconds=60.0)
    house.budget.start_turn(quick, loading_seconds=0.0)

    await house.admit(house.tenant("b", 50))

    assert house.evicted == [("quick", "b")]


async def test_none_is_seen_off_twice_or_in_the_place_of_one_that_leaves_already() -> None:
    house = House()
    leaving, idle = house.tenant("leaving", 50), house.tenant("idle", 50)
    told: list[str] = []
    leaving.see_off = told.append
    for one in (leaving, idle):
        assert house.budget.admit_if_free(one)
        house.budget.note_idle(one, 1.0)

    admitting = asyncio.create_task(house.admit(house.tenant("b", 50)))
    await house.until(lambda: house.waits)
    house.budget.note_idle(leaving, 2.0)  # it answered the last one that it had
    assert not admitting.done()
    house.budget.release(leaving)
    await admitting

    assert (told, house.evicted) == (["b"], [])


async def test_who_asked_first_gets_the_memory_first() -> None:
    house = House()
    busy = house.loaded("busy", 100)
    large, small = house.tenant("large", 100), house.tenant("small", 10)
    first = asyncio.create_task(house.admit(large))
    await house.until(lambda: house.waits == 1)
    second = asyncio.create_task(house.admit(small))
    await house.until(lambda: house.waits == 2)

    house.budget.release(busy)
    assert not house.budget.admit_if_free(house.tenant("wanted by nobody", 10))
    await first
    assert not second.done()
    house.budget.note_idle(large, 1.0)
    await second

    assert house.evicted == [("large", "small")]


async def test_what_can_never_fit_says_so_and_ends_none() -> None:
    house = House(100 * MEBIBYTE)
    house.loaded("idle", 30 * MEBIBYTE, idle_since=1.0)

    with pytest.raises(TooLarge, match="it takes about 101 MiB of memory, and 100 MiB are allowed"):
        await house.admit(house.tenant("b", 100 * MEBIBYTE + 1))

    assert house.evicted == []


async def test_nobody_is_ended_for_a_model_that_nobody_asked_for() -> None:
    house = House()
    house.loaded("idle", 60, idle_since=1.0)

    assert not house.budget.admit_if_free(house.tenant("b", 60))


async def test_a_model_that_takes_more_than_thought_ends_an_idle_one() -> None:
    house = House()
    house.loaded("idle", 40, idle_since=1.0)
    grown = house.loaded("grown", 40)

    house.budget.measure(grown, 90)
    await house.until(lambda: house.evicted)

    assert house.evicted == [("idle", "the limit of memory")]


async def test_too_much_at_work_is_ended_once_it_is_idle() -> None:
    house = House()
    one, other = house.loaded("one", 40), house.loaded("other", 40)
    house.budget.measure(one, 90)
    await asyncio.sleep(0)
    assert house.evicted == []

    house.budget.note_idle(other, 1.0)
    await house.until(lambda: house.evicted)

    assert house.evicted == [("other", "the limit of memory")]


def test_an_estimate_is_the_file_and_an_allowance(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"x" * MEBIBYTE)

    assert mebibytes(estimate(tmp_path / "m.gguf")) == 65


def test_all_parts_of_a_model_count(tmp_path: Path) -> None:
    parts = [tmp_path / f"m-{part:05}-of-00003.gguf" for part in (1, 2, 3)]
    for size, part in enumerate(parts, 1):
        part.write_bytes(b"x" * (size * MEBIBYTE))
    before = print_of(parts[0])

    taken = mebibytes(estimate(parts[0]))
    parts[2].unlink()
    after = print_of(parts[0])

    assert taken == 6 + 64
    assert before is not None
    assert after is not None
    assert (before[1], after[1]) == (6 * MEBIBYTE, 3 * MEBIBYTE)
    assert parts_of(parts[1]) == (parts[1],)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="this system does not say")
def test_a_process_is_measured() -> None:
    takes = resident_bytes(os.getpid())

    assert takes is not None
    assert takes > MEBIBYTE


def test_a_process_that_is_gone_has_no_size() -> None:
    assert resident_bytes(2**22 + 1) is None
