"""Whatever wire an upstream speaks, the caller sees the same: each wire plays a scene beside OpenAI's own.

Both are asked through the real application. What cannot be the same (ids, seconds, names of models, where a stream is
cut into pieces) is put aside before comparing.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from tests.support.app import Answer, RunningGateway, running
from tests.support.contract import (
    assert_completion_obeys_contract,
    assert_error_obeys_contract,
    assert_stream_obeys_contract,
    join_content,
    read_chunks,
)
from tests.support.upstream import Gate, Held, Truncated
from tests.support.wires import (
    ANSWERS,
    BROKEN,
    CALLS,
    COUNTED,
    CUT,
    FAILED_MIDWAY,
    FAILURES,
    HANGING,
    IMAGE,
    LONG,
    RATE_LIMITED,
    STALLED,
    TEXT,
    TOO_LARGE,
    UPSTREAM_KEY,
    Anthropic,
    Gemini,
    OpenAI,
    Scene,
    WireUpstream,
)

PROMPT_SECONDS = 1.0  # within which an upstream must be free again
IMPORT_SECONDS = 60.0  # the first call of all waits until litellm is imported
WIRES = (OpenAI, Anthropic, Gemini)
FOREIGN = ("anthropic", "gemini")
EVERY = ("openai", *FOREIGN)
UNTOLD = {"anthropic": ("reasoning_tokens",)}  # what a wire has no word for
COMPLETION_KEYS = {"id", "object", "created", "model", "choices", "usage"}
BOTH_WAYS = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
EVERY_WIRE = pytest.mark.parametrize("wire", EVERY)
FOREIGN_WIRE = pytest.mark.parametrize("wire", FOREIGN)


@dataclass(frozen=True)
class House:
    """The gateway with one upstream and one alias per wire, both named like it."""

    gateway: RunningGateway
    upstreams: Mapping[str, WireUpstream]

    async def see(self, wire: str, scene: Scene, **fields: Any) -> Answer:
        """Ask for the scene and return what came over HTTP."""
        upstream = self.upstreams[wire]
        upstream.otherwise = upstream.scene(scene)
        answer = await self.gateway.chat(**scene.asks, model=wire, **fields)
        assert upstream.mistakes == []
        return answer


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with AsyncExitStack() as stack:
        upstreams = {kind.name: await stack.enter_async_context(WireUpstream(kind())) for kind in WIRES}
        providers = {name: make_provider(name, upstream.base_url) for name, upstream in upstreams.items()}
        models = {name: {"deployments": [f"{name}/{upstreams[name].wire.model}"]} for name in upstreams}
        config = json.dumps({"providers": providers, "models": models})
        yield House(await stack.enter_async_context(running(config, dice=lambda: 0.5)), upstreams)


def make_provider(wire: str, base_url: str) -> dict[str, Any]:
    kind = {"kind": "openai"} if wire == "openai" else {"kind": "litellm", "prefix": wire}
    return {**kind, "base_url": base_url, "api_key": UPSTREAM_KEY}


def read(answer: Answer, *, stream: bool, usage: bool) -> dict[str, Any]:
    """Return what a client understands of a good answer, which must obey the contract."""
    assert answer.status == 200, answer.body
    if not stream:
        body = answer.json
        assert_completion_obeys_contract(body)
        assert body.keys() - {"system_fingerprint", "service_tier"} == COMPLETION_KEYS
        (choice,) = body["choices"]
        message = choice["message"]
        assert "content" in message
        return understood(message, message.get("tool_calls") or [], choice["finish_reason"], body["usage"])
    assert_stream_obeys_contract(answer.events, include_usage=usage)
    chunks = read_chunks(answer.events)
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    return understood(*join(choices), choices[-1]["finish_reason"], chunks[-1].get("usage"))


def join(choices: list[dict[str, Any]]) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Return a stream's message and calls, put together as clients do."""
    message = {"role": "", "content": "", "reasoning_content": ""}
    calls: list[dict[str, Any]] = []
    for delta in (choice["delta"] for choice in choices):
        assert delta.keys() <= {*message, "refusal", "thinking_blocks", "tool_calls"}
        for name in message:
            message[name] += delta.get(name) or ""
        for piece in delta.get("tool_calls") or []:
            if "id" in piece:
                calls.append({**piece, "function": dict(piece["function"])})
            else:
                calls[piece["index"]]["function"]["arguments"] += piece["function"]["arguments"]
    return message, calls


def understood(
    message: Mapping[str, Any], calls: list[dict[str, Any]], finish_reason: str, usage: Mapping[str, Any] | None
) -> dict[str, Any]:
    assert len({call["id"] for call in calls}) == len(calls), "two calls have one id"
    assert message.keys() <= {"role", "content", "refusal", "reasoning_content", "thinking_blocks", "tool_calls"}
    return {
        "role": message["role"],
        "content": message["content"] or "",
        "reasoning": message.get("reasoning_content") or "",
        "calls": [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in calls],
        "finish_reason": finish_reason,
        "usage": None if usage is None else counted(usage),
    }


def counted(usage: Mapping[str, Any]) -> dict[str, int]:
    """Return the counts, with those of details that nobody told as zero."""
    counts = {name: usage[name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
    for group, name in (("prompt_tokens_details", "cached_tokens"), ("completion_tokens_details", "reasoning_tokens")):
        counts[name] = (usage.get(group) or {}).get(name) or 0
    return counts


def what_failed(answer: Answer) -> tuple[Any, ...]:
    error = answer.error
    return answer.status, error["type"], error["code"], answer.headers.get("Retry-After")


@BOTH_WAYS
@FOREIGN_WIRE
@pytest.mark.parametrize("scene", ANSWERS, ids=str)
async def test_an_answer_is_what_openai_would_have_sent(house: House, scene: Scene, wire: str, stream: bool) -> None:
    asked = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}

    theirs = read(await house.see("openai", scene, **asked), stream=stream, usage=True)
    ours = read(await house.see(wire, scene, **asked), stream=stream, usage=True)

    for name in UNTOLD.get(wire, ()):
        del theirs["usage"][name], ours["usage"][name]
    assert ours == theirs


@FOREIGN_WIRE
async def test_a_stream_tells_no_usage_to_those_who_did_not_ask(house: House, wire: str) -> None:
    answer = await house.see(wire, COUNTED, stream=True)

    assert read(answer, stream=True, usage=False)["usage"] is None
    assert b'"usage"' not in answer.body


@FOREIGN_WIRE
async def test_a_stream_comes_in_the_pieces_the_upstream_sent(house: House, wire: str) -> None:
    answer = await house.see(wire, LONG, stream=True)

    deltas = [choice["delta"] for chunk in read_chunks(answer.events) for choice in chunk["choices"]]
    assert [delta["content"] for delta in deltas if delta.get("content")] == list(LONG.pieces)


@BOTH_WAYS
@FOREIGN_WIRE
@pytest.mark.parametrize("scene", [TEXT, IMAGE, CALLS], ids=str)
async def test_the_upstream_is_asked_the_same(house: House, scene: Scene, wire: str, stream: bool) -> None:
    for name in ("openai", wire):
        await house.see(name, scene, stream=stream, temperature=0.5)

    theirs, ours = await house.upstreams["openai"].asked(), await house.upstreams[wire].asked()
    assert (ours.system, ours.text, ours.images, ours.tools) == (
        theirs.system,
        theirs.text,
        theirs.images,
        theirs.tools,
    )
    assert (ours.stream, ours.max_tokens, ours.temperature) == (stream, theirs.max_tokens, 0.5)
    assert ours.model == house.upstreams[wire].wire.model


@pytest.mark.parametrize(
    ("wire", "place"), [("anthropic", ("stop_sequences",)), ("gemini", ("generationConfig", "stop_sequences"))]
)
async def test_as_many_stop_words_reach_the_upstream_as_were_sent(
    house: House, wire: str, place: tuple[str, ...]
) -> None:
    words = ["a", "b", "c", "d", "e"]

    await house.see(wire, TEXT, stop=words)

    sent = (await house.upstreams[wire].request()).fields
    for name in place:
        sent = sent[name]
    assert sent == words


@BOTH_WAYS
@FOREIGN_WIRE
@pytest.mark.parametrize("scene", FAILURES, ids=str)
async def test_a_refusal_is_the_error_it_would_be_of_openais(
    house: House, scene: Scene, wire: str, stream: bool
) -> None:
    theirs = await house.see("openai", scene, stream=stream)
    ours = await house.see(wire, scene, stream=stream)

    assert what_failed(ours) == what_failed(theirs)
    assert UPSTREAM_KEY.encode() not in ours.body
    assert b"litellm" not in ours.body.lower()


@EVERY_WIRE
async def test_a_rate_limit_says_when_to_come_back(house: House, wire: str) -> None:
    answer = await house.see(wire, RATE_LIMITED)

    assert (answer.status, answer.headers["Retry-After"]) == (429, "7")


@EVERY_WIRE
@pytest.mark.parametrize("scene", BROKEN, ids=str)
async def test_a_stream_that_breaks_ends_in_an_error_and_is_never_done(house: House, scene: Scene, wire: str) -> None:
    answer = await house.see(wire, scene, stream=True)

    *before, last = [json.loads(event) for event in answer.events]
    error = assert_error_obeys_contract(last)
    expected = "server_is_overloaded" if scene is FAILED_MIDWAY else "upstream_stream_interrupted"
    assert error["code"] == expected
    assert all("error" not in chunk and chunk["choices"][0]["finish_reason"] is None for chunk in before)
    if scene is not CUT:  # a reset may overtake what was sent before it
        assert join_content(answer.events[:-1]) == "one two "


@FOREIGN_WIRE
async def test_a_plain_answer_that_is_cut_is_the_same_failure(house: House, wire: str) -> None:
    failed = {}
    for name in ("openai", wire):
        upstream = house.upstreams[name]
        upstream.otherwise = Truncated(upstream.scene(TEXT))
        failed[name] = what_failed(await house.gateway.chat(**TEXT.asks, model=name))

    assert failed[wire] == failed["openai"] == (502, "server_error", "upstream_truncated", None)


async def test_a_request_that_is_too_large_is_the_callers_to_make_smaller(house: House) -> None:
    theirs = await house.see("openai", TOO_LARGE)
    ours = await house.see("anthropic", TOO_LARGE)  # Gemini has no status of its own for it

    assert what_failed(ours) == what_failed(theirs)
    assert ours.status == 413


@BOTH_WAYS
@EVERY_WIRE
async def test_leaving_before_the_answer_closes_the_upstream(house: House, wire: str, stream: bool) -> None:
    asking = asyncio.create_task(house.see(wire, HANGING, stream=stream))
    await house.upstreams[wire].request(within_seconds=IMPORT_SECONDS)

    asking.cancel()

    await house.upstreams[wire].closed_by_client(within_seconds=PROMPT_SECONDS)


@EVERY_WIRE
async def test_leaving_a_stream_closes_the_upstream(house: House, wire: str) -> None:
    upstream = house.upstreams[wire]
    upstream.otherwise = upstream.scene(STALLED)
    asked = {**STALLED.asks, "model": wire, "stream": True}
    async with aiohttp.ClientSession() as session:
        response = await session.post(house.gateway.base_url + "/chat/completions", json=asked)
        await response.content.readuntil(b"\n\n")

        response.close()

    await upstream.closed_by_client(within_seconds=PROMPT_SECONDS)


@EVERY_WIRE
async def test_the_first_words_are_there_before_the_last(house: House, wire: str) -> None:
    upstream, gate = house.upstreams[wire], Gate()
    second = {"openai": 2, "anthropic": 4, "gemini": 1}[wire]  # the event of the second piece of text
    upstream.script(Held(upstream.scene(TEXT), gate, before=second))
    asked = {**TEXT.asks, "model": wire, "stream": True}

    async with (
        aiohttp.ClientSession() as session,
        session.post(house.gateway.base_url + "/chat/completions", json=asked) as response,
    ):
        seen = b""
        while TEXT.pieces[0].encode() not in seen:
            event = await response.content.readuntil(b"\n\n")
            assert event, "the stream ended"
            seen += event
        gate.open()
        rest = await response.read()

    assert b"[DONE]" in rest
    assert b"[DONE]" not in seen
