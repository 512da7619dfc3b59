"""The memory tier keeps what is used, within its bytes and its time."""

from __future__ import annotations

import gc
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import cycle

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.cache import Entry, MemoryTierSettings, make_space
from gateway.cache.memory import LARGEST_SHARE, MemoryTier, memory_of

MIB = 1024 * 1024
SPACE = make_space(scope="", label="lab/small", revision="", fields={})
OTHER = make_space(scope="", label="lab/other", revision="", fields={})
START = 1_800_000_000.0


@dataclass
class Counted:
    """Everything that a tier told, added up."""

    told: Counter[tuple[str, ...]] = field(default_factory=Counter)

    def looked_up(self, tier: str, hits: int, misses: int) -> None:
        self.told[tier, "hit"] += hits
        self.told[tier, "miss"] += misses

    def evicted(self, tier: str, entries: int, reason: str) -> None:
        self.told[tier, reason] += entries

    def failed(self, tier: str, operation: str) -> None:
        self.told[tier, operation] += 1

    def damaged(self, tier: str, what: str) -> None:
        self.told[tier, what] += 1

    def is_up(self, tier: str, *, up: bool) -> None:
        self.told[tier, f"up={up}"] += 1


class Time:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture
def counted() -> Counted:
    return Counted()


@pytest.fixture
def tier(clock: Time, counted: Counted) -> MemoryTier:
    """A tier of 1 MiB and 100 s, whose jitter is in the middle: none."""
    return make_tier(clock, counted)


def make_tier(clock: Time, counted: Counted, dice: Callable[[], float] = lambda: 0.5) -> MemoryTier:
    return MemoryTier(MemoryTierSettings(max_mb=1, ttl_seconds=100), counted, clock, dice)


def entry(number: int, *, dimensions: int = 4, space: bytes = SPACE.id, until: int = 0) -> Entry:
    return Entry(key(number), space, number.to_bytes(4, "little") * dimensions, 7, 0, int(START), until)


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def numbered(entries: dict[bytes, Entry]) -> list[int]:
    return sorted(int.from_bytes(found, "big") for found in entries)


async def test_what_was_put_is_found_by_waiting_and_at_once(tier: MemoryTier) -> None:
    tier.put_many([entry(1), entry(2)], SPACE)

    at_once = tier.get_many_now([key(2), key(3), key(1)])
    waited_for = await tier.get_many([key(2), key(3), key(1)])

    assert at_once == waited_for == {key(2): entry(2), key(1): entry(1)}


def test_hits_and_misses_are_counted_for_every_occurrence(tier: MemoryTier, counted: Counted) -> None:
    tier.put_many([entry(1)], SPACE)

    tier.get_many_now([key(1), key(1), key(2)])

    assert counted.told == {("memory", "hit"): 2, ("memory", "miss"): 1}


def test_an_entry_is_replaced_by_a_newer_one(tier: MemoryTier) -> None:
    tier.put_many([entry(1, dimensions=8)], SPACE)
    tier.put_many([entry(2, dimensions=4)], SPACE)
    before = tier.size

    tier.put_many([entry(1, dimensions=4)], SPACE)

    assert tier.get_many_now([key(1)])[key(1)].dimensions == 4
    assert tier.size == before - 4 * 4


def test_what_was_used_last_stays_when_room_is_made(tier: MemoryTier, counted: Counted) -> None:
    tier.put_many([entry(number, dimensions=4096) for number in range(60)], SPACE)
    tier.get_many_now([key(0), key(1)])

    tier.put_many([entry(number, dimensions=4096) for number in range(60, 110)], SPACE)

    left = numbered(tier.get_many_now([key(number) for number in range(110)]))
    assert left[:2] == [0, 1]
    assert left[2:] == list(range(110 - len(left) + 2, 110))
    assert counted.told["memory", "size"] == 110 - len(left)


def test_the_bound_is_kept_after_every_entry(tier: MemoryTier) -> None:
    sizes = cycle([1, 64, 1536, 3072])

    for number in range(3000):
        tier.put_many([entry(number, dimensions=next(sizes))], SPACE)

        assert tier.size <= MIB


def test_an_entry_that_would_push_out_too_many_others_is_not_kept(tier: MemoryTier) -> None:
    largest = MIB // LARGEST_SHARE
    spare = largest - memory_of(entry(1, dimensions=0))
    fits, too_large = entry(1, dimensions=spare // 4 - 12), entry(2, dimensions=spare // 4 + 12)
    tier.put_many([entry(3), fits, too_large], SPACE)

    found = numbered(tier.get_many_now([key(1), key(2), key(3)]))

    assert found == [1, 3]


@pytest.mark.parametrize(("dice", "seconds"), [(0.0, 90), (0.5, 100), (0.999999, 110)], ids=["least", "middle", "most"])
def test_an_entry_lives_for_its_time_and_up_to_a_tenth_more_or_less(
    clock: Time, counted: Counted, dice: float, seconds: float
) -> None:
    tier = make_tier(clock, counted, lambda: dice)
    tier.put_many([entry(1)], SPACE)

    clock.now = START + seconds - 0.01
    before = tier.get_many_now([key(1)])
    clock.now = START + seconds
    after = tier.get_many_now([key(1)])

    assert (len(before), len(after)) == (1, 0)
    assert counted.told["memory", "expired"] == 1


def test_a_hit_does_not_make_an_entry_live_longer(tier: MemoryTier, clock: Time) -> None:
    tier.put_many([entry(1)], SPACE)

    for _ in range(9):
        clock.now += 10
        assert tier.get_many_now([key(1)])
    clock.now += 10

    assert tier.get_many_now([key(1)]) == {}


def test_an_entry_with_an_end_of_its_own_goes_then(tier: MemoryTier, clock: Time) -> None:
    tier.put_many(
        [entry(1, until=int(START) + 5), entry(2, until=int(START) + 5000), entry(3, until=int(START))], SPACE
    )

    at_first = numbered(tier.get_many_now([key(1), key(2), key(3)]))
    clock.now = START + 5
    later = numbered(tier.get_many_now([key(1), key(2)]))
    clock.now = START + 100
    at_last = numbered(tier.get_many_now([key(1), key(2)]))

    assert (at_first, later, at_last) == ([1, 2], [2], [])


def test_a_clock_that_is_set_back_makes_nothing_live_longer(tier: MemoryTier, clock: Time) -> None:
    tier.put_many([entry(1), entry(2)], SPACE)

    clock.now = START - 3600

    assert tier.get_many_now([key(1)]) == {}
    assert tier.sweep(10) == 1


def test_a_sweep_looks_at_few_entries_and_drops_those_that_are_over(
    tier: MemoryTier, clock: Time, counted: Counted
) -> None:
    tier.put_many([entry(number) for number in range(10)], SPACE)
    clock.now = START + 50
    tier.put_many([entry(number) for number in range(10, 20)], SPACE)
    early = tier.sweep(4)
    clock.now = START + 100

    steps = [tier.sweep(4) for _ in range(4)]

    assert (early, steps) == (0, [4, 4, 2, 0])
    assert counted.told["memory", "expired"] == 10
    assert numbered(tier.get_many_now([key(number) for number in range(20)])) == list(range(10, 20))


async def test_after_everything_is_over_sweeping_leaves_nothing(clock: Time, counted: Counted) -> None:
    dice: Iterator[float] = cycle([0.9, 0.1, 0.5, 0.0])
    tier = make_tier(clock, counted, lambda: next(dice))
    tier.put_many([entry(number) for number in range(100)], SPACE)
    tier.get_many_now([key(number) for number in range(0, 100, 7)])
    clock.now = START + 110

    while tier.sweep(16):
        pass

    state = await tier.state()
    assert state.entries == 0


async def test_one_model_is_forgotten_and_the_others_stay(tier: MemoryTier) -> None:
    tier.put_many([entry(1), entry(2)], SPACE)
    tier.put_many([entry(3, space=OTHER.id)], OTHER)

    forgotten = await tier.clear("lab/small")

    assert forgotten == 2
    assert numbered(tier.get_many_now([key(1), key(2), key(3)])) == [3]


async def test_everything_is_forgotten_and_its_memory_given_back(tier: MemoryTier) -> None:
    empty = tier.size
    tier.put_many([entry(number) for number in range(100)], SPACE)

    forgotten = await tier.clear()

    state = await tier.state()
    assert (forgotten, state.entries, tier.size) == (100, 0, empty)
    assert await tier.clear() == 0


async def test_the_state_tells_entries_bytes_and_the_bound(tier: MemoryTier) -> None:
    tier.put_many([entry(1, dimensions=1536)], SPACE)

    state = await tier.state()

    assert (state.name, state.entries, state.most, state.trouble) == ("memory", 1, MIB, "")
    assert state.size is not None
    assert 6144 < state.size < 6144 + 1400


def test_a_hit_allocates_nothing_but_its_place_in_the_result(tier: MemoryTier) -> None:
    keys = [key(number) for number in range(64)]
    tier.put_many([entry(number) for number in range(64)], SPACE)
    result = tier.get_many_now(keys)
    gc.collect()
    gc.disable()
    try:
        before = sys.getallocatedblocks()
        result = tier.get_many_now(keys)
        allocated = sys.getallocatedblocks() - before
    finally:
        gc.enable()

    assert len(result) == 64
    assert allocated < 16  # the dictionary, and the counts of who is told


class Remembering(RuleBasedStateMachine):
    """A tier and a dictionary without a bound are told the same; what the tier has, the dictionary has as well."""

    def __init__(self) -> None:
        super().__init__()
        self.clock, self.counted = Time(), Counted()
        self.tier = make_tier(self.clock, self.counted)
        self.known: dict[bytes, tuple[float, Entry]] = {}
        self.put = 0

    @rule(
        numbers=st.lists(st.integers(0, 30), max_size=12),
        dimensions=st.sampled_from([1, 64, 4096, 8192]),
        is_other=st.booleans(),
        seconds=st.sampled_from([0, 0, 5, 500]),
    )
    def remember(self, numbers: list[int], dimensions: int, is_other: bool, seconds: int) -> None:
        space = OTHER if is_other else SPACE
        until = int(self.clock.now) + seconds if seconds else 0
        entries = [entry(number, dimensions=dimensions, space=space.id, until=until) for number in numbers]

        self.tier.put_many(entries, space)

        over = min(self.clock.now + 100, until or float("inf"))
        self.known.update((each.key, (over, each)) for each in entries)

    @rule(numbers=st.lists(st.integers(0, 40), max_size=12))
    def recall(self, numbers: list[int]) -> None:
        found = self.tier.get_many_now([key(number) for number in numbers])

        for its_key, its_entry in found.items():
            over, known = self.known[its_key]
            assert its_entry == known
            assert self.clock.now < over

    @rule(seconds=st.sampled_from([0.5, 4, 60, 200]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(most=st.integers(1, 20))
    def sweep(self, most: int) -> None:
        assert self.tier.sweep(most) <= most

    @rule(is_other=st.booleans())
    def clear(self, is_other: bool) -> None:
        space = OTHER if is_other else SPACE
        self.tier.clear_now(space.label)
        self.known = {its_key: kept for its_key, kept in self.known.items() if kept[1].space != space.id}

    @invariant()
    def the_bound_is_kept_and_nothing_is_counted_wrong(self) -> None:
        assert self.tier.size <= MIB
        held = [kept for _, kept in self.tier._held.values()]
        assert self.tier._used == sum(map(memory_of, held))


TestRemembering = Remembering.TestCase
