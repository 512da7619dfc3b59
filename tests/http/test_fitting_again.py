"""Requests that an upstream calls too long, in whatever words and after whatever else it refused."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from tests.support.app import UPSTREAM_KEY, Answer, RunningGateway, running
from tests.support.upstream import ScriptedUpstream, Status
from tests.support.wires import UPSTREAM_KEY as WIRE_KEY
from tests.support.wires import Anthropic, Failure, Gemini, OpenAI, Scene, Wire, WireUpstream

TURN = "one two three four five six seven eight nine ten " * 5  # 51 tokens of o200k_base
TALK = [{"role": role, "content": f"{number}: {TURN}"} for number in range(20) for role in ("user", "assistant")]
QUESTION = {"role": "user", "content": "What was the first thing I said?"}
TOO_LONG = Status(400, message="maximum context length is 1000 tokens", code="context_length_exceeded")
UNSUPPORTED = Status(
    400,
    message="Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
    code="unsupported_parameter",
    param="max_tokens",
)
# vLLM's words, and Mistral's: neither has a code for it.
IN_WORDS: dict[str, dict[str, Any]] = {
    "vllm": {
        "object": "error",
        "message": "This model's maximum context length is 1000 tokens. However, you requested 2500 tokens (2400 in the "
        "messages, 100 in the completion). Please reduce the length of the messages or completion.",
        "type": "BadRequestError",
        "param": None,
        "code": 400,
    },
    "mistral": {
        "object": "error",
        "message": "Prompt contains 2500 tokens and 0 draft tokens, too large for model with 1000 maximum context length",
        "type": "invalid_request_error",
        "param": None,
        "code": "3051",
    },
}


def configured(upstream: ScriptedUpstream, alias: dict[str, Any] | None = None) -> str:
    providers = {
        name: {"kind": "openai", "base_url": upstream.base_url, "api_key": UPSTREAM_KEY} for name in ("up0", "up1")
    }
    models = {"small": {"deployments": [{"provider": "up0", "model": "gpt-4o-0"}], **(alias or {})}}
    return json.dumps({"providers": providers, "models": models})


async def ask(gateway: RunningGateway, **fields: Any) -> Answer:
    body = json.dumps({"model": "small", "messages": [*TALK, QUESTION], **fields}).encode()
    headers = {"Content-Type": "application/json"}
    return await gateway.ask("POST", "/v1/chat/completions", data=io.BytesIO(body), headers=headers)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_field_that_is_refused_first_does_not_keep_a_long_request_from_being_cut(
    upstream: ScriptedUpstream, stream: bool
) -> None:
    upstream.script(UNSUPPORTED, TOO_LONG)
    async with running(configured(upstream)) as gateway:
        answer = await ask(gateway, max_tokens=100, stream=stream)

    assert answer.status == 200
    assert [len(request.json["messages"]) for request in upstream.requests][:2] == [41, 41]
    last = upstream.requests[2].json
    assert 5 < len(last["messages"]) < 41
    assert (last.get("max_tokens"), last["max_completion_tokens"]) == (None, 100)
    assert int(answer.headers["x-gateway-truncated"]) > 1000


async def test_a_field_that_is_refused_after_the_cut_is_given_up_as_well(upstream: ScriptedUpstream) -> None:
    upstream.script(TOO_LONG, UNSUPPORTED)
    async with running(configured(upstream)) as gateway:
        answer = await ask(gateway, max_tokens=100)

    assert answer.status == 200
    assert [len(request.json["messages"]) < 41 for request in upstream.requests] == [False, True, True]
    assert answer.headers["x-gateway-attempts"] == "3"


@pytest.mark.parametrize("maker", IN_WORDS)
async def test_a_limit_that_is_told_in_words_alone_is_fitted_as_well(upstream: ScriptedUpstream, maker: str) -> None:
    upstream.script(Status(400, body=IN_WORDS[maker]))
    async with running(configured(upstream)) as gateway:
        answer = await ask(gateway, max_tokens=100)
        later = await ask(gateway)

    assert answer.status == 200
    assert len(upstream.requests[1].json["messages"]) < 41
    assert int(answer.headers["x-gateway-truncated"]) > 1000
    assert later.headers["x-gateway-attempts"] == "1"


async def test_who_is_not_to_be_cut_reads_the_code_that_clients_look_for(upstream: ScriptedUpstream) -> None:
    upstream.otherwise = Status(400, body=IN_WORDS["vllm"])
    async with running(configured(upstream, {"truncation": "refuse"})) as gateway:
        answer = await ask(gateway)

    assert answer.status == 400
    assert (answer.error["code"], answer.error["param"]) == ("context_length_exceeded", "messages")
    assert len(upstream.requests) == 1
    assert gateway.lines()[0]["error"] == "context_length_exceeded"


async def test_a_larger_model_is_asked_when_a_limit_is_told_in_words_alone(upstream: ScriptedUpstream) -> None:
    upstream.for_model("gpt-4o-0", Status(400, body=IN_WORDS["vllm"]))
    larger = {"context_fallbacks": [{"provider": "up1", "model": "gpt-4o-1", "context_window": 100_000}]}
    async with running(configured(upstream, larger)) as gateway:
        answer = await ask(gateway)

    assert [request.json["model"] for request in upstream.requests] == ["gpt-4o-0", "gpt-4o-1"]
    assert answer.status == 200
    assert "x-gateway-truncated" not in answer.headers


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "look",
            "description": "Look something up.",
            "parameters": {"type": "object", "properties": {"what": {"type": "string"}}},
        },
    }
]
THEIR_WORDS: list[tuple[type[Wire], str, str]] = [
    (Anthropic, "anthropic", "prompt is too long: 2500 tokens > 1000 maximum"),
    (
        Anthropic,
        "anthropic",
        "input length and `max_tokens` exceed context limit: 2500 + 300 > 2000, decrease input length",
    ),
    (Gemini, "gemini", "The input token count (2500) exceeds the maximum number of tokens allowed (1000)."),
    (
        OpenAI,
        "openai",
        "This model's maximum context length is 1000 tokens. However, your messages resulted in 2500 tokens.",
    ),
]


@pytest.mark.parametrize(("wire", "provider", "message"), THEIR_WORDS)
async def test_what_other_makers_say_of_their_limits_is_fitted_and_instructions_and_tools_stay(
    wire: type[Wire], provider: str, message: str
) -> None:
    async with WireUpstream(wire()) as upstream:
        upstream.play(Scene("too long", failure=Failure("context too long", message)))
        model = f"{provider}/{upstream.wire.model}"
        config = {"providers": {provider: {"base_url": upstream.base_url, "api_key": WIRE_KEY}}}
        system = {"role": "system", "content": "Be as brief as you can."}
        async with running(json.dumps(config)) as gateway:
            answer = await ask(gateway, model=model, messages=[system, *TALK, QUESTION], tools=TOOLS)
            later = await ask(gateway, model=model, messages=[system, *TALK, QUESTION], tools=TOOLS)

    assert (answer.status, answer.headers["x-gateway-attempts"]) == (200, "2")
    whole, cut, again = (json.dumps(request.json) for request in upstream.requests)
    assert "19: one two" in cut
    assert "0: one two three four five six seven eight nine ten one two" not in cut.replace("10: ", "")
    assert all("Be as brief as you can." in sent and "Look something up." in sent for sent in (whole, cut, again))
    assert len(cut) < len(whole) * 0.8
    assert int(answer.headers["x-gateway-truncated"]) > 400
    assert not upstream.mistakes
    assert later.status == 200


@pytest.mark.parametrize("kind", ["image", "document"])
async def test_a_part_that_is_named_in_few_bytes_is_taken_for_what_it_may_have(
    upstream: ScriptedUpstream, kind: str
) -> None:
    part = {"type": kind, "source": {"type": "url", "url": "https://example.com/a"}}
    alias = {"deployments": [{"provider": "up0", "model": "gpt-4o-0", "context_window": 600}]}
    async with running(configured(upstream, alias)) as gateway:
        answer = await ask(gateway, messages=[{"role": "user", "content": [part]}])

    assert (answer.status, answer.error["code"]) == (400, "context_length_exceeded")
    assert not upstream.requests
