"""Connections that are used again: whoever spoke on one without being asked is not asked on it."""

from __future__ import annotations

import json

from gateway.providers import OpenAIWire, Reply
from tests.support.exchanges import make_exchange
from tests.support.upstream import Answer, Chat, Gate, ScriptedUpstream, resolve
from tests.support.upstream.seen import SeenRequest


class SaidTwice:
    """A good answer, and once the gate is open a second one that nobody asked for."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def answer(self, request: SeenRequest) -> Answer:
        good = resolve(Chat("for the first"), request)
        stray = json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": "stray"}}]}).encode()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(stray)
        return good.with_parts((*good.parts, self._gate, head + stray))


def text_of(reply: Reply) -> str:
    text: str = json.loads(reply.body)["choices"][0]["message"]["content"]
    return text


async def test_t32_an_answer_that_nobody_asked_for_is_not_the_next_callers(upstream: ScriptedUpstream) -> None:
    gate = Gate()
    wire, other = OpenAIWire("lab", upstream.base_url), OpenAIWire("lab", upstream.base_url)
    upstream.script(SaidTwice(gate), Chat("for nobody"), Chat("for the second"))
    first = await wire.send(make_exchange())
    gate.open()
    await upstream.idle()
    await other.send(make_exchange())  # meanwhile the stray one has arrived

    second = await wire.send(make_exchange())
    await wire.close()
    await other.close()

    assert text_of(first) == "for the first"
    assert text_of(second) == "for the second"


async def test_a_connection_that_kept_silent_is_used_again(wire: OpenAIWire, upstream: ScriptedUpstream) -> None:
    for _ in range(3):
        await wire.send(make_exchange())

    assert {request.connection for request in upstream.requests} == {0}
