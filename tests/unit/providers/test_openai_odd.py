"""Answers that are JSON but not what anybody writes: the upstream's failure each, never a defect of ours."""

from __future__ import annotations

import pytest

from gateway.errors import GatewayError, UpstreamProtocolError, UpstreamUnavailable
from gateway.providers import OpenAIWire
from tests.support.exchanges import make_exchange, numbers_of
from tests.support.upstream import DONE, Behaviour, Body, Events, Gate, ScriptedUpstream, Status

DEEP = b"[" * 300 + b"]" * 300
DEEPER = b'{"a":' * 990 + b"1" + b"}" * 990
DIGITS = b"9" * 5000
CHUNK = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":"Hi"}}]}\n\n'
EVENT_STREAM = "text/event-stream"


PLAIN: dict[str, tuple[Behaviour, type[GatewayError]]] = {
    "an error's long code": (Body(b'{"error":{"message":"x","code":"%s"}}' % DIGITS), UpstreamUnavailable),
    "an error's deep message": (Body(b'{"error":{"message":%s}}' % DEEP), UpstreamUnavailable),
    "a failure's deep message": (Status(500, body=b'{"error":{"message":%s}}' % DEEP), UpstreamUnavailable),
    "a stream with a deep choice": (
        Body(b'data: {"choices":[{"delta":{"a":%s}}]}\n\n' % DEEP + DONE, EVENT_STREAM),
        UpstreamProtocolError,
    ),
    "a stream with a deeper choice": (
        Body(b'data: {"choices":[{"delta":{"a":%s}}]}\n\n' % DEEPER + DONE, EVENT_STREAM),
        UpstreamProtocolError,
    ),
}

STREAMED: dict[str, tuple[Behaviour, type[GatewayError]]] = {
    "an error's long code": (
        Events((b'data: {"error":{"message":"x","code":"%s"}}\n\n' % DIGITS,)),
        UpstreamUnavailable,
    ),
    "a whole answer that is deep": (
        Body(b'{"choices":[{"message":{"role":"assistant","content":"x","a":%s}}]}' % DEEP),
        UpstreamProtocolError,
    ),
    "a usage in a deep event": (
        Events((b'data: {"choices":[{"delta":{"a":%s}}],"usage":{"prompt_tokens":1}}\n\n' % DEEP,)),
        UpstreamProtocolError,
    ),
}


@pytest.mark.parametrize("name", PLAIN)
async def test_an_odd_plain_answer_is_the_upstreams_failure(
    wire: OpenAIWire, upstream: ScriptedUpstream, name: str
) -> None:
    behaviour, kind = PLAIN[name]
    upstream.script(behaviour)

    with pytest.raises(kind):
        await wire.send(make_exchange())

    assert (await wire.send(make_exchange())).body  # nothing of it is left behind


@pytest.mark.parametrize("name", STREAMED)
async def test_an_odd_beginning_of_a_stream_is_the_upstreams_failure(
    wire: OpenAIWire, upstream: ScriptedUpstream, name: str
) -> None:
    behaviour, kind = STREAMED[name]
    upstream.script(behaviour)

    with pytest.raises(kind):
        await wire.send(make_exchange(stream=True))

    assert (await wire.send(make_exchange())).body


async def test_what_is_beside_the_vectors_does_no_harm(wire: OpenAIWire, upstream: ScriptedUpstream) -> None:
    item = b'{"object":"embedding","index":%d,"embedding":[%d]}'
    upstream.script(Body(b'{"data":[%s,%s],"a":%s}' % (item % (1, 5), item % (0, 6), DEEP)))

    reply = await wire.send(make_exchange(endpoint="embeddings", body={"input": ["a", "b"]}))

    assert numbers_of(reply) == [[6.0], [5.0]]


@pytest.mark.parametrize(
    ("event", "kind", "code"),
    [
        (
            b'data: {"choices":[{"delta":{"a":%s}}],"usage":{"prompt_tokens":1}}\n\n' % DEEP,
            UpstreamProtocolError,
            "bad_event",
        ),
        (
            b'data: {"error":{"message":%s,"code":"%s"}}\n\n' % (DEEP, DIGITS),
            UpstreamUnavailable,
            "upstream_error",
        ),
    ],
    ids=["deep", "error"],
)
async def test_an_odd_event_breaks_its_stream_and_nothing_else(
    wire: OpenAIWire, upstream: ScriptedUpstream, event: bytes, kind: type[GatewayError], code: str
) -> None:
    gate = Gate()
    upstream.script(Events((CHUNK, gate, event, DONE)))

    async with await wire.send(make_exchange(stream=True)) as reply:
        assert await anext(aiter(reply)) == CHUNK
        gate.open()
        with pytest.raises(kind) as caught:
            async for _ in reply:
                pass

    assert caught.value.code == code


async def test_a_role_under_a_list_for_an_index_is_passed_on(wire: OpenAIWire, upstream: ScriptedUpstream) -> None:
    odd = b'data: {"choices":[{"index":[],"delta":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}]}\n\n'
    upstream.script(Events((odd, DONE)))

    async with await wire.send(make_exchange(stream=True)) as reply:
        told = b"".join([block async for block in reply])

    assert told == odd + DONE
