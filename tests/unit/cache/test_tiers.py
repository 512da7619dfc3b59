"""The tiers are asked from above, filled upwards and cleared from below."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

import pytest

from gateway.cache import Entry, MemoryTierSettings, Space, TierName, TierState, make_space, pack
from gateway.cache.memory import MemoryTier
from gateway.cache.tiers import SWEEP_STEP, Tiers

SPACE = make_space(scope="", label="lab/small", revision="", fields={})
OTHER = make_space(scope="", label="lab/other", revision="", fields={})
START = 1_800_000_000


class Told:
    """What was told of look-ups and evictions, and which states were shown."""

    def __init__(self) -> None:
        self.lookups: list[tuple[str, int, int]] = []
        self.evictions: list[tuple[str, int, str]] = []
        self.shown: list[list[TierState]] = []
        self.trouble: Exception | None = None
        self.failures = 0

    def looked_up(self, tier: str, hits: int, misses: int) -> None:
        self.lookups.append((tier, hits, misses))

    def evicted(self, tier: str, entries: int, reason: str) -> None:
        self.evictions.append((tier, entries, reason))

    def failed(self, tier: str, operation: str) -> None: ...
    def damaged(self, tier: str, what: str) -> None: ...
    def is_up(self, tier: str, *, up: bool) -> None: ...

    def show(self, states: Iterable[TierState]) -> None:
        if self.trouble is not None:
            self.failures += 1
            raise self.trouble
        self.shown.append(list(states))


class Shelf:
    """A lower tier: a dictionary that remembers what it was asked."""

    def __init__(self, name: TierName) -> None:
        self.name = name
        self.held: dict[bytes, tuple[Entry, str]] = {}
        self.asked: list[list[bytes]] = []
        self.changes = 0
        self.is_closed = False
        self.meanwhile: Callable[[], Any] | None = None  # done after a look-up and before its answer

    async def get_many(self, keys: Sequence[bytes]) -> dict[bytes, Entry]:
        self.asked.append(list(keys))
        found = {key: self.held[key][0] for key in keys if key in self.held}
        if self.meanwhile is not None:
            await self.meanwhile()
        return found

    def put_many(self, entries: Sequence[Entry], space: Space) -> None:
        self.held.update((entry.key, (entry, space.label)) for entry in entries)

    async def clear(self, label: str | None = None) -> int:
        gone = [key for key, (_, its) in self.held.items() if label in (None, its)]
        for key in gone:
            del self.held[key]
        self.changes += 1
        return len(gone)

    async def generation(self) -> int:
        return self.changes

    async def labels(self) -> list[tuple[str, int, int]]:
        return [("lab/small", len(self.held), 100 * len(self.held))]

    async def iterate(self) -> AsyncIterator[tuple[str, bytes]]:
        for entry, label in self.held.values():
            yield label, pack(entry)

    async def flush(self) -> None: ...

    async def state(self) -> TierState:
        return TierState(self.name, len(self.held), None)

    async def close(self) -> None:
        self.is_closed = True


class Stack:
    """Three tiers, of which the upper one is real, with the clock it goes by."""

    def __init__(self) -> None:
        self.now = float(START)
        self.told = Told()
        self.memory = MemoryTier(MemoryTierSettings(max_mb=8), self.told, lambda: self.now, lambda: 0.5)
        self.disk, self.redis = Shelf("disk"), Shelf("redis")
        self.tiers = Tiers(self.memory, self.disk, self.redis, self.told)


@pytest.fixture
def stack() -> Stack:
    return Stack()


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def entry(number: int, *, created: int = START, space: Space = SPACE) -> Entry:
    return Entry(key(number), space.id, b"\0\0\200?" * 4, created=created)


async def test_what_is_remembered_is_in_every_tier(stack: Stack) -> None:
    stack.tiers.remember([entry(1)], SPACE)

    assert stack.tiers.recall_now([key(1)]) == {key(1): entry(1)}
    assert stack.disk.held == stack.redis.held == {key(1): (entry(1), "lab/small")}


async def test_each_tier_is_asked_for_what_is_still_missing(stack: Stack) -> None:
    stack.memory.put_many([entry(1)], SPACE)
    stack.disk.put_many([entry(1), entry(2)], SPACE)
    stack.redis.put_many([entry(2), entry(3)], SPACE)

    recalled = await stack.tiers.recall([key(1), key(2), key(3), key(4)], SPACE)

    assert recalled.entries == {key(number): entry(number) for number in (1, 2, 3)}
    assert recalled.tiers == {"memory": 1, "disk": 1, "redis": 1}
    assert stack.disk.asked == [[key(2), key(3), key(4)]]
    assert stack.redis.asked == [[key(3), key(4)]]


async def test_nobody_is_asked_for_nothing(stack: Stack) -> None:
    stack.memory.put_many([entry(1)], SPACE)

    await stack.tiers.recall([key(1)], SPACE)
    await stack.tiers.recall([], SPACE)

    assert (stack.disk.asked, stack.redis.asked) == ([], [])


async def test_what_a_lower_tier_has_goes_to_those_above_and_not_below(stack: Stack) -> None:
    stack.disk.put_many([entry(1)], SPACE)
    stack.redis.put_many([entry(2)], SPACE)

    await stack.tiers.recall([key(1), key(2)], SPACE)

    assert stack.tiers.recall_now([key(1), key(2)]) == {key(1): entry(1), key(2): entry(2)}
    assert stack.disk.held[key(2)] == (entry(2), "lab/small")
    assert key(1) not in stack.redis.held


async def test_every_occurrence_of_a_key_counts_and_is_asked_for_once(stack: Stack) -> None:
    stack.disk.put_many([entry(1)], SPACE)

    recalled = await stack.tiers.recall([key(1), key(2), key(1)], SPACE)

    assert recalled.tiers == {"disk": 2}
    assert stack.disk.asked == [[key(1), key(2)]]


async def test_what_is_too_old_for_a_request_is_looked_for_below(stack: Stack) -> None:
    stack.memory.put_many([entry(1, created=START - 60), entry(2, created=START - 60)], SPACE)
    stack.disk.put_many([entry(1, created=START - 10)], SPACE)

    recalled = await stack.tiers.recall([key(1), key(2)], SPACE, newer_than=START - 30.5)

    assert recalled.entries == {key(1): entry(1, created=START - 10)}
    assert recalled.tiers == {"disk": 1}
    assert stack.tiers.recall_now([key(1)]) == recalled.entries


async def test_memory_alone_counts_only_what_is_complete(stack: Stack) -> None:
    stack.memory.put_many([entry(1)], SPACE)

    partly = stack.tiers.recall_now([key(1), key(2)])
    told_of_a_part = list(stack.told.lookups)
    wholly = stack.tiers.recall_now([key(1), key(1)])

    assert (len(partly), len(wholly)) == (1, 1)
    assert (told_of_a_part, stack.told.lookups) == ([], [("memory", 2, 0)])


async def test_clearing_one_model_clears_it_in_every_tier(stack: Stack) -> None:
    stack.tiers.remember([entry(1), entry(2)], SPACE)
    stack.tiers.remember([entry(3, space=OTHER)], OTHER)

    gone = await stack.tiers.clear("lab/small")

    assert list(gone.items()) == [("memory", 2), ("disk", 2), ("redis", 2)]
    assert (await stack.tiers.recall([key(1), key(2), key(3)], SPACE)).entries == {key(3): entry(3, space=OTHER)}


async def test_clearing_without_a_model_clears_everything(stack: Stack) -> None:
    stack.tiers.remember([entry(1)], SPACE)
    stack.tiers.remember([entry(3, space=OTHER)], OTHER)

    gone = await stack.tiers.clear()

    assert gone == {"memory": 2, "disk": 2, "redis": 2}
    assert (await stack.tiers.recall([key(1), key(3)], SPACE)).entries == {}


async def test_what_was_read_before_a_clearing_does_not_come_back_after_it(stack: Stack) -> None:
    stack.redis.put_many([entry(1)], SPACE)
    stack.redis.meanwhile = stack.tiers.clear

    recalled = await stack.tiers.recall([key(1)], SPACE)

    assert recalled.entries == {key(1): entry(1)}
    assert (stack.tiers.recall_now([key(1)]), stack.disk.held) == ({}, {})


async def test_memory_is_dropped_when_another_process_cleared_the_disk(stack: Stack) -> None:
    stack.tiers.remember([entry(1)], SPACE)
    await stack.tiers.tend()
    kept = stack.tiers.recall_now([key(1)])

    await stack.disk.clear()
    await stack.tiers.tend()

    assert (len(kept), stack.tiers.recall_now([key(1)])) == (1, {})


async def test_what_is_over_is_swept_in_steps_and_the_states_are_shown(stack: Stack) -> None:
    many = 2 * SWEEP_STEP + 10
    stack.memory.put_many([entry(number) for number in range(many)], SPACE)
    stack.now += 400

    await stack.tiers.tend()

    steps = [(tier, "expired", entries) for tier, entries, _ in stack.told.evictions]
    assert steps == [("memory", "expired", count) for count in (SWEEP_STEP, SWEEP_STEP, 10)]
    assert [(state.name, state.entries) for state in stack.told.shown[-1]] == [("memory", 0), ("disk", 0), ("redis", 0)]


async def test_tending_goes_on_by_itself_until_the_tiers_are_closed(stack: Stack) -> None:
    stack.tiers.start()
    stack.tiers.start()
    while not stack.told.shown:
        await asyncio.sleep(0)

    await stack.tiers.close()

    assert stack.disk.is_closed
    assert stack.redis.is_closed
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_what_goes_wrong_in_tending_is_told_once_and_it_goes_on(
    stack: Stack, capfd: pytest.CaptureFixture[str]
) -> None:
    stack.told.trouble = OSError("no room for the figures")
    tiers = Tiers(stack.memory, stack.disk, stack.redis, stack.told, tend_seconds=0.001)
    tiers.start()
    while stack.told.failures < 3:
        await asyncio.sleep(0)
    stack.told.trouble = None
    while not stack.told.shown:
        await asyncio.sleep(0)

    await tiers.close()

    events = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [(event["event"], event["level"]) for event in events] == [("cache_tending_failed", "error")]
    assert "no room for the figures" in events[0]["error"]
    assert stack.disk.is_closed


async def test_without_tiers_nothing_is_remembered_and_nothing_fails() -> None:
    tiers = Tiers(None, None, None)
    tiers.start()
    tiers.remember([entry(1)], SPACE)
    await tiers.tend()

    assert tiers.names == ()
    assert tiers.recall_now([key(1)]) == {}
    assert (await tiers.recall([key(1)], SPACE)).entries == {}
    assert (await tiers.clear(), await tiers.states(), await tiers.models()) == ({}, [], ())
    await tiers.close()


async def test_the_disk_knows_what_is_kept_of_each_model(stack: Stack) -> None:
    stack.tiers.remember([entry(1), entry(2)], SPACE)

    assert await stack.tiers.models() == [("lab/small", 2, 200)]


async def test_without_memory_the_lower_tiers_serve(stack: Stack) -> None:
    tiers = Tiers(None, stack.disk, stack.redis)
    stack.redis.put_many([entry(1)], SPACE)

    first = await tiers.recall([key(1)], SPACE)
    second = await tiers.recall([key(1)], SPACE)

    assert (first.tiers, second.tiers) == ({"redis": 1}, {"disk": 1})
