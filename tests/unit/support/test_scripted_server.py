"""The scripted upstream as a server: what it sees, whose turn it is, how it fails loudly and leaves nothing behind."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest

from tests.support.upstream import Chat, Gate, Hang, Held, ScriptedUpstream, SeenRequest, Status

CHAT = {"model": "m", "messages": []}
REQUEST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"


async def _send_raw(upstream: ScriptedUpstream, *pieces: bytes) -> bytes:
    """Send the pieces one by one on one connection, leave the writing side open, and return the first bytes back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", upstream.port)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0)
    head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return head


async def _post(session: aiohttp.ClientSession, model: str = "m") -> int:
    async with session.post("chat/completions", json={**CHAT, "model": model}) as response:
        await response.read()
        return response.status


async def test_a_request_is_seen_as_it_was_sent(session: aiohttp.ClientSession, upstream: ScriptedUpstream) -> None:
    async with session.post("chat/completions?a=%20b", data=b'{"model":"m","x": "\xc3\xa9"}', headers={"X-Y": "z"}):
        pass

    seen = upstream.requests[0]
    assert (seen.method, seen.path, seen.query) == ("POST", "/v1/chat/completions", "a=%20b")
    assert seen.headers["x-y"] == "z"
    assert seen.body == b'{"model":"m","x": "\xc3\xa9"}'
    assert seen.json == {"model": "m", "x": "é"}


async def test_a_chunked_request_is_put_together(upstream: ScriptedUpstream) -> None:
    head = REQUEST + b"Transfer-Encoding: chunked\r\n\r\n"

    await _send_raw(upstream, head, b'6;ext=1\r\n{"mode', b"\r\n", b'6\r\nl":"m"\r\n1\r\n}\r\n0\r\nTrailer: 1\r\n\r\n')

    assert upstream.requests[0].json == {"model": "m"}


async def test_a_request_may_come_byte_by_byte(upstream: ScriptedUpstream) -> None:
    whole = REQUEST + b"Content-Length: 13\r\n\r\n" + b'{"model":"m"}'

    await _send_raw(upstream, *(whole[place : place + 1] for place in range(len(whole))))

    assert upstream.requests[0].model == "m"


async def test_a_client_that_waits_to_continue_is_told_to(upstream: ScriptedUpstream) -> None:
    head = await _send_raw(upstream, REQUEST + b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n", b"{}")

    assert head == b"HTTP/1.1 100 Continue\r\n\r\n"


async def test_the_script_is_played_in_order_and_then_all_is_right(
    session: aiohttp.ClientSession, upstream: ScriptedUpstream
) -> None:
    upstream.script(Status(429), Status(500))

    statuses = [await _post(session) for _ in range(3)]

    assert statuses == [429, 500, 200]
    assert upstream.unplayed == 0


async def test_a_model_with_a_rule_leaves_the_script_alone(
    session: aiohttp.ClientSession, upstream: ScriptedUpstream
) -> None:
    upstream.script(Status(418))
    upstream.for_model("bad", Status(500), Status(503))

    statuses = [await _post(session, model) for model in ("bad", "bad", "bad", "good")]

    assert statuses == [500, 503, 503, 418]
    assert len(upstream.calls("bad")) == 3


async def test_a_path_with_a_rule_comes_before_all(session: aiohttp.ClientSession, upstream: ScriptedUpstream) -> None:
    upstream.for_path("/v1/models", Status(500))
    upstream.script(Status(418))

    async with session.get("models") as response:
        listed = response.status

    assert listed == 500
    assert await _post(session) == 418


async def test_a_function_may_choose_by_the_request(session: aiohttp.ClientSession, upstream: ScriptedUpstream) -> None:
    def choose(request: SeenRequest) -> Chat | Status:
        return Chat() if request.model == "good" else Status(404)

    upstream.otherwise = choose

    assert [await _post(session, model) for model in ("good", "other")] == [200, 404]


async def test_a_connection_is_kept_for_the_next_request(
    session: aiohttp.ClientSession, upstream: ScriptedUpstream
) -> None:
    for _ in range(3):
        await _post(session)

    assert [request.turn for request in upstream.requests] == [0, 1, 2]
    assert (upstream.connections.opened, upstream.connections.open) == (1, 1)


async def test_requests_are_counted_while_they_last(session: aiohttp.ClientSession, upstream: ScriptedUpstream) -> None:
    gate = Gate()
    upstream.otherwise = Held(Chat(), gate)

    asking = [asyncio.create_task(_post(session)) for _ in range(5)]
    await gate.reached(5)
    during = upstream.in_flight
    gate.open()
    await asyncio.gather(*asking)
    await upstream.idle()

    assert during == 5
    assert (upstream.in_flight, upstream.most_in_flight) == (0, 5)


async def test_who_closed_first_is_told_apart(session: aiohttp.ClientSession, upstream: ScriptedUpstream) -> None:
    upstream.script(Hang())

    asking = asyncio.create_task(_post(session))
    await upstream.request(0)
    upstream.drop_connections()
    with pytest.raises(aiohttp.ClientError):
        await asking

    with pytest.raises(AssertionError, match="the upstream closed the connection of request 0 first"):
        await upstream.closed_by_client(0)


async def test_a_client_that_goes_on_waiting_is_not_closed(
    session: aiohttp.ClientSession, upstream: ScriptedUpstream
) -> None:
    upstream.script(Hang())

    asking = asyncio.create_task(_post(session))
    with pytest.raises(AssertionError, match="connection of request 0 closed by the client"):
        await upstream.closed_by_client(0, within_seconds=0.05)

    asking.cancel()
    await upstream.closed_by_client(0)


async def test_a_client_that_leaves_amid_its_request_is_no_failure() -> None:
    async with ScriptedUpstream() as upstream:
        _, writer = await asyncio.open_connection("127.0.0.1", upstream.port)
        writer.write(REQUEST + b"Content-Length: 100\r\n\r\nabc")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    assert upstream.requests == []


async def test_an_own_exception_fails_the_test_that_uses_it() -> None:
    def fail(request: SeenRequest) -> Chat:
        raise RuntimeError(f"no answer for {request.model}")

    with pytest.raises(AssertionError, match="RuntimeError: no answer for m") as caught:
        async with ScriptedUpstream() as upstream, aiohttp.ClientSession(base_url=upstream.base_url + "/") as session:
            upstream.script(fail)
            with pytest.raises(aiohttp.ClientError):
                await _post(session)

    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/2\r\n\r\n",
        REQUEST + b"no colon\r\n\r\n",
        REQUEST + b"Content-Length: -1\r\n\r\n",
        REQUEST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        REQUEST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        REQUEST + b"Transfer-Encoding: chunked\r\n\r\nx\r\n",
    ],
)
async def test_a_request_that_is_not_http_fails_the_test(sent: bytes) -> None:
    with pytest.raises(AssertionError, match="MalformedRequest"):
        async with ScriptedUpstream() as upstream:
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await _send_raw(upstream, sent)


async def test_it_speaks_over_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "upstream.sock"
    async with ScriptedUpstream(socket_path=path) as upstream:
        connector = aiohttp.UnixConnector(str(path))
        async with aiohttp.ClientSession(base_url="http://local/v1/", connector=connector) as session:
            status = await _post(session)

    assert status == 200
    assert upstream.requests[0].headers["Host"] == "local"


async def test_a_port_can_be_taken_again_at_once() -> None:
    async with ScriptedUpstream() as first, aiohttp.ClientSession(base_url=first.base_url + "/") as session:
        await _post(session)

    async with (
        ScriptedUpstream(port=first.port) as second,
        aiohttp.ClientSession(base_url=first.base_url + "/") as again,
    ):
        status = await _post(again)

    assert status == 200
    assert second.connections.opened == 1


async def test_nothing_is_left_behind() -> None:
    gate = Gate()
    before = _count_what_lives()

    async with ScriptedUpstream() as upstream:
        upstream.otherwise = Held(Chat(), gate)
        clients = [await asyncio.open_connection("127.0.0.1", upstream.port) for _ in range(20)]
        for _, writer in clients:
            writer.write(REQUEST + b"Content-Length: 2\r\n\r\n{}")
        await gate.reached(20)
        opened = upstream.connections.open
    for _, writer in clients:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    assert opened == 20
    assert upstream.connections.open == 0
    assert _count_what_lives() == before


def _count_what_lives() -> tuple[int, int, int]:
    """Return the tasks, file descriptors and threads of this process."""
    return len(asyncio.all_tasks()), len(list(Path("/proc/self/fd").iterdir())), threading.active_count()
