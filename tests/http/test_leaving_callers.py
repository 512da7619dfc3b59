"""A caller that leaves takes its upstream request with it; one that does not read or send is not waited for."""

from __future__ import annotations

import asyncio
import json
import socket

import aiohttp
import pytest

from tests.support.app import CHAT, RunningGateway, make_config, running
from tests.support.upstream import Chat, Delayed, Events, Gate, Hang, Held, Repeated, ScriptedUpstream, encode_event

PROMPT_SECONDS = 1.0  # within which an upstream must be free again
CHUNK = encode_event({"choices": [{"index": 0, "delta": {"content": "x" * 10_000}}]})


def request_bytes(**fields: object) -> bytes:
    content = json.dumps({**CHAT, **fields}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return head + f"Content-Length: {len(content)}\r\n\r\n".encode() + content


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_leaving_before_the_answer_closes_the_upstream(
    gateway: RunningGateway, upstream: ScriptedUpstream, stream: bool
) -> None:
    upstream.script(Hang())
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(request_bytes(stream=stream))
    await upstream.request()

    writer.close()

    await upstream.closed_by_client(within_seconds=PROMPT_SECONDS)


async def test_a_reset_closes_the_upstream_too(gateway: RunningGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(Hang())
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(request_bytes())
    await upstream.request()

    writer.transport.abort()

    await upstream.closed_by_client(within_seconds=PROMPT_SECONDS)


async def test_leaving_between_head_and_body_of_a_plain_answer_closes_the_upstream(
    gateway: RunningGateway, upstream: ScriptedUpstream
) -> None:
    gate = Gate()
    upstream.script(Held(Chat(), gate, before=0))
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(request_bytes())
    await gate.reached()

    writer.close()

    await upstream.closed_by_client(within_seconds=PROMPT_SECONDS)


@pytest.mark.parametrize("events", [0, 2], ids=["before the first event", "after two events"])
async def test_leaving_a_stream_closes_the_upstream(
    gateway: RunningGateway, upstream: ScriptedUpstream, events: int
) -> None:
    gate = Gate()
    upstream.script(Held(Chat(), gate, before=events))
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(request_bytes(stream=True))
    await gate.reached()
    if events:
        await reader.readuntil(b"\n\n\r\n")

    writer.close()

    await upstream.closed_by_client(within_seconds=PROMPT_SECONDS)


async def test_leaving_a_stream_that_flows_closes_the_upstream(
    gateway: RunningGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(Events((Repeated(CHUNK),)))
    async with aiohttp.ClientSession() as session:
        response = await session.post(gateway.base_url + "/chat/completions", json={**CHAT, "stream": True})
        await response.content.readuntil(b"\n\n")

        response.close()

    await upstream.closed_by_client(within_seconds=PROMPT_SECONDS)


async def test_a_caller_that_leaves_does_not_start_the_next_upstream(upstream: ScriptedUpstream) -> None:
    upstream.script(Hang())
    async with ScriptedUpstream() as second, running(make_config(upstream, second)) as gateway:
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(request_bytes())
        await upstream.request()

        writer.close()
        await upstream.closed_by_client(within_seconds=PROMPT_SECONDS)

    assert second.requests == []
    (line,) = gateway.lines()
    assert (line["status"], line["deployment"]) == (499, "up0/model")


async def test_leaving_in_the_middle_of_the_body_never_reaches_the_upstream(
    gateway: RunningGateway, upstream: ScriptedUpstream
) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(request_bytes()[:-5])
    await writer.drain()

    writer.close()

    assert (await gateway.ask("GET", "/healthz")).status == 200
    assert upstream.requests == []


async def test_many_that_leave_free_every_upstream_connection(
    gateway: RunningGateway, upstream: ScriptedUpstream
) -> None:
    upstream.otherwise = Hang()
    writers = []
    for number in range(30):
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(request_bytes(stream=bool(number % 2)))
        writers.append(writer)
    await upstream.request(29)

    for writer in writers:
        writer.close()

    for number in range(30):
        await upstream.closed_by_client(number, within_seconds=PROMPT_SECONDS)
    assert (await gateway.figures())["gateway_in_flight_requests",] == 1


async def test_a_caller_that_does_not_read_stops_the_upstream_instead_of_filling_memory(
    gateway: RunningGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(Events((Repeated(CHUNK),)))
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(0)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connection, ("127.0.0.1", gateway.port))
    await loop.sock_sendall(connection, request_bytes(stream=True))
    await upstream.request()
    transport = next(iter(upstream._served))._writer.transport
    looks_in_a_row = 0
    while looks_in_a_row < 5:  # until the gateway reads no more
        await asyncio.sleep(0.01)
        looks_in_a_row = looks_in_a_row + 1 if transport.get_write_buffer_size() else 0

    connection.close()

    await upstream.closed_by_client(within_seconds=PROMPT_SECONDS)


async def test_two_requests_sent_at_once_on_one_connection_are_answered_in_order(gateway: RunningGateway) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(request_bytes(model="nobody") + request_bytes())

    statuses = []
    for _ in range(2):
        head = await reader.readuntil(b"\r\n\r\n")
        statuses.append(head.split(b" ")[1])
        length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
        await reader.readexactly(int(length.split(b":")[1]))
    writer.close()

    assert statuses == [b"404", b"200"]


async def test_a_late_answer_after_a_slow_start_still_arrives(
    gateway: RunningGateway, upstream: ScriptedUpstream
) -> None:
    gate = Gate()
    upstream.script(Delayed(Chat("late"), gate))
    asking = asyncio.create_task(gateway.chat())
    await gate.reached()

    gate.open()

    assert (await asking).json["choices"][0]["message"]["content"] == "late"
