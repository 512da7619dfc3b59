"""Who is to blame: what callers do takes no deployment away, what an upstream does has another one asked."""

from __future__ import annotations

import asyncio
import json

from tests.support.app import CHAT, RunningGateway, make_config, running
from tests.support.upstream import Answer as UpstreamAnswer
from tests.support.upstream import (
    Behaviour,
    Body,
    Chat,
    Events,
    Repeated,
    ScriptedUpstream,
    SeenRequest,
    Status,
    encode_event,
    resolve,
)

ENOUGH_TO_OPEN = 5
ENDLESS = Events((Repeated(encode_event({"choices": [{"index": 0, "delta": {"content": "h" * 3000}}]})),))
TOTAL_SECONDS = 0.5


class EndlessStreams:
    """Streams without an end, and good plain answers."""

    def answer(self, request: SeenRequest) -> UpstreamAnswer:
        return resolve(ENDLESS if request.json.get("stream") else Chat(), request)


async def ask_without_reading(
    gateway: RunningGateway, upstream: ScriptedUpstream, number: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Ask for a stream, read nothing, and return once the gateway has let go of the upstream."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, limit=1024)
    body = json.dumps({**CHAT, "stream": True}).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    await upstream.closed_by_client(number)
    return reader, writer


async def read_to_the_error(reader: asyncio.StreamReader) -> bytes:
    told = b""
    while b'"error"' not in told[-4096:]:
        piece = await reader.read(65536)
        assert piece, "closed without a word"
        told += piece
    return told[-4096:]


async def test_callers_that_do_not_read_take_no_deployment_away(upstream: ScriptedUpstream) -> None:
    upstream.otherwise = EndlessStreams()
    async with running(make_config(upstream, timeouts={"total": TOTAL_SECONDS})) as gateway:
        for number in range(ENOUGH_TO_OPEN):
            reader, writer = await ask_without_reading(gateway, upstream, number)
            told = await read_to_the_error(reader)
            writer.close()

        answer = await gateway.chat()

    assert b'"caller_too_slow"' in told
    assert answer.status == 200


async def test_a_file_that_is_not_found_takes_no_deployment_away(upstream: ScriptedUpstream) -> None:
    quoting: Behaviour = Status(404, message="No such File object: my_model_notes.pdf", kind="invalid_request_error")
    upstream.script(quoting, Chat("still here"))
    async with running(make_config(upstream)) as gateway:
        missing = await gateway.chat()

        answer = await gateway.chat()

    assert missing.status == 502
    assert answer.status == 200


async def test_an_answer_that_makes_no_sense_is_given_by_another_deployment(upstream: ScriptedUpstream) -> None:
    upstream.otherwise = Body(b'{"choices":[{"message":{"content":"x","a":%s}}]}' % (b"[" * 300 + b"]" * 300))
    async with ScriptedUpstream() as sound, running(make_config(upstream, sound)) as gateway:
        answer = await gateway.chat(stream=True)

    assert answer.status == 200
    assert answer.headers["x-gateway-deployment"] == "up1/model"
