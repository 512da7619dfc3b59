"""The correct answers of the scripted upstream, as the official client reads them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import aiohttp
import openai
import pytest
from openai import AsyncOpenAI

from tests.support.contract import (
    assert_completion_obeys_contract,
    assert_error_obeys_contract,
    assert_stream_obeys_contract,
    join_content,
    parse_sse,
)
from tests.support.upstream import (
    Chat,
    Completion,
    Correct,
    Embeddings,
    Models,
    ScriptedUpstream,
    Status,
    ToolCall,
    add_one,
    drop_all,
    drop_last,
    make_vector,
    put_nan,
    reverse_order,
    shorten_last,
)

HELLO = [{"role": "user", "content": "Hello"}]
CHAT = {"model": "m", "messages": HELLO}


async def test_without_a_script_a_chat_is_answered_correctly(client: AsyncOpenAI) -> None:
    completion = await client.chat.completions.create(model="m", messages=HELLO, n=2)

    assert [choice.message.content for choice in completion.choices] == ["Hello there", "Hello there #1"]
    assert completion.usage is not None
    assert completion.usage.total_tokens == 21
    assert_completion_obeys_contract(completion.model_dump(), n=2)


async def test_a_stream_gives_its_deltas_one_by_one(client: AsyncOpenAI, upstream: ScriptedUpstream) -> None:
    upstream.script(Chat(("é", "", "𝄞")))

    stream = await client.chat.completions.create(model="m", messages=HELLO, stream=True)
    deltas = [chunk.choices[0].delta.content async for chunk in stream]

    assert deltas == ["", "é", "", "𝄞", None]


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("include_usage", [False, True])
@pytest.mark.parametrize(
    "chat",
    [
        Chat(),
        Chat("x" * 1_000_000),
        Chat(reasoning="Hm."),
        Chat(None, tool_calls=(ToolCall("a"), ToolCall("b", id="2"))),
    ],
    ids=["text", "1 MB line", "reasoning", "tools"],
)
async def test_every_stream_obeys_the_contract(
    session: aiohttp.ClientSession, upstream: ScriptedUpstream, chat: Chat, include_usage: bool, n: int
) -> None:
    upstream.script(chat)
    options = {"stream_options": {"include_usage": True}} if include_usage else {}

    async with session.post("chat/completions", json={**CHAT, "stream": True, "n": n, **options}) as response:
        events = parse_sse(await response.read())

    assert_stream_obeys_contract(events, n=n, include_usage=include_usage)
    assert join_content(events) == (chat.text or "")
    assert all(("usage" in json.loads(event)) is include_usage for event in events[:-1])


async def test_the_sdk_puts_streamed_tool_calls_together(client: AsyncOpenAI, upstream: ScriptedUpstream) -> None:
    arguments = '{"city":"Orléans","unit":"celsius"}'
    upstream.script(Chat(None, tool_calls=(ToolCall("weather", arguments), ToolCall("time", "{}", id="call_2"))))

    async with client.chat.completions.stream(model="m", messages=HELLO) as stream:
        completion = await stream.get_final_completion()

    calls = completion.choices[0].message.tool_calls or []
    assert [(call.id, call.function.name, call.function.arguments) for call in calls] == [
        ("call_1", "weather", arguments),
        ("call_2", "time", "{}"),
    ]
    assert completion.choices[0].finish_reason == "tool_calls"


async def test_the_sdk_puts_two_streamed_choices_together(client: AsyncOpenAI) -> None:
    options = {"include_usage": True}

    async with client.chat.completions.stream(model="m", messages=HELLO, n=2, stream_options=options) as stream:
        completion = await stream.get_final_completion()

    assert [choice.message.content for choice in completion.choices] == ["Hello there", "Hello there #1"]
    assert completion.usage is not None
    assert completion.usage.total_tokens == 21


@pytest.mark.parametrize("usage_on", ["finish_chunk", "every_chunk"])
async def test_usage_can_ride_on_other_chunks(
    session: aiohttp.ClientSession, upstream: ScriptedUpstream, usage_on: str
) -> None:
    upstream.script(Chat("x", usage_on=usage_on, usage_unasked=True, usage={"prompt_tokens": -1}))

    async with session.post("chat/completions", json={**CHAT, "stream": True}) as response:
        events = parse_sse(await response.read())

    usages = [json.loads(event)["usage"] for event in events[:-1]]
    assert usages[-1] == {"prompt_tokens": -1}
    assert (usages[0] is None) is (usage_on == "finish_chunk")


async def test_usage_can_be_missing_or_of_a_wrong_type(
    session: aiohttp.ClientSession, upstream: ScriptedUpstream
) -> None:
    upstream.script(Chat(usage=None), Chat(usage="many"))

    bodies = []
    for _ in range(2):
        async with session.post("chat/completions", json=CHAT) as response:
            bodies.append(await response.json())

    assert "usage" not in bodies[0]
    assert bodies[1]["usage"] == "many"


async def test_a_stream_may_lack_its_finish_and_its_end(
    session: aiohttp.ClientSession, upstream: ScriptedUpstream
) -> None:
    upstream.script(Chat("x", finish_reason=None, done=False))

    async with session.post("chat/completions", json={**CHAT, "stream": True}) as response:
        events = parse_sse(await response.read())

    assert len(events) == 2
    assert "[DONE]" not in events


async def test_the_form_of_the_answer_can_contradict_the_request(
    session: aiohttp.ClientSession, upstream: ScriptedUpstream
) -> None:
    upstream.script(Chat(stream=True), Chat(stream=False))

    async with session.post("chat/completions", json=CHAT) as asked_plain:
        events = parse_sse(await asked_plain.read())
    async with session.post("chat/completions", json={**CHAT, "stream": True}) as asked_stream:
        body = await asked_stream.json()

    assert_stream_obeys_contract(events)
    assert_completion_obeys_contract(body)


@pytest.mark.parametrize("given", ["one text", ["a", "b"], [1, 2, 3], [[1, 2], [3]]])
async def test_embeddings_are_those_of_their_inputs_in_both_encodings(client: AsyncOpenAI, given: Any) -> None:
    as_float = await client.embeddings.create(model="e", input=given, encoding_format="float")
    as_default = await client.embeddings.create(model="e", input=given)

    alone = isinstance(given, str) or given == [1, 2, 3]
    wanted = [make_vector(item) for item in ([given] if alone else given)]
    assert [item.embedding for item in as_float.data] == wanted
    assert [item.embedding for item in as_default.data] == wanted
    assert [item.index for item in as_float.data] == list(range(len(wanted)))
    assert as_float.usage.prompt_tokens > 0


async def test_embeddings_have_the_dimensions_asked_for(client: AsyncOpenAI, upstream: ScriptedUpstream) -> None:
    answer = await client.embeddings.create(model="e", input="a", dimensions=3)

    assert answer.data[0].embedding == make_vector("a", 3)
    assert upstream.requests[0].json["encoding_format"] == "base64"


@pytest.mark.parametrize(
    ("spoil", "indices"),
    [(drop_last, [0]), (add_one, [0, 1, 2]), (drop_all, []), (reverse_order, [1, 0]), (shorten_last, [0, 1])],
)
async def test_embeddings_can_be_wrong(
    session: aiohttp.ClientSession, upstream: ScriptedUpstream, spoil: Callable[..., Any], indices: list[int]
) -> None:
    upstream.script(Embeddings(spoil=spoil))

    async with session.post("embeddings", json={"model": "e", "input": ["a", "b"]}) as response:
        body = await response.json()

    assert [item["index"] for item in body["data"]] == indices


async def test_embeddings_can_hold_what_json_has_no_word_for(
    session: aiohttp.ClientSession, upstream: ScriptedUpstream
) -> None:
    upstream.script(Embeddings(spoil=put_nan))

    async with session.post("embeddings", json={"model": "e", "input": "a"}) as response:
        raw = await response.read()

    assert b"[NaN," in raw


async def test_legacy_completions_come_plain_and_streamed(client: AsyncOpenAI, upstream: ScriptedUpstream) -> None:
    upstream.script(Completion(("a", "b")), Completion(("a", "b")))

    plain = await client.completions.create(model="m", prompt=["x", "y"], n=2)
    stream = await client.completions.create(model="m", prompt="x", stream=True, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in stream]

    assert [choice.text for choice in plain.choices] == ["ab"] * 4
    assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == "ab"
    assert chunks[-1].usage is not None


async def test_models_are_listed_and_retrieved(client: AsyncOpenAI, upstream: ScriptedUpstream) -> None:
    upstream.otherwise = Correct(models=Models(("a", "vendor/x y")))

    names = [model.id async for model in client.models.list()]
    model = await client.models.retrieve("vendor/x y")

    assert names == ["a", "vendor/x y"]
    assert model.id == "vendor/x y"
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        await client.models.retrieve("b")


async def test_a_status_carries_the_openai_error_and_its_headers(
    client: AsyncOpenAI, upstream: ScriptedUpstream
) -> None:
    upstream.script(Status(429, retry_after="2", code="rate_limit_exceeded", headers={"x-request-id": "req_1"}))

    with pytest.raises(openai.RateLimitError) as caught:
        await client.chat.completions.create(model="m", messages=HELLO)

    assert caught.value.response.headers["retry-after"] == "2"
    assert caught.value.request_id == "req_1"
    assert assert_error_obeys_contract(caught.value.response.json())["type"] == "rate_limit_error"


@pytest.mark.parametrize("status", [204, 206, 304, 400, 418, 500, 503, 529, 599, 999])
async def test_any_status_can_be_played(
    session: aiohttp.ClientSession, upstream: ScriptedUpstream, status: int
) -> None:
    upstream.script(Status(status, body="text"))

    async with session.post("chat/completions", json=CHAT) as response:
        body = await response.text()

    assert response.status == status
    assert body == ("" if status in {204, 304} else "text")
