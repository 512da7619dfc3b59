"""A defect of our own within an answer: the caller reads an event, or too little, and the end; never a second head."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Self

import aiohttp
import pytest
from aiohttp import web

from gateway.call import Attempt, Flaw, Record, Usage
from gateway.http import SURROUND, Answers, Drain, EnvelopeRunner, Hosts, Journal, Lifecycle
from gateway.http.lifecycle import RECORD
from gateway.logs import LogSink
from gateway.metrics import Metrics
from tests.support.contract import assert_error_obeys_contract
from tests.support.exchanges import make_call

FIRST = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'


class Breaking:
    """A stream whose reading fails as a defect of ours would."""

    body = b""
    vectors: tuple[bytes, ...] | None = None
    is_complete = False
    usage: Usage | None = None
    flaws: tuple[Flaw, ...] = ()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield FIRST
        raise KeyError("inner-workings")


@asynccontextmanager
async def serving_a_defect(records: list[Record], sink: LogSink) -> AsyncIterator[str]:
    """Serve an application whose one answer is such a stream."""
    drain = Drain()
    answers = Answers(drain, time.monotonic)

    async def answer(request: web.Request) -> web.StreamResponse:
        record = request[RECORD]
        records.append(record)
        record.attempts.append(Attempt("lab/tiny", "lab/tiny", time.monotonic()))
        call = make_call("small", stream=True)
        call.record = record
        return await answers.send(request, call, Breaking())

    async def answer_in_blocks(request: web.Request) -> web.StreamResponse:
        records.append(request[RECORD])
        return await answers.send_blocks(request, request[RECORD], aiter(Breaking()), 2 * len(FIRST))

    application = web.Application()
    application.add_routes([web.get("/", answer), web.get("/blocks", answer_in_blocks)])
    lifecycle = Lifecycle(Journal(Metrics(), sink), Hosts(), drain, time.monotonic, MappingProxyType({}))
    application[SURROUND] = lifecycle.around
    runner = EnvelopeRunner(application, handler_cancellation=True, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    await runner.cleanup()


async def test_it_is_an_event_and_the_end_of_the_body(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    records: list[Record] = []
    with (tmp_path_factory.mktemp("log") / "log").open("wb") as log:
        sink = LogSink(log)
        async with (
            serving_a_defect(records, sink) as url,
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session,
            session.get(url) as response,
        ):
            body = await response.read()
        sink.close()

    assert body.startswith(FIRST)
    event = json.loads(body.removeprefix(FIRST).removeprefix(b"data: "))
    assert assert_error_obeys_contract(event)["code"] == "internal_error"
    assert b"HTTP/1.1" not in body
    assert b"inner-workings" not in body
    assert "inner-workings" in capsys.readouterr().err
    assert (records[0].error, records[0].attempts[-1].outcome) == ("internal_error", "internal_error")


async def test_an_answer_of_a_known_length_is_cut_short(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    records: list[Record] = []
    with (tmp_path_factory.mktemp("log") / "log").open("wb") as log:
        sink = LogSink(log)
        async with serving_a_defect(records, sink) as url, asyncio.timeout(5):
            reader, writer = await asyncio.open_connection("127.0.0.1", int(url.split(":")[2].strip("/")))
            writer.write(b"GET /blocks HTTP/1.1\r\nHost: localhost\r\n\r\n")
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            writer.close()
        sink.close()

    assert head.startswith(b"HTTP/1.1 200")
    assert f"content-length: {2 * len(FIRST)}".encode() in head.lower()
    assert body == FIRST
    assert "inner-workings" in capsys.readouterr().err
    assert records[0].error == "internal_error"
