"""The Redis tier where all is well: what is put is found again, for as long as it should be, and can be forgotten."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.cache import Tier, TierState, pack
from gateway.cache.redis_words import PREFIX
from gateway.cache.redis_writing import MOST_WAITING_BYTES
from tests.support.certificates import Root
from tests.support.redis_server import RedisServer, behind_tls, redis_server
from tests.support.redis_tier import entry_of, redis_tier, space_of, stored, until


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with redis_server(tmp_path) as running:
        yield running


async def test_what_is_put_is_found_again_to_the_bit(server: RedisServer) -> None:
    entries = [entry_of(f"text {number}", numbers=1536) for number in range(700)]
    async with redis_tier(server.url) as (tier, counted):
        await stored(tier, entries)
        counted.seen.clear()

        found = await tier.get_many([entry.key for entry in reversed(entries)])

        assert found == {entry.key: entry for entry in entries}
        assert (counted.seen, counted.up) == ({"hits": 700, "misses": 0}, [True])


async def test_what_was_never_put_is_missed(server: RedisServer) -> None:
    known, unknown = entry_of("known"), entry_of("unknown")
    async with redis_tier(server.url) as (tier, counted):
        await stored(tier, [known])
        counted.seen.clear()

        found = await tier.get_many([unknown.key, known.key, unknown.key])

        assert found == {known.key: known}
        assert counted.seen == {"hits": 1, "misses": 1}


async def test_two_tiers_share_what_they_know(server: RedisServer) -> None:
    entry = entry_of("shared")
    async with redis_tier(server.url) as (one, _), redis_tier(server.url) as (other, _):
        await stored(one, [entry])

        assert await other.get_many([entry.key]) == {entry.key: entry}


async def test_it_is_a_tier_and_has_no_trouble(server: RedisServer) -> None:
    async with redis_tier(server.url) as (tier, _):
        as_tier: Tier = tier

        assert await as_tier.get_many([]) == {}
        assert await as_tier.state() == TierState("redis", None, None)


async def test_a_unix_socket_does_as_well(tmp_path: Path) -> None:
    entry = entry_of("local")
    async with (
        redis_server(tmp_path, "--unixsocket", str(tmp_path / "redis.sock")),
        redis_tier(f"unix://{tmp_path}/redis.sock?db=0") as (tier, _),
    ):
        await stored(tier, [entry])

        assert await tier.get_many([entry.key]) == {entry.key: entry}


@pytest.mark.parametrize(("thrown", "seconds"), [(0.0, 90), (0.5, 100), (1.0, 110)])
async def test_a_time_to_live_varies_by_a_tenth(server: RedisServer, thrown: float, seconds: int) -> None:
    entry = entry_of("text")
    async with redis_tier(server.url, ttl=100, dice=lambda: thrown) as (tier, _):
        await stored(tier, [entry])

        left = await server.ask("PTTL", PREFIX + entry.key)

        assert (seconds - 10) * 1000 < left <= seconds * 1000


async def test_an_entry_is_kept_no_longer_than_it_says(server: RedisServer) -> None:
    entry, late = entry_of("text", until=1_000_020), entry_of("late", until=1_000_000)
    async with redis_tier(server.url, ttl=100, wall=lambda: 1_000_000.0) as (tier, counted):
        tier.put_many([late], space_of())
        await stored(tier, [entry])

        left = await server.ask("PTTL", PREFIX + entry.key)

        assert 10_000 < left <= 20_000
        assert await server.ask("EXISTS", PREFIX + late.key) == 0
        assert counted.seen["write"] == 0


async def test_an_entry_over_its_time_is_missed_though_redis_has_it(server: RedisServer) -> None:
    entry = entry_of("text", until=1_000_020)
    async with redis_tier(server.url, wall=lambda: 1_000_020.0) as (tier, counted):
        await server.ask("SET", PREFIX + entry.key, pack(entry))

        assert await tier.get_many([entry.key]) == {}
        assert counted.seen == {"hits": 0, "misses": 1}


@pytest.mark.parametrize("value", [b"", b"x", pack(entry_of("text"))[:-1], pack(entry_of("other"))])
async def test_a_damaged_value_is_missed_counted_and_deleted(server: RedisServer, value: bytes) -> None:
    entry, sound = entry_of("text"), entry_of("sound")
    async with redis_tier(server.url) as (tier, counted):
        await stored(tier, [sound])
        await server.ask("SET", PREFIX + entry.key, value)
        counted.seen.clear()

        found = await tier.get_many([entry.key, sound.key])
        await tier.close()

        assert found == {sound.key: sound}
        assert counted.seen == {"hits": 1, "misses": 1, "entry": 1}
        assert await server.ask("EXISTS", PREFIX + entry.key) == 0


async def test_any_flipped_bit_is_a_miss(server: RedisServer) -> None:
    entry = entry_of("text", numbers=2)
    packed = pack(entry)
    async with redis_tier(server.url) as (tier, counted):
        for at in range(len(packed)):
            flipped = bytes((*packed[:at], packed[at] ^ 1, *packed[at + 1 :]))
            await server.ask("SET", PREFIX + entry.key, flipped)

            assert await tier.get_many([entry.key]) == {}

        assert counted.seen["entry"] == len(packed)
        assert counted.up == [True]


async def test_one_model_is_forgotten_and_others_stay(server: RedisServer) -> None:
    small = [entry_of(f"text {number}") for number in range(1200)]
    large = [entry_of(f"text {number}", label="openai/large") for number in range(5)]
    async with redis_tier(server.url) as (tier, _):
        await stored(tier, small)
        await stored(tier, large, "openai/large")
        await server.ask("SET", "somebody else's", "value")
        await server.ask("LPUSH", PREFIX + bytes(32), "not an entry")

        assert await tier.clear("openai/none") == 0
        assert await tier.clear("openai/small") == 1200
        assert len(await tier.get_many([entry.key for entry in small + large])) == 5


async def test_what_is_no_entry_is_not_forgotten_with_a_model(server: RedisServer) -> None:
    async with redis_tier(server.url) as (tier, counted):
        await server.ask("LPUSH", PREFIX + bytes(32), "not an entry")

        assert await tier.clear("openai/small") == 0
        assert await server.ask("EXISTS", PREFIX + bytes(32)) == 1
        assert counted.seen["write"] == 0


async def test_all_is_forgotten_but_what_is_not_ours(server: RedisServer) -> None:
    async with redis_tier(server.url) as (tier, _):
        await stored(tier, [entry_of("text"), entry_of("text", label="openai/large")])
        await server.ask("SET", "somebody else's", "value")
        await server.ask("LPUSH", PREFIX + bytes(32), "not an entry")

        assert await tier.clear() == 3
        assert await server.ask("KEYS", "*") == [b"somebody else's"]


@pytest.mark.parametrize("label", [None, "openai/small"])
@pytest.mark.parametrize("turns", [1, 2, 3, 5, 8])
async def test_what_is_being_written_when_it_is_forgotten_does_not_stay(
    server: RedisServer, turns: int, label: str | None
) -> None:
    async with redis_tier(server.url) as (tier, _):
        await stored(tier, [entry_of("first")])
        tier.put_many([entry_of(f"text {number}", numbers=2048) for number in range(200)], space_of())
        for _ in range(turns):
            await asyncio.sleep(0)

        await tier.clear(label)
        await tier.close()

    assert await server.ask("DBSIZE") == 0


async def test_what_there_is_no_room_for_is_left_out_and_counted(server: RedisServer) -> None:
    entries = [entry_of(f"text {number}", numbers=65_536) for number in range(80)]
    async with redis_tier(server.url) as (tier, counted):
        tier.put_many(entries, space_of())
        await tier.close()

        kept = await server.ask("DBSIZE")

        assert MOST_WAITING_BYTES // (66_000 * 4) <= kept < len(entries)
        assert counted.seen == {"write": 1}


async def test_closing_writes_what_waits(server: RedisServer) -> None:
    async with redis_tier(server.url) as (tier, counted):
        tier.put_many([entry_of(f"text {number}") for number in range(300)], space_of())

        await tier.close()

        assert await server.ask("DBSIZE") == 300
        assert counted.seen["write"] == 0


async def test_a_closed_tier_neither_reads_nor_writes(server: RedisServer) -> None:
    entry = entry_of("text")
    async with redis_tier(server.url) as (tier, _):
        await stored(tier, [entry])
        await tier.close()

        tier.put_many([entry._replace(tokens=2)], space_of())

        assert await tier.get_many([entry.key]) == {}
        assert await tier.clear() == 0
        clients = await server.ask("CLIENT", "LIST", "TYPE", "normal")
        assert str(clients).count("laddr=") == 1  # the one that asks


async def test_a_url_may_say_nothing_against_the_limits(server: RedisServer) -> None:
    entry = entry_of("text")
    url = f"{server.url}?socket_timeout=60&decode_responses=true&protocol=3&max_connections=9&retry_on_timeout=yes"
    async with redis_tier(url) as (tier, _):
        await stored(tier, [entry])

        assert await tier.get_many([entry.key]) == {entry.key: entry}


async def test_a_few_connections_serve_many_at_once(server: RedisServer) -> None:
    entries = [entry_of(f"text {number}") for number in range(200)]
    async with redis_tier(server.url, timeout_ms=5000) as (tier, counted):
        await stored(tier, entries)

        found = await asyncio.gather(*(tier.get_many([entry.key]) for entry in entries))

        assert found == [{entry.key: entry} for entry in entries]
        clients = await server.ask("CLIENT", "LIST", "TYPE", "normal")
        assert str(clients).count("laddr=") <= 5  # and ours
        assert counted.seen["read"] == 0


async def test_writing_ends_when_nothing_waits(server: RedisServer) -> None:
    async with redis_tier(server.url) as (tier, _):
        before = asyncio.all_tasks()

        await stored(tier, [entry_of("text")])

        await until(lambda: asyncio.all_tasks() <= before)


def test_an_unused_redis_imports_nothing() -> None:
    code = "import sys, gateway.cache.redis; sys.exit('redis' in sys.modules or 'hiredis' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_tls_does_as_well(server: RedisServer, tmp_path: Path) -> None:
    root, entry = Root(), entry_of("text")
    trusted = tmp_path / "root.pem"
    [certificate] = root.trusting().get_ca_certs(binary_form=True)
    trusted.write_text(ssl.DER_cert_to_PEM_cert(certificate))

    async with (
        behind_tls(server.port, root.serving()) as port,
        redis_tier(f"rediss://127.0.0.1:{port}?ssl_ca_certs={trusted}") as (tier, _),
        redis_tier(f"rediss://127.0.0.1:{port}") as (distrustful, counted),
    ):
        await stored(tier, [entry])

        assert await tier.get_many([entry.key]) == {entry.key: entry}
        assert await distrustful.get_many([entry.key]) == {}
        assert counted.up == [False]
        assert (await distrustful.state()).trouble == "TLS"
