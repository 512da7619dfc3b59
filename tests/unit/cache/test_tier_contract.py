"""What every tier does alike, whatever it keeps its entries in."""

from __future__ import annotations

import asyncio
import random
import struct
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gateway.cache import (
    DiskTier,
    DiskTierSettings,
    Entry,
    MemoryTier,
    MemoryTierSettings,
    RedisTier,
    RedisTierSettings,
    Space,
    Tier,
    make_space,
)
from tests.support.redis_server import redis_server

START = 1_800_000_000.0
SMALL = make_space(scope="", label="lab/small", revision="1", fields={})
LARGE = make_space(scope="", label="lab/large", revision="1", fields={})


class Told:
    """What a tier told of look-ups, and of anything that went wrong."""

    def __init__(self) -> None:
        self.lookups: Counter[str] = Counter()
        self.wrong: list[tuple[str, ...]] = []

    def looked_up(self, tier: str, hits: int, misses: int) -> None:
        self.lookups.update({f"{tier} hits": hits, f"{tier} misses": misses})

    def evicted(self, tier: str, entries: int, reason: str) -> None: ...
    def is_up(self, tier: str, *, up: bool) -> None: ...

    def failed(self, tier: str, operation: str) -> None:
        self.wrong.append((tier, operation))

    def damaged(self, tier: str, what: str) -> None:
        self.wrong.append((tier, what))


class Bench:
    """A tier that is tried; `now` is its time in Unix seconds."""

    def __init__(self) -> None:
        self.now = START
        self.told = Told()
        self.tier: Tier

    async def put(self, *entries: Entry, space: Space = SMALL) -> None:
        """Put entries and wait until the last of them is there."""
        self.tier.put_many(entries, space)
        await self.until(entries[-1].key)

    async def until(self, key: bytes) -> None:
        async with asyncio.timeout(10):
            while key not in await self.tier.get_many([key]):
                await asyncio.sleep(0.005)

    async def get(self, *texts: str, space: Space = SMALL) -> dict[bytes, Entry]:
        return await self.tier.get_many([space.key(text) for text in texts])


@pytest.fixture(params=["memory", "disk", "redis"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench()
    async with AsyncExitStack() as stack:
        if request.param == "memory":
            bench.tier = MemoryTier(MemoryTierSettings(), bench.told, lambda: bench.now, lambda: 0.5)
        elif request.param == "disk":
            bench.tier = DiskTier(tmp_path, DiskTierSettings(), bench.told, lambda: bench.now, lambda: 0.5)
        else:
            server = await stack.enter_async_context(redis_server(tmp_path))
            settings = RedisTierSettings()
            bench.tier = RedisTier(server.url, settings, 1.0, bench.told, wall=lambda: bench.now, dice=lambda: 0.5)
        stack.push_async_callback(bench.tier.close)
        yield bench


def entry(text: str, *, space: Space = SMALL, numbers: int = 16, until: int = 0, tokens: int = 3) -> Entry:
    dice = random.Random(f"{space.label} {text} {numbers}")
    vector = struct.pack(f"<{numbers}f", *(dice.gauss(0, 1) for _ in range(numbers)))
    return Entry(space.key(text), space.id, vector, tokens, 1, int(START) - 5, until)


def texts_of(found: dict[bytes, Entry], texts: Sequence[str], space: Space = SMALL) -> list[str]:
    return [text for text in texts if space.key(text) in found]


async def test_what_was_put_comes_back_to_the_bit(bench: Bench) -> None:
    entries = [entry(str(number), numbers=1 + number * 37, until=int(START) + 1000 + number) for number in range(40)]
    await bench.put(*entries)

    found = await bench.tier.get_many([each.key for each in reversed(entries)])

    assert found == {each.key: each for each in entries}
    assert bench.told.wrong == []


async def test_as_much_as_the_largest_request_holds_is_kept_at_once(bench: Bench) -> None:
    entries = [entry(str(number), numbers=256) for number in range(2048)]
    await bench.put(*entries)

    found = await bench.tier.get_many([each.key for each in entries])

    assert found == {each.key: each for each in entries}


async def test_what_was_never_put_is_not_there_and_both_are_counted(bench: Bench) -> None:
    await bench.put(entry("a"), entry("b"))
    bench.told.lookups.clear()

    found = await bench.get("a", "nothing", "b")

    assert texts_of(found, ["a", "b", "nothing"]) == ["a", "b"]
    assert len(found) == 2
    assert bench.told.lookups == {f"{bench.tier.name} hits": 2, f"{bench.tier.name} misses": 1}


async def test_a_key_may_be_asked_for_more_than_once_and_none_at_all(bench: Bench) -> None:
    await bench.put(entry("a"))

    assert len(await bench.get("a", "a", "no", "a", "no")) == 1
    assert await bench.get() == {}


async def test_nothing_may_be_put(bench: Bench) -> None:
    bench.tier.put_many([], SMALL)
    await bench.put(entry("a"))

    assert len(await bench.get("a")) == 1
    assert bench.told.wrong == []


async def test_what_is_put_again_replaces_what_was_there(bench: Bench) -> None:
    await bench.put(entry("a", numbers=8, tokens=3))
    bench.tier.put_many([entry("a", numbers=4, tokens=4)], SMALL)
    await bench.put(entry("later"))

    (found,) = (await bench.get("a")).values()

    assert found == entry("a", numbers=4, tokens=4)


async def test_an_entry_is_not_found_after_the_end_that_it_has(bench: Bench) -> None:
    await bench.put(entry("a", until=int(START) + 60), entry("b"))

    before = await bench.get("a", "b")
    bench.now = START + 61
    after = await bench.get("a", "b")

    assert texts_of(before, ["a", "b"]) == ["a", "b"]
    assert texts_of(after, ["a", "b"]) == ["b"]


async def test_an_entry_that_is_over_when_it_comes_is_never_found(bench: Bench) -> None:
    await bench.put(entry("a", until=int(START) - 1), entry("b"))

    assert texts_of(await bench.get("a", "b"), ["a", "b"]) == ["b"]


async def test_one_model_is_forgotten_alone(bench: Bench) -> None:
    await bench.put(*(entry(str(number)) for number in range(5)))
    await bench.put(*(entry(str(number), space=LARGE) for number in range(3)), space=LARGE)

    count = await bench.tier.clear("lab/small")

    assert count == 5
    assert await bench.get(*map(str, range(5))) == {}
    assert len(await bench.get(*map(str, range(3)), space=LARGE)) == 3


async def test_everything_is_forgotten_and_the_tier_goes_on(bench: Bench) -> None:
    await bench.put(entry("a"))
    await bench.put(entry("a", space=LARGE), space=LARGE)

    count = await bench.tier.clear()
    empty = len(await bench.get("a")) + len(await bench.get("a", space=LARGE))
    await bench.put(entry("b"))

    assert (count, empty) == (2, 0)
    assert len(await bench.get("b")) == 1


async def test_forgetting_what_is_not_there_forgets_nothing(bench: Bench) -> None:
    await bench.put(entry("a"))

    assert await bench.tier.clear("lab/smal") == 0
    assert await bench.tier.clear("nobody/nothing") == 0
    assert len(await bench.get("a")) == 1


async def test_what_was_put_before_a_clearing_does_not_come_after_it(bench: Bench) -> None:
    await bench.put(entry("first"))
    bench.tier.put_many([entry(str(number)) for number in range(100)], SMALL)

    await bench.tier.clear()
    await bench.put(entry("last"))

    assert await bench.get("first", *map(str, range(100))) == {}


async def test_many_may_ask_at_once_and_each_gets_its_own(bench: Bench) -> None:
    texts = [str(number) for number in range(60)]
    await bench.put(*(entry(text) for text in texts))

    answers = await asyncio.gather(*(bench.get(text, "nothing") for text in texts))

    assert [list(answer.values()) for answer in answers] == [[entry(text)] for text in texts]


async def test_a_caller_that_leaves_disturbs_nobody_after_it(bench: Bench) -> None:
    texts = [str(number) for number in range(30)]
    await bench.put(*(entry(text) for text in texts))

    for pauses, text in enumerate(texts):
        leaving = asyncio.create_task(bench.get("other", *texts))
        for _ in range(pauses % 6):
            await asyncio.sleep(0)
        leaving.cancel()
        found = await bench.get(text)
        await asyncio.gather(leaving, return_exceptions=True)

        assert list(found.values()) == [entry(text)]


async def test_the_state_names_the_tier_and_is_without_trouble(bench: Bench) -> None:
    await bench.put(entry("a"))

    state = await bench.tier.state()

    assert (state.name, state.trouble) == (bench.tier.name, "")
    assert state.entries in (1, None)


async def test_a_closed_tier_is_a_miss_and_takes_nothing(bench: Bench) -> None:
    await bench.put(entry("a"))

    await bench.tier.close()
    bench.tier.put_many([entry("b")], SMALL)

    assert texts_of(await bench.get("a"), ["a"]) == []
    await bench.tier.close()
