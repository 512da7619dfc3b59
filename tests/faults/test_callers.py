"""Rows F57 to F62 and figure G5: callers that leave, and callers that do not read."""

from __future__ import annotations

import asyncio
import json
import socket
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack

import pytest

from tests.support.app import RunningGateway, make_config, running
from tests.support.drill import KINDS, Drill, Kind, ask
from tests.support.upstream import (
    DONE,
    Behaviour,
    Chat,
    Delayed,
    Embeddings,
    Events,
    Gate,
    Hang,
    Held,
    Repeated,
    ScriptedUpstream,
    Status,
    encode_event,
)

Note = Callable[[str, str], None]
Open = Callable[..., AbstractAsyncContextManager[Drill]]
PROMPT_SECONDS = 1.0  # within which the upstream of a caller that left must be free again
USUAL_FAILURES = 5  # until a breaker opens
OF_EVERY_NUMBER = ""  # the column of what does not depend on how many deployments there are
PIECE = "x" * 10_000
streams = pytest.mark.parametrize("kind", ["stream"])


def event_of(text: str, finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}
    return encode_event({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]})


def request_bytes(kind: Kind) -> bytes:
    """Return one whole request of this kind as it goes over the wire."""
    asked = {"input": "hello"} if kind == "embeddings" else {"messages": [{"role": "user", "content": "Hi"}]}
    content = json.dumps({"model": "small", **asked, **({"stream": True} if kind == "stream" else {})}).encode()
    path = "embeddings" if kind == "embeddings" else "chat/completions"
    head = f"POST /v1/{path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


async def begin(gateway: RunningGateway, sent: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(sent)
    await writer.drain()
    return reader, writer


async def is_all_free(gateway: RunningGateway, phase: str, callers: int = 1) -> bool:
    """Tell whether the callers that left are counted as such and nobody is being answered but this look."""
    figures = await gateway.figures()
    assert figures[("gateway_client_disconnect_total", phase)] == callers
    return figures[("gateway_in_flight_requests",)] == 1


@pytest.mark.fault("F57", "leaves in the middle of the request's body")
async def test_f57_half_a_request_never_reaches_an_upstream(open_drill: Open) -> None:
    async with open_drill(sound=False) as it:
        _, writer = await begin(it.gateway, request_bytes(it.kind)[:-5])
        while (await it.gateway.figures())[("gateway_in_flight_requests",)] < 2:
            await asyncio.sleep(0.001)

        writer.close()
        await writer.wait_closed()

        while (await it.gateway.figures())[("gateway_in_flight_requests",)] > 1:
            await asyncio.sleep(0.001)
        assert await is_all_free(it.gateway, "body")
        assert it.broken.requests == []
        it.note(OF_EVERY_NUMBER, "nothing; no upstream is asked")
    assert [line["status"] for line in it.gateway.lines() if line["method"] == "POST"] == [499]


@pytest.mark.parametrize("is_reset", [False, True], ids=["closes", "resets"])
@pytest.mark.parametrize("has_head", [False, True], ids=["before the head", "behind the head"])
@pytest.mark.fault("F58", "leaves before the first token")
async def test_f58_leaving_before_the_first_token_frees_the_upstream(
    open_drill: Open, has_head: bool, is_reset: bool
) -> None:
    async with open_drill(sound=True, timeouts={"first_event": 5, "plain_answer": 5}) as it:
        gate = Gate()
        it.broken.otherwise = (Held if has_head else Delayed)(it.broken.otherwise, gate)
        _, writer = await begin(it.gateway, request_bytes(it.kind))
        await gate.reached()

        writer.transport.abort() if is_reset else writer.close()

        await it.broken.closed_by_client(within_seconds=PROMPT_SECONDS)
        assert await is_all_free(it.gateway, "waiting")
        assert it.sound is not None
        assert it.sound.requests == []  # nobody waits for what it would say
        it.note(OF_EVERY_NUMBER, "nothing; the upstream is closed at once")
    (line,) = (line for line in it.gateway.lines() if line["method"] == "POST")
    assert (line["status"], line["deployment"], line["attempts"]) == (499, "up0/model", 1)


@streams
@pytest.mark.parametrize("is_reset", [False, True], ids=["closes", "resets"])
@pytest.mark.fault("F59", "leaves in the middle of a stream")
async def test_f59_leaving_a_stream_frees_the_upstream(open_drill: Open, is_reset: bool) -> None:
    async with open_drill(sound=True, timeouts={"between_events": 5}) as it:
        gate = Gate()
        it.broken.otherwise = Held(it.broken.otherwise, gate, before=2)
        reader, writer = await begin(it.gateway, request_bytes(it.kind))
        await gate.reached()
        await reader.readuntil(b"\n\n\r\n")

        writer.transport.abort() if is_reset else writer.close()

        await it.broken.closed_by_client(within_seconds=PROMPT_SECONDS)
        assert await is_all_free(it.gateway, "answer")
        it.note(OF_EVERY_NUMBER, "nothing more; the upstream is closed at once")
    (line,) = (line for line in it.gateway.lines() if line["method"] == "POST")
    assert (line["status"], line["deployment"], line["attempts"]) == (499, "up0/model", 1)


@pytest.mark.fault("F58", "leaves while it finds out whether a dead deployment is well again")
async def test_f58_the_next_caller_finds_out_instead(alone: Drill) -> None:
    whole, gate = alone.broken.otherwise, Gate()
    alone.broken.otherwise = Status(500)
    for _ in range(USUAL_FAILURES):
        await ask(alone.gateway, alone.kind)
    alone.clock.advance(2)
    alone.broken.otherwise = Delayed(whole, gate)
    _, writer = await begin(alone.gateway, request_bytes(alone.kind))
    await gate.reached()
    assert (await ask(alone.gateway, alone.kind)).code == "no_healthy_deployment"

    writer.close()
    await alone.broken.closed_by_client(USUAL_FAILURES, within_seconds=PROMPT_SECONDS)

    alone.broken.otherwise = whole
    assert (await alone.ask()).by == "broken"


@pytest.fixture
async def least_busy(kind: Kind) -> AsyncIterator[tuple[RunningGateway, ScriptedUpstream]]:
    """Serve `small` by two deployments, the less busy of which is asked; return the first one's upstream."""
    async with ScriptedUpstream() as first, ScriptedUpstream() as second:
        config = json.loads(make_config(first, second))
        config["models"]["small"]["strategy"] = "least_busy"
        async with running(json.dumps(config)) as gateway:
            yield gateway, first


@pytest.mark.parametrize("has_begun", [False, True], ids=["waiting", "in the answer"])
@pytest.mark.fault("F59", "leaves a deployment that is chosen by how busy it is")
async def test_f58_f59_a_deployment_is_no_busier_for_callers_that_left(
    least_busy: tuple[RunningGateway, ScriptedUpstream], kind: Kind, note: Note, has_begun: bool
) -> None:
    gateway, first = least_busy
    gate = Gate()
    behaviour: Behaviour = Embeddings() if kind == "embeddings" else Chat()
    first.otherwise = Held(behaviour, gate, before=2 if has_begun and kind == "stream" else 0)
    _, writer = await begin(gateway, request_bytes(kind))
    await gate.reached()
    busy = await ask(gateway, kind)

    writer.close()
    await first.closed_by_client(within_seconds=PROMPT_SECONDS)
    gate.open()
    free = await ask(gateway, kind)

    assert (busy.by, free.by) == ("sound", "broken")
    note(OF_EVERY_NUMBER, "nothing; the next caller is served by it")


@pytest.mark.fault("F60", "closes its sending half and waits")
async def test_f60_a_closed_half_counts_as_gone(open_drill: Open) -> None:
    """A FIN is all that TCP tells, whether the caller closed one half or, as nearly all do that leave, both.

    Only writing to it would tell the difference, and a plain answer has nothing to write until it is paid for. To
    free the upstream of those that left is worth more than to answer the few that half-close.
    """
    async with open_drill(sound=False, timeouts={"first_event": 5, "plain_answer": 5}) as it:
        it.broken.otherwise = Hang()
        reader, writer = await begin(it.gateway, request_bytes(it.kind))
        await it.broken.request()

        writer.write_eof()

        await it.broken.closed_by_client(within_seconds=PROMPT_SECONDS)
        assert await reader.read() == b""
        assert await is_all_free(it.gateway, "waiting")
        it.note(OF_EVERY_NUMBER, "counts as gone: the connection is closed without an answer")
        writer.close()


def connect_narrow(gateway: RunningGateway, at_once: int = 4096) -> socket.socket:
    """Return a connection that takes little at once."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, at_once)
    connection.connect(("127.0.0.1", gateway.port))
    connection.settimeout(0)
    return connection


@streams
@pytest.mark.fault("F61", "never reads")
async def test_f61_for_a_caller_that_does_not_read_the_upstream_is_read_no_further(open_drill: Open) -> None:
    async with open_drill(sound=False) as it:
        it.broken.otherwise = Events((Repeated(event_of(PIECE)),))
        with connect_narrow(it.gateway) as connection:
            await asyncio.get_running_loop().sock_sendall(connection, request_bytes(it.kind))
            await it.broken.request()
            transport = next(iter(it.broken._served))._writer.transport
            looks_in_a_row = 0
            while looks_in_a_row < 5:  # until the gateway reads no more
                await asyncio.sleep(0.01)
                looks_in_a_row = looks_in_a_row + 1 if transport.get_write_buffer_size() else 0

        await it.broken.closed_by_client(within_seconds=PROMPT_SECONDS)
        it.note(OF_EVERY_NUMBER, "the upstream is paused, and both are cut after 90 s")


NOT_READING = 10
MOST_HELD_FOR_NOBODY = NOT_READING * 512 * 1024  # what this test's own upstream keeps to send included


@streams
@pytest.mark.fault("F61", "never reads")
async def test_f61_little_is_held_for_callers_that_do_not_read(open_drill: Open) -> None:
    async with open_drill(sound=False) as it, AsyncExitStack() as stack:
        it.broken.otherwise = Events((Repeated(event_of(PIECE)),))
        tracemalloc.start()
        stack.callback(tracemalloc.stop)
        for _ in range(NOT_READING):
            connection = stack.enter_context(connect_narrow(it.gateway))
            await asyncio.get_running_loop().sock_sendall(connection, request_bytes(it.kind))
            await it.broken.request()
        held, before = 0, -1_000_000
        while abs(held - before) > 10_000:  # until nothing moves any more
            await asyncio.sleep(0.3)
            held, before = tracemalloc.get_traced_memory()[0], held

    assert held < MOST_HELD_FOR_NOBODY


SLOW_EVENTS = 800  # of 10 kB
MOST_HELD_BYTES = 3 * 1024 * 1024  # of 8 MB


@streams
@pytest.mark.fault("F62", "reads slowly")
async def test_f62_a_slow_caller_gets_all_of_it_and_costs_no_memory(open_drill: Open) -> None:
    async with open_drill(sound=False) as it:
        last = event_of("", "stop") + DONE
        it.broken.script(Events((event_of(PIECE), Repeated(event_of(PIECE), SLOW_EVENTS - 1), last)))
        loop = asyncio.get_running_loop()
        received, ending = 0, b""
        tracemalloc.start()
        with connect_narrow(it.gateway, 32_768) as connection:
            await loop.sock_sendall(connection, request_bytes(it.kind))
            while b"[DONE]" not in ending:
                piece = await loop.sock_recv(connection, 65_536)
                received += piece.count(b"x")
                ending = ending[-100:] + piece[-100:]
                await asyncio.sleep(0.001)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        print(f"peak {peak // 1024} KiB")
        other = await it.ask()

    assert received >= SLOW_EVENTS * len(PIECE)
    assert peak < MOST_HELD_BYTES
    assert other.status == 200


CALLERS = 40


# None: before the head; 0: before the first event; 2: in the middle, which only a stream has.
@pytest.mark.parametrize(
    ("kind", "events"), [(kind, events) for kind in KINDS for events in (None, 0)] + [("stream", 2)], indirect=["kind"]
)
@pytest.mark.fault("F58", "many leave at once")
async def test_g5_every_upstream_is_free_within_a_second_of_its_callers_end(
    open_drill: Open, events: int | None
) -> None:
    async with open_drill(sound=False, timeouts={"first_event": 5, "plain_answer": 5, "between_events": 5}) as it:
        gate, whole, loop = Gate(), it.broken.otherwise, asyncio.get_running_loop()
        it.broken.otherwise = Delayed(whole, gate) if events is None else Held(whole, gate, before=events)
        writers = [(await begin(it.gateway, request_bytes(it.kind)))[1] for _ in range(CALLERS)]
        await gate.reached(CALLERS)

        left_at = loop.time()
        for writer in writers:
            writer.close()

        took = [await it.broken.closed_by_client(number) - left_at for number in range(CALLERS)]
        print(f"p99 {sorted(took)[-1 - CALLERS // 100] * 1000:.1f} ms")
        assert max(took) < PROMPT_SECONDS
        it.note(OF_EVERY_NUMBER, "nothing; every upstream is closed at once")
