"""POST /v1/chat/completions, plain and streamed."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.support.app import CHAT, MESSAGES, RunningGateway, make_config, running
from tests.support.contract import (
    assert_completion_obeys_contract,
    assert_stream_obeys_contract,
    join_content,
    read_chunks,
)
from tests.support.upstream import (
    FORMS,
    Body,
    Chat,
    Formed,
    Gate,
    Held,
    ScriptedUpstream,
    Sliced,
    SseForm,
    ToolCall,
)

FULL_REQUEST = {
    "model": "small",
    "messages": [
        {"role": "developer", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "é"}, {"type": "image_url", "image_url": {"url": "data:x"}}],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c", "content": "4"},
    ],
    "temperature": 0.5,
    "max_tokens": 10,
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": None}}],
    "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}},
    "metadata": {"a": "b"},
    "min_p": 0.05,
    "chat_template_kwargs": {"enable_thinking": False},
    "top_p": None,
}


async def test_a_plain_answer_obeys_the_contract(gateway: RunningGateway) -> None:
    answer = await gateway.chat()

    assert answer.status == 200
    assert_completion_obeys_contract(answer.json)
    assert answer.json["choices"][0]["message"]["content"] == "Hello there"


async def test_a_plain_answers_bytes_are_the_upstreams(gateway: RunningGateway, upstream: ScriptedUpstream) -> None:
    odd = b'{ "id":"x",  "choices": [0], "vendor_field": 1.50 }'
    upstream.script(Body(odd))

    assert (await gateway.chat()).body == odd


async def test_everything_the_caller_sends_travels_on_but_the_model(
    gateway: RunningGateway, upstream: ScriptedUpstream
) -> None:
    await gateway.post("chat/completions", FULL_REQUEST)

    assert upstream.requests[0].json == {**FULL_REQUEST, "model": "model"}


async def test_the_callers_headers_do_not_travel_on(gateway: RunningGateway, upstream: ScriptedUpstream) -> None:
    headers = {"Authorization": "Bearer sk-callers-own", "Cookie": "a=b", "X-Custom": "c", "api-key": "sk-callers-own"}

    await gateway.ask("POST", "/v1/chat/completions", json=CHAT, headers=headers)

    sent = upstream.requests[0].headers
    assert "sk-callers-own" not in str(sent)
    assert not {"Cookie", "X-Custom", "api-key"} & set(sent)


async def test_an_answer_says_who_gave_it(gateway: RunningGateway) -> None:
    answer = await gateway.chat()

    assert answer.headers["x-gateway-deployment"] == "up0/model"
    assert answer.headers["x-gateway-attempts"] == "1"


async def test_a_model_may_be_spelled_out(gateway: RunningGateway, upstream: ScriptedUpstream) -> None:
    answer = await gateway.chat(model="up0/vendor/some model")

    assert answer.status == 200
    assert upstream.requests[0].model == "vendor/some model"


@pytest.mark.parametrize("name", ["up0/模型", "up0/" + "x" * 100_000])
async def test_a_spelled_out_model_that_fits_no_header_is_other_there(gateway: RunningGateway, name: str) -> None:
    plain = await gateway.chat(model=name)
    stream = await gateway.chat(model=name, stream=True)

    assert (plain.status, stream.status) == (200, 200)
    assert plain.headers["x-gateway-deployment"] == stream.headers["x-gateway-deployment"] == "up0/other"


@pytest.mark.parametrize("name", ["up0/a\r\nX-Evil: 1", "up0/a\nb", "up0/\0", "\r\nX-Evil: 1", "../../x", "up0/"])
async def test_a_strange_model_is_not_found(gateway: RunningGateway, upstream: ScriptedUpstream, name: str) -> None:
    answer = await gateway.chat(model=name)

    assert answer.status == 404
    assert answer.error["code"] == "model_not_found"
    assert upstream.requests == []


async def test_a_large_request_and_a_large_answer_pass(gateway: RunningGateway, upstream: ScriptedUpstream) -> None:
    text = "é" * 3_000_000
    upstream.script(Chat(text))

    answer = await gateway.chat(messages=[{"role": "user", "content": text}])

    assert upstream.requests[0].json["messages"][0]["content"] == text
    assert answer.json["choices"][0]["message"]["content"] == text


@pytest.mark.parametrize("stream", [None, False])
async def test_stream_null_and_false_mean_plain(gateway: RunningGateway, stream: bool | None) -> None:
    assert_completion_obeys_contract((await gateway.chat(stream=stream)).json)


async def test_a_stream_obeys_the_contract(gateway: RunningGateway) -> None:
    answer = await gateway.chat(stream=True)

    assert answer.status == 200
    assert_stream_obeys_contract(answer.events)
    assert join_content(answer.events) == "Hello there"
    assert answer.headers["Cache-Control"] == "no-cache"
    assert answer.headers["X-Accel-Buffering"] == "no"
    assert answer.body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("where", ["own_chunk", "finish_chunk", "every_chunk"])
async def test_usage_that_was_not_asked_for_is_nowhere(
    gateway: RunningGateway, upstream: ScriptedUpstream, where: Any
) -> None:
    upstream.script(Chat(usage_on=where))

    events = (await gateway.chat(stream=True)).events

    assert_stream_obeys_contract(events, include_usage=False)


async def test_usage_that_was_asked_for_comes_last_and_alone(gateway: RunningGateway) -> None:
    events = (await gateway.chat(stream=True, stream_options={"include_usage": True})).events

    assert_stream_obeys_contract(events, include_usage=True)
    assert read_chunks(events)[-1]["usage"]["completion_tokens"] == 12


async def test_an_upstream_that_sends_usage_unasked_is_tidied(upstream: ScriptedUpstream) -> None:
    upstream.script(Chat(usage_unasked=True))
    async with running(make_config(upstream, provider={"streams_usage": False})) as gateway:
        events = (await gateway.chat(stream=True)).events

    assert "stream_options" not in upstream.requests[0].json
    assert_stream_obeys_contract(events, include_usage=False)


@pytest.mark.parametrize("stream", [False, True])
async def test_several_choices_each_have_their_own_end(gateway: RunningGateway, stream: bool) -> None:
    answer = await gateway.chat(n=2, stream=stream)

    if stream:
        assert_stream_obeys_contract(answer.events, n=2)
        assert join_content(answer.events, 1) == "Hello there #1"
    else:
        assert_completion_obeys_contract(answer.json, n=2)


@pytest.mark.parametrize("content", [None, "First, a look."])
async def test_tool_calls_stream_with_their_ids_and_names_once(
    gateway: RunningGateway, upstream: ScriptedUpstream, content: str | None
) -> None:
    calls = (ToolCall("look", '{"at": "the sea"}'), ToolCall("go", '{"to": "Rome"}', id="call_2"))
    upstream.script(Chat(content, tool_calls=calls))

    events = (await gateway.chat(stream=True)).events

    assert_stream_obeys_contract(events)
    pieces = [
        call
        for chunk in read_chunks(events)
        for choice in chunk["choices"]
        for call in choice["delta"].get("tool_calls", ())
    ]
    arguments = ["".join(piece["function"]["arguments"] for piece in pieces if piece["index"] == k) for k in (0, 1)]
    assert arguments == [call.arguments for call in calls]


async def test_reasoning_passes(gateway: RunningGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(Chat(reasoning="because"), Chat(reasoning="because"))

    plain = await gateway.chat()
    stream = await gateway.chat(stream=True)

    assert plain.json["choices"][0]["message"]["reasoning_content"] == "because"
    assert any("reasoning_content" in event for event in stream.events)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
async def test_every_form_of_events_gives_what_the_plain_form_gives(
    gateway: RunningGateway, upstream: ScriptedUpstream, form: SseForm
) -> None:
    story = Chat(("Grüße", " 世界 ", "🎉"), extra={"id": "same"})
    upstream.script(story, Formed(story, form), Sliced(Formed(story, form), (1, 2, 5)))

    plain, formed, sliced = [(await gateway.chat(stream=True)).events for _ in range(3)]

    assert read_chunks(formed) == read_chunks(plain)
    assert read_chunks(sliced) == read_chunks(plain)
    assert_stream_obeys_contract(sliced)


async def test_a_line_of_a_megabyte_passes(gateway: RunningGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(Chat("x" * 1_000_000))

    assert join_content((await gateway.chat(stream=True)).events) == "x" * 1_000_000


async def test_events_are_passed_on_as_they_come(gateway: RunningGateway, upstream: ScriptedUpstream) -> None:
    gate = Gate()
    upstream.script(Held(Chat(("one", "two")), gate, before=None))
    gate.let()
    received: list[bytes] = []

    async with gateway.session.post(gateway.base_url + "/chat/completions", json={**CHAT, "stream": True}) as response:
        for _ in range(3):  # each event is seen by the client before the upstream may send the next
            received.append(await response.content.readuntil(b"\n\n"))
            gate.let()
        gate.open()
        await response.read()

    deltas = [json.loads(event.removeprefix(b"data: "))["choices"][0]["delta"] for event in received]
    assert [delta.get("content") for delta in deltas] == ["", "one", "two"]


async def test_the_head_of_a_stream_waits_for_the_first_event(
    gateway: RunningGateway, upstream: ScriptedUpstream
) -> None:
    gate = Gate()
    upstream.script(Held(Chat(), gate, before=0))
    asking = asyncio.create_task(gateway.chat(stream=True))
    await gate.reached()
    silent = not asking.done()

    gate.open()

    assert silent
    assert (await asking).status == 200


async def test_many_requests_at_once_do_not_mix(gateway: RunningGateway, upstream: ScriptedUpstream) -> None:
    upstream.otherwise = lambda request: Chat(request.json["messages"][0]["content"])

    def make(number: int) -> Any:
        return gateway.chat(messages=[{"role": "user", "content": f"number {number}"}], stream=bool(number % 2))

    answers = await asyncio.gather(*(make(number) for number in range(100)))

    texts = [
        join_content(answer.events) if number % 2 else answer.json["choices"][0]["message"]["content"]
        for number, answer in enumerate(answers)
    ]
    assert texts == [f"number {number}" for number in range(100)]


async def test_settings_of_the_configuration_fill_in_what_was_left_out(upstream: ScriptedUpstream) -> None:
    text = make_config(upstream, provider={"settings": {"temperature": 0.6, "max_tokens": 50}})
    async with running(text) as gateway:
        await gateway.chat(temperature=1.0)

    assert upstream.requests[0].json == {
        "model": "model",
        "messages": MESSAGES,
        "temperature": 1.0,
        "max_tokens": 50,
    }
