"""Streams of an OpenAI-wire upstream: held until the first event is known to be good, relayed whole events after."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from gateway.errors import (
    ContextLengthExceeded,
    GatewayError,
    UpstreamOverloaded,
    UpstreamProtocolError,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamTooLarge,
    UpstreamUnavailable,
)
from gateway.providers import OpenAIWire
from tests.support.contract import assert_stream_obeys_contract, join_content, parse_sse
from tests.support.exchanges import SHORT_SECONDS, make_exchange, make_patience
from tests.support.upstream import (
    DONE,
    FORMS,
    Behaviour,
    Body,
    Chat,
    CommentsOnly,
    Completion,
    Cut,
    Ending,
    ErrorEvent,
    Events,
    Formed,
    Framed,
    Framing,
    Gate,
    Hang,
    Held,
    Html,
    Inserted,
    Raw,
    Repeated,
    Reset,
    ScriptedUpstream,
    Sliced,
    Stale,
    Status,
    ToolCall,
    Typed,
    encode_event,
    make_error,
)

STREAM = Chat(stream=True)


async def read(wire: OpenAIWire, **exchange: Any) -> bytes:
    async with await wire.send(make_exchange(stream=True, **exchange)) as reply:
        return b"".join([block async for block in reply])


async def read_until_failure(wire: OpenAIWire, gate: Gate | None = None, **exchange: Any) -> tuple[bytes, GatewayError]:
    """Return what came before the stream broke, and the error; `gate` opens when the first block is here."""
    async with await wire.send(make_exchange(stream=True, **exchange)) as reply:
        blocks = [await anext(aiter(reply))]
        if gate is not None:
            gate.open()
        with pytest.raises(GatewayError) as caught:
            async for block in reply:
                blocks.append(block)
    return b"".join(blocks), caught.value


async def test_a_stream_is_relayed_to_its_done(wire: OpenAIWire, upstream: ScriptedUpstream) -> None:
    events = parse_sse(await read(wire))

    assert_stream_obeys_contract(events)
    assert join_content(events) == "Hello there"


async def test_the_usage_that_only_we_asked_for_is_known_and_taken_out(
    wire: OpenAIWire, upstream: ScriptedUpstream
) -> None:
    async with await wire.send(make_exchange(stream=True)) as reply:
        blocks = [block async for block in reply]
        usage = reply.usage

    assert b'"usage"' not in b"".join(blocks).replace(b'"usage":null', b"")
    assert usage is not None
    assert usage.completion_tokens == 12


async def test_the_usage_that_the_caller_asked_for_stays(wire: OpenAIWire, upstream: ScriptedUpstream) -> None:
    events = parse_sse(await read(wire, wants_usage=True))

    assert_stream_obeys_contract(events, include_usage=True)


@pytest.mark.parametrize("where", ["own_chunk", "finish_chunk", "every_chunk"])
async def test_usage_is_taken_out_wherever_it_stands(wire: OpenAIWire, upstream: ScriptedUpstream, where: Any) -> None:
    upstream.script(Chat(usage_on=where))

    events = parse_sse(await read(wire))

    assert_stream_obeys_contract(events)


async def test_several_choices_and_tool_calls_pass(wire: OpenAIWire, upstream: ScriptedUpstream) -> None:
    upstream.script(Chat(None, n=2, tool_calls=(ToolCall("look", '{"at": "the sea"}'), ToolCall("go", id="call_2"))))

    events = parse_sse(await read(wire))

    assert_stream_obeys_contract(events, n=2)


async def test_legacy_completions_stream_too(wire: OpenAIWire, upstream: ScriptedUpstream) -> None:
    upstream.script(Completion("text"))

    events = parse_sse(await read(wire, endpoint="completions", body={"model": "m", "prompt": "x"}))

    assert events[-1] == "[DONE]"
    assert json.loads(events[0])["choices"][0]["text"] == "text"


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("cut", [None, 1, (7, 3, 20)], ids=["whole", "bytes", "pieces"])
async def test_every_form_and_cut_gives_the_events_of_the_plain_form(
    wire: OpenAIWire, upstream: ScriptedUpstream, form: Any, cut: Any
) -> None:
    story = Chat(("Grüße", " 世界 ", "🎉"))
    formed: Behaviour = Formed(story, form)
    upstream.script(story, formed if cut is None else Sliced(formed, cut))
    plain = parse_sse(await read(wire))

    events = parse_sse(await read(wire))

    assert [_load(event) for event in events] == [
        {**_load(event), "id": "chatcmpl-scripted-1"} if event != "[DONE]" else event for event in plain
    ]


def _load(event: str) -> Any:
    return event if event == "[DONE]" else json.loads(event)


async def test_a_line_of_a_megabyte_passes(wire: OpenAIWire, upstream: ScriptedUpstream) -> None:
    upstream.script(Chat(("x" * 1_000_000, "y")))

    events = parse_sse(await read(wire))

    assert join_content(events) == "x" * 1_000_000 + "y"


async def test_nothing_waits_for_what_comes_later(wire: OpenAIWire, upstream: ScriptedUpstream) -> None:
    gate = Gate()
    upstream.script(Held(Chat("word"), gate, before=None))
    gate.let()
    asking = asyncio.create_task(wire.send(make_exchange(stream=True)))

    async with await asking as reply:
        blocks = aiter(reply)
        first = await anext(blocks)
        gate.let()
        second = await anext(blocks)
        gate.open()
        rest = [block async for block in blocks]

    assert b'"role"' in first
    assert b'"word"' in second
    assert rest[-1].endswith(DONE)


WRONG: dict[str, tuple[Behaviour, type[GatewayError], str | None]] = {
    "reset before a byte": (Reset(), UpstreamUnavailable, "upstream_error"),
    "reset after the head": (Cut(STREAM, 0), UpstreamUnavailable, "upstream_stream_interrupted"),
    "closed after the head": (Cut(STREAM, 0, Ending.CLOSE), UpstreamUnavailable, "upstream_stream_interrupted"),
    "ended after the head": (Events(()), UpstreamUnavailable, "upstream_stream_interrupted"),
    "cut in the first event": (
        Cut(Sliced(STREAM, 30), 1, Ending.CLOSE),
        UpstreamUnavailable,
        "upstream_stream_interrupted",
    ),
    "half an event": (Events((b'data: {"choices": [',)), UpstreamUnavailable, "upstream_stream_interrupted"),
    "comments, then the end": (CommentsOnly(times=3), UpstreamUnavailable, "upstream_stream_interrupted"),
    "a page": (Html(), UpstreamProtocolError, "upstream_protocol_error"),
    "a plain answer of nothing": (Body(b"{}"), UpstreamProtocolError, "upstream_protocol_error"),
    "a stream said to be text": (Typed(STREAM, "text/plain"), UpstreamProtocolError, "upstream_protocol_error"),
    "a first event that is no JSON": (Events((b"data: hello\n\n",)), UpstreamProtocolError, "bad_event"),
    "a first event that is no object": (Events((b"data: [1]\n\n",)), UpstreamProtocolError, "bad_event"),
    "a first event that is no UTF-8": (Events((b'data: {"a":"\xff"}\n\n',)), UpstreamProtocolError, "bad_event"),
    "an error in 200": (
        Body(b'{"error": {"message": "x", "code": "rate_limit_exceeded"}}'),
        UpstreamRateLimited,
        "upstream_rate_limited",
    ),
    "a bare error in 200": (Body(b'{"error": "x"}'), UpstreamUnavailable, "upstream_error"),
    "an error as the first event": (ErrorEvent(), UpstreamUnavailable, "upstream_error"),
    "an overload as the first event": (
        ErrorEvent(error=make_error(503, kind="overloaded_error")),
        UpstreamOverloaded,
        "server_is_overloaded",
    ),
    "a refusal as the first event": (
        ErrorEvent(error=make_error(400, code="content_filter")),
        UpstreamRejected,
        "content_filter",
    ),
    "a bare error as the first event": (
        Events((encode_event({"error": "x"}),)),
        UpstreamUnavailable,
        "upstream_error",
    ),
    "too long as the first event": (
        ErrorEvent(error=make_error(400, code="context_length_exceeded")),
        ContextLengthExceeded,
        "context_length_exceeded",
    ),
    "a status": (Status(429, retry_after="2"), UpstreamRateLimited, "upstream_rate_limited"),
    "an event of 20 MB": (
        Events((Repeated(b"data: " + b"x" * 1_000_000, 20),)),
        UpstreamTooLarge,
        "event_too_large",
    ),
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_stream_that_is_wrong_before_its_first_event_is_an_error(
    wire: OpenAIWire, upstream: ScriptedUpstream, name: str
) -> None:
    behaviour, kind, code = WRONG[name]
    upstream.script(behaviour)

    with pytest.raises(GatewayError) as caught:
        await wire.send(make_exchange(stream=True))

    assert type(caught.value) is kind
    assert caught.value.code == code


async def test_a_first_event_after_comments_is_found(wire: OpenAIWire, upstream: ScriptedUpstream) -> None:
    upstream.script(Inserted(STREAM, b": waking up\n\n: still\n\n"))

    assert_stream_obeys_contract(parse_sse(await read(wire)))


def break_chunks(gate: Gate) -> Behaviour:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    return Raw((head, b'18\r\ndata: {"choices":[{}]}\n\n\r\n', gate, b"zz\r\n\r\n", Ending.HANG))


def hold(gate: Gate) -> Behaviour:
    return Held(STREAM, gate, before=1)


BROKEN: dict[str, tuple[Callable[[Gate], Behaviour], type[GatewayError], str]] = {
    "reset": (lambda gate: Cut(hold(gate), 2), UpstreamUnavailable, "upstream_stream_interrupted"),
    "closed": (lambda gate: Cut(hold(gate), 2, Ending.CLOSE), UpstreamUnavailable, "upstream_stream_interrupted"),
    "closed where the end of the connection is the end": (
        lambda gate: Cut(Framed(hold(gate), Framing.CLOSE), 2, Ending.CLOSE),
        UpstreamUnavailable,
        "upstream_stream_interrupted",
    ),
    "ended in order without a finish": (
        lambda gate: Held(Chat(finish_reason=None, done=False, usage=None), gate, before=1),
        UpstreamUnavailable,
        "upstream_stream_interrupted",
    ),
    "an error event": (lambda gate: ErrorEvent(2, hold(gate)), UpstreamUnavailable, "upstream_error"),
    "a bad error event": (
        lambda gate: Inserted(hold(gate), b'data: {"error": {"message": "cut\n\n', 2, last=True),
        UpstreamProtocolError,
        "bad_event",
    ),
    "a large event": (
        lambda gate: Inserted(hold(gate), Repeated(b"data: " + b"x" * 1_000_000, 20), 2),
        UpstreamTooLarge,
        "event_too_large",
    ),
    "broken chunks": (break_chunks, UpstreamUnavailable, "upstream_stream_interrupted"),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_stream_that_breaks_later_raises_after_what_was_good(
    wire: OpenAIWire, upstream: ScriptedUpstream, name: str
) -> None:
    make, kind, code = BROKEN[name]
    gate = Gate()
    upstream.script(make(gate))

    good, error = await read_until_failure(wire, gate)

    assert parse_sse(good)
    assert b"[DONE]" not in good
    assert b'"error"' not in good
    assert type(error) is kind
    assert error.code == code


async def test_the_key_in_an_error_event_is_taken_out(upstream: ScriptedUpstream) -> None:
    wire = OpenAIWire("lab", upstream.base_url, api_key="plainword1234")
    upstream.script(ErrorEvent(2, error=make_error(500, "you sent plainword1234")))

    _, error = await read_until_failure(wire)
    await wire.close()

    assert "plainword1234" not in error.message
    assert "***" in error.message


async def test_a_missing_done_is_put_in_when_the_answer_was_finished(
    wire: OpenAIWire, upstream: ScriptedUpstream
) -> None:
    upstream.script(Chat(done=False))

    assert_stream_obeys_contract(parse_sse(await read(wire)))


async def test_what_comes_after_done_is_dropped(wire: OpenAIWire, upstream: ScriptedUpstream) -> None:
    upstream.script(Inserted(Chat(done=True), encode_event({"late": 1}), at=7))

    out = await read(wire)

    assert out.endswith(DONE)
    assert b"late" not in out


@pytest.mark.parametrize(
    "behaviour", [Hang(), CommentsOnly(), Held(STREAM, Gate(), before=0)], ids=["no byte", "comments", "no event"]
)
async def test_without_a_first_event_the_stream_is_given_up_at_its_limit(
    wire: OpenAIWire, upstream: ScriptedUpstream, behaviour: Behaviour
) -> None:
    upstream.script(behaviour)

    with pytest.raises(UpstreamTimeout) as caught:
        await wire.send(make_exchange(stream=True, patience=make_patience(first_event=SHORT_SECONDS)))

    assert caught.value.code == "upstream_timeout"
    await upstream.closed_by_client()


async def test_silence_between_events_ends_the_stream_at_its_limit(
    wire: OpenAIWire, upstream: ScriptedUpstream
) -> None:
    upstream.script(Held(STREAM, Gate(), before=2))

    good, error = await read_until_failure(wire, patience=make_patience(between_events=SHORT_SECONDS))

    assert len(parse_sse(good)) == 2
    assert isinstance(error, UpstreamTimeout)
    assert error.code == "upstream_stream_stalled"
    await upstream.closed_by_client()


async def test_a_stream_without_an_end_is_cut_at_the_total_limit(wire: OpenAIWire, upstream: ScriptedUpstream) -> None:
    chunk = encode_event({"id": "1", "choices": [{"index": 0, "delta": {"content": "x"}}]})
    upstream.script(Events((Repeated(chunk, None, 0.01),)))

    good, error = await read_until_failure(wire, patience=make_patience(total=SHORT_SECONDS))

    assert len(parse_sse(good)) > 1
    assert isinstance(error, UpstreamTimeout)
    await upstream.closed_by_client()


async def test_a_slow_reader_is_not_the_upstreams_silence(wire: OpenAIWire, upstream: ScriptedUpstream) -> None:
    gate = Gate()
    upstream.script(Held(STREAM, gate, before=2))
    loop = asyncio.get_running_loop()
    patience = make_patience(between_events=2 * SHORT_SECONDS)

    async with await wire.send(make_exchange(stream=True, patience=patience)) as reply:
        blocks = aiter(reply)
        out = await anext(blocks)
        gate.open()
        late = loop.create_future()
        loop.call_later(4 * SHORT_SECONDS, late.set_result, None)
        await late
        out += b"".join([block async for block in blocks])

    assert_stream_obeys_contract(parse_sse(out))


async def test_a_connection_is_used_again_after_a_stream(wire: OpenAIWire, upstream: ScriptedUpstream) -> None:
    for _ in range(3):
        await read(wire)

    assert upstream.connections.opened == 1


async def test_a_body_that_does_not_end_after_done_costs_only_its_connection(
    wire: OpenAIWire, upstream: ScriptedUpstream
) -> None:
    upstream.script(Cut(STREAM, None, Ending.HANG))

    out = await read(wire)

    assert out.endswith(DONE)
    await upstream.closed_by_client()


async def test_a_stale_connection_costs_no_stream(wire: OpenAIWire, upstream: ScriptedUpstream) -> None:
    upstream.otherwise = Stale()
    await read(wire)

    out = await read(wire)

    assert_stream_obeys_contract(parse_sse(out))


async def test_leaving_a_stream_early_closes_the_upstreams_connection(
    wire: OpenAIWire, upstream: ScriptedUpstream
) -> None:
    upstream.script(Held(STREAM, Gate(), before=2))

    async with await wire.send(make_exchange(stream=True)) as reply:
        await anext(aiter(reply))

    await upstream.closed_by_client(within_seconds=1)


@pytest.mark.parametrize("before", [0, 2], ids=["before the first event", "after events"])
async def test_cancelling_closes_the_upstreams_connection_at_once(
    wire: OpenAIWire, upstream: ScriptedUpstream, before: int
) -> None:
    gate = Gate()
    upstream.script(Held(STREAM, gate, before=before))
    reading = asyncio.create_task(read(wire))
    await gate.reached()

    reading.cancel()

    with pytest.raises(asyncio.CancelledError):
        await reading
    await upstream.closed_by_client(within_seconds=1)
