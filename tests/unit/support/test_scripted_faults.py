"""The faults of the scripted upstream: each must reach a client exactly as it is meant."""

from __future__ import annotations

import asyncio
import errno

import aiohttp
import pytest

from tests.support.contract import assert_stream_obeys_contract, join_content, parse_sse
from tests.support.upstream import (
    Chat,
    Cut,
    Delayed,
    Ending,
    Events,
    Gate,
    Hang,
    Held,
    Raw,
    Reset,
    ScriptedUpstream,
    Sliced,
    Stale,
    Truncated,
    black_hole,
    closed_port,
)

HELLO = [{"role": "user", "content": "Hello"}]
CHAT = {"model": "m", "messages": HELLO}
STREAM = {**CHAT, "stream": True}


async def test_a_reset_comes_before_any_byte(session: aiohttp.ClientSession, upstream: ScriptedUpstream) -> None:
    upstream.script(Reset())

    with pytest.raises(aiohttp.ClientOSError) as caught:
        await session.post("chat/completions", json=CHAT)

    assert caught.value.errno == errno.ECONNRESET


async def test_a_close_comes_amid_the_headers(session: aiohttp.ClientSession, upstream: ScriptedUpstream) -> None:
    upstream.script(Raw((b"HTTP/1.1 200 OK\r\nContent-Le", Ending.CLOSE)))

    with pytest.raises(aiohttp.ServerDisconnectedError):
        await session.post("chat/completions", json=CHAT)


@pytest.mark.parametrize("after", [0, 1, 3])
@pytest.mark.parametrize("ending", [Ending.RESET, Ending.CLOSE])
async def test_a_cut_stream_gives_its_first_events_and_then_fails(
    session: aiohttp.ClientSession, upstream: ScriptedUpstream, after: int, ending: Ending
) -> None:
    upstream.script(Cut(Chat(), after, ending))
    read = b""

    async with session.post("chat/completions", json=STREAM) as response:
        with pytest.raises(aiohttp.ClientError):
            async for piece in response.content.iter_any():
                read += piece

    assert response.status == 200
    assert len(parse_sse(read)) == after


async def test_a_plain_body_is_cut_where_the_slices_say(
    session: aiohttp.ClientSession, upstream: ScriptedUpstream
) -> None:
    upstream.script(Cut(Sliced(Chat(), 10), after=2))

    async with session.post("chat/completions", json=CHAT) as response:
        content_length = int(response.headers["Content-Length"])
        with pytest.raises(aiohttp.ClientError):
            await response.read()

    assert content_length > 100


async def test_a_truncated_body_is_shorter_than_its_length(
    session: aiohttp.ClientSession, upstream: ScriptedUpstream
) -> None:
    upstream.script(Truncated(missing=7))

    async with session.post("chat/completions", json=CHAT) as response:
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


async def test_a_stale_connection_is_reset_at_its_second_request_only(
    session: aiohttp.ClientSession, upstream: ScriptedUpstream
) -> None:
    upstream.script(Stale(), Stale(), Stale())

    async with session.post("chat/completions", json=CHAT) as first:
        await first.read()
    with pytest.raises(aiohttp.ClientOSError):
        await session.post("chat/completions", json=CHAT)
    async with session.post("chat/completions", json=CHAT) as third:
        await third.read()

    assert [request.connection for request in upstream.requests] == [0, 0, 1]
    assert (first.status, third.status) == (200, 200)


async def test_idle_connections_can_be_dropped(session: aiohttp.ClientSession, upstream: ScriptedUpstream) -> None:
    async with session.post("chat/completions", json=CHAT) as first:
        await first.read()

    upstream.drop_connections()
    with pytest.raises(aiohttp.ClientError):
        await session.post("chat/completions", json=CHAT)

    assert upstream.connections.opened == 1


async def test_nothing_comes_before_the_gate_of_a_delayed_answer(
    session: aiohttp.ClientSession, upstream: ScriptedUpstream
) -> None:
    gate = Gate()
    upstream.script(Delayed(Chat(), gate))

    asking = asyncio.create_task(session.post("chat/completions", json=CHAT))
    await gate.reached()
    was_answered = asking.done()
    gate.open()
    response = await asking

    assert not was_answered
    assert response.status == 200
    response.close()


async def test_a_held_stream_gives_the_events_before_its_gate(
    session: aiohttp.ClientSession, upstream: ScriptedUpstream
) -> None:
    gate = Gate()
    upstream.script(Held(Chat(("a", "b")), gate, before=2))

    async with session.post("chat/completions", json=STREAM) as response:
        await gate.reached()
        before = parse_sse(await response.content.readany())
        gate.open()
        after = parse_sse(await response.read())

    assert join_content(before) == "a"
    assert_stream_obeys_contract(before + after)


async def test_a_gate_before_every_event_lets_them_pass_one_by_one(
    session: aiohttp.ClientSession, upstream: ScriptedUpstream
) -> None:
    gate = Gate()
    upstream.script(Held(Events((b"data: 1\n\n", b"data: 2\n\n")), gate, before=None))
    read = []

    async with session.post("chat/completions", json=STREAM) as response:
        for _ in range(2):
            gate.let()
            read.append(await response.content.readany())
        gate.let()
        rest = await response.read()

    assert read == [b"data: 1\n\n", b"data: 2\n\n"]
    assert rest == b""


async def test_a_hang_lasts_until_the_client_leaves(session: aiohttp.ClientSession, upstream: ScriptedUpstream) -> None:
    upstream.script(Hang())

    asking = asyncio.create_task(session.post("chat/completions", json=CHAT))
    request = await upstream.request(0)
    asking.cancel()
    closed_at = await upstream.closed_by_client(0)
    await upstream.idle()

    assert closed_at >= request.at
    assert asking.cancelled()


async def test_a_stream_may_be_complete_and_its_connection_never_end(
    session: aiohttp.ClientSession, upstream: ScriptedUpstream
) -> None:
    upstream.script(Cut(Chat("x"), after=None, ending=Ending.HANG))
    read = b""

    async with session.post("chat/completions", json=STREAM) as response:
        while not read.endswith(b"data: [DONE]\n\n"):
            read += await response.content.readany()

        assert upstream.in_flight == 1
    assert await upstream.closed_by_client(0) > 0


async def test_a_closed_port_refuses() -> None:
    with closed_port() as port, pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_a_black_hole_neither_accepts_nor_refuses() -> None:
    with black_hole() as port, pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await asyncio.open_connection("127.0.0.1", port)
