"""Plain answers of an OpenAI-wire upstream: relayed as they are when right, a clear error when wrong."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from gateway.errors import (
    ContextLengthExceeded,
    GatewayError,
    UpstreamError,
    UpstreamOverloaded,
    UpstreamProtocolError,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamTooLarge,
    UpstreamUnavailable,
)
from gateway.providers import OpenAIWire
from gateway.routing import TimeoutSettings
from tests.support.exchanges import SHORT_SECONDS, make_exchange, make_patience, numbers_of
from tests.support.upstream import (
    Behaviour,
    Body,
    Changed,
    Chat,
    Cut,
    Delayed,
    Embeddings,
    Ending,
    Framed,
    Framing,
    Gate,
    Gzipped,
    Hang,
    Held,
    Html,
    Huge,
    Malformed,
    Raw,
    Reset,
    ScriptedUpstream,
    Sliced,
    Stale,
    Status,
    Truncated,
    WithHeaders,
    black_hole,
    closed_port,
)


async def ask(wire: OpenAIWire, **exchange: Any) -> bytes:
    async with await wire.send(make_exchange(**exchange)) as reply:
        return reply.body


async def test_the_answers_bytes_are_relayed_as_they_came(wire: OpenAIWire, upstream: ScriptedUpstream) -> None:
    odd = b'{ "choices": [0], "usage": {"prompt_tokens": 3, "completion_tokens": 5},\n "x": 1.50 }'
    upstream.script(Body(odd))

    async with await wire.send(make_exchange()) as reply:
        body, usage = reply.body, reply.usage

    assert body == odd
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (3, 5)


@pytest.mark.parametrize("framing", list(Framing))
async def test_each_way_of_ending_a_body_is_understood(
    wire: OpenAIWire, upstream: ScriptedUpstream, framing: Framing
) -> None:
    upstream.script(Framed(Sliced(Chat("whole"), 7), framing))

    body = await ask(wire)

    assert json.loads(body)["choices"][0]["message"]["content"] == "whole"


async def test_a_large_answer_in_many_pieces_is_put_together(wire: OpenAIWire, upstream: ScriptedUpstream) -> None:
    upstream.script(Sliced(Embeddings(size=100_000), 30_000))

    reply = await wire.send(make_exchange(endpoint="embeddings", body={"model": "e", "input": "a"}))

    assert len(numbers_of(reply)[0]) == 100_000


async def test_an_answer_that_came_compressed_unasked_is_unpacked(wire: OpenAIWire, upstream: ScriptedUpstream) -> None:
    upstream.script(Gzipped(Chat("whole")))

    body = await ask(wire)

    assert json.loads(body)["choices"][0]["message"]["content"] == "whole"


WRONG: dict[str, tuple[Behaviour, type[GatewayError], str | None]] = {
    "reset before a byte": (Reset(), UpstreamUnavailable, "upstream_error"),
    "closed before a byte": (Raw((Ending.CLOSE,)), UpstreamUnavailable, "upstream_error"),
    "reset in the head": (Raw((b"HTTP/1.1 200 OK\r\nConte", Ending.RESET)), UpstreamUnavailable, "upstream_error"),
    "closed in the head": (Raw((b"HTTP/1.1 200 OK\r\nConte", Ending.CLOSE)), UpstreamUnavailable, "upstream_error"),
    "reset after the head": (Cut(Chat(), 0), UpstreamUnavailable, "upstream_truncated"),
    "closed after the head": (Cut(Chat(), 0, Ending.CLOSE), UpstreamUnavailable, "upstream_truncated"),
    "reset in the body": (Cut(Sliced(Chat(), 50), 2), UpstreamUnavailable, "upstream_truncated"),
    "closed in the body": (Truncated(), UpstreamUnavailable, "upstream_truncated"),
    "a chunked body cut": (
        Cut(Framed(Sliced(Chat(), 50), Framing.CHUNKED), 2, Ending.CLOSE),
        UpstreamUnavailable,
        "upstream_truncated",
    ),
    "truncated gzip": (Truncated(Gzipped(Chat(stream=False)), 12), UpstreamUnavailable, "upstream_truncated"),
    "a bad chunk size": (
        Raw((b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n", Ending.HANG)),
        UpstreamProtocolError,
        "upstream_protocol_error",
    ),
    "no gzip after all": (
        WithHeaders(Body(b"{}"), (("Content-Encoding", "gzip"),)),
        UpstreamUnavailable,
        "upstream_truncated",
    ),
    "no HTTP": (Raw((b"SSH-2.0-OpenSSH_9.2\r\n\r\n",)), UpstreamProtocolError, "upstream_protocol_error"),
    "a null byte in a header": (
        Raw((b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\n{}",)),
        UpstreamProtocolError,
        "upstream_protocol_error",
    ),
    "200 headers": (
        WithHeaders(Chat(), tuple((f"X-{i}", "1") for i in range(200))),
        UpstreamProtocolError,
        "upstream_protocol_error",
    ),
    "half an object": (Malformed(), UpstreamProtocolError, "upstream_bad_response"),
    "a page": (Html(), UpstreamProtocolError, "upstream_bad_response"),
    "nothing": (Body(b""), UpstreamProtocolError, "upstream_bad_response"),
    "an array": (Body(b"[1]"), UpstreamProtocolError, "upstream_bad_response"),
    "NaN": (Body(b'{"data": [NaN]}'), UpstreamProtocolError, "upstream_bad_response"),
    "bad UTF-8": (Body(b'{"a": "\xff"}'), UpstreamProtocolError, "upstream_bad_response"),
    "an event stream cut short": (
        Chat(stream=True, finish_reason=None, done=False),
        UpstreamProtocolError,
        "upstream_bad_response",
    ),
    "no content": (Status(204, b""), UpstreamProtocolError, "upstream_protocol_error"),
    "an error in 200": (
        Body(b'{"error": {"message": "slow down", "code": "rate_limit_exceeded"}}'),
        UpstreamRateLimited,
        "upstream_rate_limited",
    ),
    "a bare error in 200": (Body(b'{"error": "broken"}'), UpstreamUnavailable, "upstream_error"),
    "a failure": (Status(500), UpstreamUnavailable, "upstream_error"),
    "a failure without a body": (Status(503, b""), UpstreamOverloaded, "server_is_overloaded"),
    "a failure cut short": (
        Truncated(Status(503), 5),
        UpstreamOverloaded,
        "server_is_overloaded",
    ),
    "a refusal": (Status(400, code="invalid_value", param="top_p"), UpstreamRejected, "invalid_value"),
    "too long": (Status(400, code="context_length_exceeded"), ContextLengthExceeded, "context_length_exceeded"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_wrong_answer_becomes_its_error(wire: OpenAIWire, upstream: ScriptedUpstream, name: str) -> None:
    behaviour, kind, code = WRONG[name]
    upstream.script(behaviour)

    with pytest.raises(GatewayError) as caught:
        await ask(wire)

    assert type(caught.value) is kind
    assert caught.value.code == code


@pytest.mark.parametrize("name", WRONG)
async def test_after_a_wrong_answer_the_next_request_is_answered(
    wire: OpenAIWire, upstream: ScriptedUpstream, name: str
) -> None:
    upstream.script(WRONG[name][0])
    with suppress(GatewayError):
        await ask(wire)

    body = await ask(wire)

    assert json.loads(body)["object"] == "chat.completion"


async def test_a_bad_chunk_size_in_the_middle_of_a_body_is_an_error(
    wire: OpenAIWire, upstream: ScriptedUpstream
) -> None:
    gate = Gate()
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{ \r\n"
    upstream.script(Raw((head, gate, b"zz\r\n}\r\n", Ending.HANG)))
    asking = asyncio.create_task(ask(wire))
    await gate.reached()
    gate.open()

    with pytest.raises(UpstreamError) as caught:
        await asking

    assert caught.value.failover


async def test_an_error_that_is_null_is_no_error(wire: OpenAIWire, upstream: ScriptedUpstream) -> None:
    upstream.script(Body(b'{"error": null, "choices": [0]}'))

    assert await ask(wire) == b'{"error": null, "choices": [0]}'


async def test_an_answer_without_an_end_is_cut_at_the_cap(wire: OpenAIWire, upstream: ScriptedUpstream) -> None:
    upstream.script(Huge(10 * 1024**3))

    with pytest.raises(UpstreamTooLarge) as caught:
        await ask(wire)

    assert caught.value.code == "upstream_reply_too_large"
    await upstream.closed_by_client()


async def test_a_gzip_bomb_is_cut_at_the_cap(wire: OpenAIWire, upstream: ScriptedUpstream) -> None:
    upstream.script(Gzipped(Huge(200 * 1024**2)))

    with pytest.raises(UpstreamTooLarge) as caught:
        await ask(wire)

    assert caught.value.code == "upstream_reply_too_large"


async def test_an_error_body_without_an_end_is_cut(wire: OpenAIWire, upstream: ScriptedUpstream) -> None:
    upstream.script(Changed(Huge(10 * 1024**3), lambda answer: replace(answer, status=500)))

    with pytest.raises(UpstreamUnavailable):
        await ask(wire)

    await upstream.closed_by_client()


async def test_the_key_in_an_upstreams_error_is_taken_out(upstream: ScriptedUpstream) -> None:
    wire = OpenAIWire("lab", upstream.base_url, api_key="plainword1234")
    upstream.script(
        Status(400, message="you sent plainword1234"),
        Body(b'{"error": {"message": "you sent plainword1234", "type": "invalid_request_error"}}'),
    )

    for _ in range(2):
        with pytest.raises(UpstreamRejected) as caught:
            await ask(wire)
        assert caught.value.message == "you sent ***"
    await wire.close()


async def test_a_refused_connection_is_told_at_once() -> None:
    with closed_port() as port:
        wire = OpenAIWire("lab", f"http://127.0.0.1:{port}/v1")

        with pytest.raises(UpstreamUnavailable) as caught:
            await ask(wire)

    await wire.close()
    assert caught.value.code == "upstream_unreachable"


async def test_a_black_hole_is_given_up_after_the_connect_limit() -> None:
    with black_hole() as port:
        wire = OpenAIWire("lab", f"http://127.0.0.1:{port}/v1")

        with pytest.raises(UpstreamTimeout) as caught:
            await ask(wire, patience=make_patience(connect=SHORT_SECONDS))

    await wire.close()
    assert caught.value.message == "The upstream did not accept a connection in time."


async def test_plain_http_where_tls_was_expected_is_an_error_of_tls() -> None:
    def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1") as server:
        wire = OpenAIWire("lab", f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")

        with pytest.raises(UpstreamUnavailable) as caught:
            await ask(wire)

    await wire.close()
    assert caught.value.code == "upstream_tls_error"


@pytest.mark.parametrize(
    "behaviour",
    [Hang(), Delayed(Chat(), Gate()), Raw((b"HTTP/1.1 200 OK\r\nX:", Ending.HANG))],
    ids=["no byte", "held before the head", "half a head"],
)
async def test_silence_before_the_answer_ends_at_the_first_event_limit(
    wire: OpenAIWire, upstream: ScriptedUpstream, behaviour: Behaviour
) -> None:
    upstream.script(behaviour)

    with pytest.raises(UpstreamTimeout) as caught:
        await ask(wire, patience=make_patience(first_event=SHORT_SECONDS))

    assert caught.value.code == "upstream_timeout"
    await upstream.closed_by_client()


async def test_a_body_that_has_begun_has_until_the_total_limit(wire: OpenAIWire, upstream: ScriptedUpstream) -> None:
    gate = Gate()
    upstream.script(Held(Chat("late"), gate, before=0))
    asking = asyncio.create_task(ask(wire, patience=make_patience(first_event=2 * SHORT_SECONDS, total=30)))
    await gate.reached()

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(asking), 4 * SHORT_SECONDS)
    gate.open()

    assert json.loads(await asking)["choices"][0]["message"]["content"] == "late"


async def test_a_body_that_never_ends_is_given_up_at_the_total_limit(
    wire: OpenAIWire, upstream: ScriptedUpstream
) -> None:
    upstream.script(Held(Chat(), Gate(), before=0))

    with pytest.raises(UpstreamTimeout):
        await ask(wire, patience=make_patience(first_event=10, total=SHORT_SECONDS))

    await upstream.closed_by_client()


async def test_cancelling_closes_the_upstreams_connection_at_once(wire: OpenAIWire, upstream: ScriptedUpstream) -> None:
    upstream.script(Hang())
    asking = asyncio.create_task(ask(wire))
    await upstream.request()

    asking.cancel()

    with pytest.raises(asyncio.CancelledError):
        await asking
    await upstream.closed_by_client(within_seconds=1)


@pytest.mark.parametrize("ending", [Ending.RESET, Ending.CLOSE])
async def test_a_connection_that_went_stale_costs_no_answer(
    wire: OpenAIWire, upstream: ScriptedUpstream, ending: Ending
) -> None:
    upstream.otherwise = Stale(ending=ending)
    await ask(wire)

    body = await ask(wire)

    assert json.loads(body)["object"] == "chat.completion"
    assert [request.reused for request in upstream.requests] == [False, True, False]


async def test_one_stale_connection_of_several_is_replaced_by_a_fresh_one(
    wire: OpenAIWire, upstream: ScriptedUpstream
) -> None:
    gate = Gate()
    upstream.script(Delayed(Chat(), gate), Delayed(Chat(), gate), Delayed(Chat(), gate))
    filling = [asyncio.create_task(ask(wire)) for _ in range(3)]
    await gate.reached(3)
    gate.open()
    await asyncio.gather(*filling)
    upstream.otherwise = Stale()

    await ask(wire)

    assert [request.reused for request in upstream.requests[3:]] == [True, False]


async def test_a_fresh_connection_that_is_reset_is_not_tried_again(
    wire: OpenAIWire, upstream: ScriptedUpstream
) -> None:
    upstream.script(Reset())

    with pytest.raises(UpstreamUnavailable):
        await ask(wire)

    assert len(upstream.requests) == 1


async def test_an_upstream_that_always_resets_is_asked_twice_at_most(
    wire: OpenAIWire, upstream: ScriptedUpstream
) -> None:
    await ask(wire)
    upstream.otherwise = Reset()

    with pytest.raises(UpstreamUnavailable):
        await ask(wire)

    assert len(upstream.requests) == 3


async def test_closing_leaves_no_connection(wire: OpenAIWire, upstream: ScriptedUpstream) -> None:
    await ask(wire)

    await wire.close()

    await upstream.closed_by_client()


async def test_t5_a_secret_of_the_configured_headers_never_reaches_the_caller(upstream: ScriptedUpstream) -> None:
    wire = OpenAIWire("lab", upstream.base_url, headers={"X-Custom": "custom-header-77"})
    upstream.script(Status(400, message="bad header custom-header-77"))

    with pytest.raises(UpstreamRejected) as caught:
        await wire.send(make_exchange())
    await wire.close()

    assert "custom-header-77" not in caught.value.message


async def test_a_plain_answer_may_take_longer_to_begin_than_a_stream() -> None:
    assert TimeoutSettings().begin_seconds(stream=True) == 60
    assert TimeoutSettings().begin_seconds(stream=False) == 600
    assert TimeoutSettings(first_event_seconds=3).begin_seconds(stream=False) == 3
    assert TimeoutSettings(plain_answer_seconds=9).begin_seconds(stream=False) == 9
