"""Thoughts that an upstream signed: they are answered whole, so that they can be sent back in the next turn."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from pydantic import SecretStr

from gateway.providers import LiteLLMSettings, PlainReply
from gateway.providers.litellm import LiteLLM
from gateway.providers.litellm_chunks import Chunks
from gateway.providers.litellm_parts import Thoughts, unnumber
from tests.support.exchanges import make_exchange
from tests.support.wires import CALLS, UPSTREAM_KEY, Anthropic, WireUpstream

MODEL = "claude-haiku-4-5"
SIGNED = {"type": "thinking", "thinking": "hm, hm", "signature": "c2lnbmVk"}
SEALED = {"type": "redacted_thinking", "data": "c2VhbGVk"}
NAMES = ("add", "weather", "now")


def ask(**fields: Any) -> dict[str, Any]:
    tools = [
        {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}}
        for name in NAMES
    ]
    messages = [{"role": "user", "content": "Hi"}]
    return {"model": "small", "messages": messages, "tools": tools, "reasoning_effort": "low", **fields}


@pytest.fixture
async def claude() -> AsyncIterator[WireUpstream]:
    async with WireUpstream(Anthropic()) as upstream:
        upstream.play(replace(CALLS, thoughts=("hm, ", "hm")))
        yield upstream


@pytest.fixture
async def lane(claude: WireUpstream) -> AsyncIterator[LiteLLM]:
    settings = LiteLLMSettings(
        kind="litellm", prefix="anthropic", base_url=claude.base_url, api_key=SecretStr(UPSTREAM_KEY)
    )
    provider = LiteLLM("lab", settings)
    yield provider
    await provider.close()


async def say(lane: LiteLLM, *, stream: bool) -> dict[str, Any]:
    """Return the assistant's message, put together as a client does, and the usage under its name."""
    reply = await lane.send(make_exchange(model=MODEL, body=ask(), stream=stream, wants_usage=stream))
    if isinstance(reply, PlainReply):
        told = orjson.loads(reply.body)
        return {**told["choices"][0]["message"], "usage": told["usage"]}
    async with reply:
        events = b"".join([block async for block in reply]).split(b"\n\n")[:-2]
    message: dict[str, Any] = {"role": "assistant", "tool_calls": []}
    for event in events:
        chunk = orjson.loads(event.removeprefix(b"data: "))
        message["usage"] = chunk["usage"]
        for choice in chunk["choices"]:
            message |= {name: choice["delta"][name] for name in ("thinking_blocks",) if name in choice["delta"]}
            for call in choice["delta"].get("tool_calls", ()):
                if "id" in call:
                    message["tool_calls"].append(call)
                else:
                    message["tool_calls"][-1]["function"]["arguments"] += call["function"]["arguments"]
    return message


@pytest.mark.parametrize("stream", [False, True])
async def test_signed_thoughts_are_sent_back_before_the_calls_they_led_to(
    claude: WireUpstream, lane: LiteLLM, stream: bool
) -> None:
    message = await say(lane, stream=stream)
    message.pop("usage")
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "noon"} for call in message["tool_calls"]]

    await lane.send(make_exchange(model=MODEL, body=ask(messages=[*ask()["messages"], message, *results])))

    turn = claude.requests[1].json["messages"][1]["content"]
    assert message["thinking_blocks"] == [{**({"index": 0} if stream else {}), **SIGNED}]
    assert [block["type"] for block in turn if block["type"] != "text"][:2] == ["thinking", "tool_use"]
    assert turn[0] == SIGNED
    assert claude.mistakes == []


@pytest.mark.parametrize("stream", [False, True])
async def test_no_count_of_thoughts_is_made_up(claude: WireUpstream, lane: LiteLLM, stream: bool) -> None:
    message = await say(lane, stream=stream)

    assert "completion_tokens_details" not in message["usage"]


def test_only_what_was_signed_or_sealed_can_be_sent_back() -> None:
    thoughts = Thoughts()

    thoughts.feed([{"type": "thinking", "thinking": "hm, "}])
    thoughts.feed([{"type": "thinking", "thinking": "hm"}])
    before = list(thoughts.blocks)
    thoughts.feed([{"type": "thinking", "thinking": "", "signature": "c2lnbmVk"}])
    thoughts.feed([SEALED, {"type": "other", "data": "x"}])

    assert before == []
    assert thoughts.blocks == [SIGNED, SEALED]


@pytest.mark.parametrize("signs", [False, True])
def test_thoughts_are_streamed_in_one_piece_before_the_end_if_the_upstream_continues_them(signs: bool) -> None:
    chunks = Chunks("m", wants_usage=False, signs=signs)
    deltas: list[dict[str, Any]] = [{"thinking_blocks": [SIGNED]}, {"content": "So"}, {"thinking_blocks": [SEALED]}]
    pieces = [SimpleNamespace(index=0, delta=SimpleNamespace(**delta), finish_reason=None) for delta in deltas]
    end = SimpleNamespace(index=0, delta=SimpleNamespace(), finish_reason="stop")

    events = b"".join(chunks.feed(SimpleNamespace(id="r", created=1, choices=[each])) for each in [*pieces, end])
    told = (events + chunks.closing()).split(b"\n\n")[:-2]

    found = [orjson.loads(event[6:])["choices"][0]["delta"].get("thinking_blocks") for event in told]
    assert [blocks for blocks in found if blocks] == (
        [[{"index": 0, **SIGNED}, {"index": 1, **SEALED}]] if signs else []
    )


@pytest.mark.parametrize("thoughts", [None, [], ["x"], [7, None], "x", 7, {"index": 1}])
def test_what_is_no_block_of_thoughts_is_left_for_the_upstream_to_judge(thoughts: Any) -> None:
    messages = [{"role": "assistant", "content": "So", "thinking_blocks": thoughts}]

    unnumber(messages)

    assert messages == [{"role": "assistant", "content": "So", "thinking_blocks": thoughts}]
