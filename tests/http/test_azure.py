"""The preset azure: OpenAI's own wire at the v1 path of a resource, so nothing of an answer is lost on the way."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.app import UPSTREAM_KEY, RunningGateway, running
from tests.support.contract import read_chunks
from tests.support.upstream import Answer, ScriptedUpstream, SeenRequest
from tests.support.wires.base import event_answer, json_answer

TOOLS = [{"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}]
# What every stream of Azure's begins with.
REPORT = {"id": "", "object": "", "created": 0, "model": "", "choices": [], "prompt_filter_results": [{}]}
HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-5.4"}


def piece(index: int, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {**HEAD, "choices": [{"index": index, "delta": delta, "finish_reason": finish}]}


def stream(*pieces: dict[str, Any]) -> Any:
    steps = [f"data: {json.dumps(each)}\n\n".encode() for each in (REPORT, *pieces)]
    return lambda _: event_answer([*steps, b"data: [DONE]\n\n"])


def completion(message: dict[str, Any], finish: str) -> Any:
    choice = {"index": 0, "message": {"role": "assistant", "content": None, **message}, "finish_reason": finish}

    def answer(_: SeenRequest) -> Answer:
        return json_answer({**HEAD, "object": "chat.completion", "choices": [choice]})

    return answer


@pytest.fixture
async def azure() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as upstream:
        yield upstream


@pytest.fixture
async def gateway(azure: ScriptedUpstream) -> AsyncIterator[RunningGateway]:
    environ = {"AZURE_API_KEY": UPSTREAM_KEY, "AZURE_API_BASE": f"http://127.0.0.1:{azure.port}/"}
    async with running("providers: {azure: }", environ=environ) as gateway:
        yield gateway


@pytest.mark.parametrize("alias", ["small", "medium", "large", "azure/own-deployment"])
async def test_tools_are_asked_for_at_the_v1_path_with_the_key_as_a_bearer_token(
    azure: ScriptedUpstream, gateway: RunningGateway, alias: str
) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "now", "arguments": "{}"}}
    azure.script(completion({"tool_calls": [call]}, "tool_calls"))

    answer = await gateway.chat(model=alias, tools=TOOLS)

    (request,) = azure.requests
    assert answer.json["choices"][0]["message"]["tool_calls"] == [call]
    assert (request.path, request.query) == ("/openai/v1/chat/completions", "")
    assert request.headers["Authorization"] == f"Bearer {UPSTREAM_KEY}"
    assert request.json["tools"] == TOOLS


@pytest.mark.parametrize(
    ("message", "finish"),
    [
        ({"refusal": "I cannot."}, "stop"),
        ({"tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "z", "input": "raw"}}]}, "tool_calls"),
        ({"function_call": {"name": "now", "arguments": "{}"}}, "function_call"),
    ],
)
async def test_every_part_of_an_answer_arrives(
    azure: ScriptedUpstream, gateway: RunningGateway, message: dict[str, Any], finish: str
) -> None:
    azure.script(completion(message, finish))

    answer = await gateway.chat(model="azure/gpt-5.4")

    assert message.items() <= answer.json["choices"][0]["message"].items()


async def test_several_choices_and_equal_pieces_are_streamed_to_their_ends(
    azure: ScriptedUpstream, gateway: RunningGateway
) -> None:
    rule = [piece(0, {"content": "-----"}) for _ in range(150)]
    azure.script(
        stream(
            piece(0, {"role": "assistant"}),
            *rule,
            piece(1, {"content": "b"}),
            piece(0, {}, "stop"),
            piece(1, {}, "length"),
        )
    )

    answer = await gateway.chat(model="azure/gpt-5.4", n=2, stream=True)

    choices = [choice for chunk in read_chunks(answer.events) for choice in chunk["choices"]]
    assert "".join(choice["delta"].get("content") or "" for choice in choices if choice["index"] == 0) == "-----" * 150
    assert [choice["finish_reason"] for choice in choices[-2:]] == ["stop", "length"]
