"""What litellm says of a message besides its text, in whole answers and in streams."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from pydantic import SecretStr

from gateway.call import Usage
from gateway.errors import UpstreamRejected
from gateway.providers import LiteLLMSettings, PlainReply
from gateway.providers.litellm import LiteLLM
from tests.support.exchanges import MESSAGES, make_exchange
from tests.support.upstream import ScriptedUpstream
from tests.support.wires.base import event_answer, json_answer

HEAD = {"id": "chatcmpl-1", "created": 1, "model": "gpt-4o"}
TOOLS = [{"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}]
SOURCE = {"type": "url_citation", "url_citation": {"url": "https://a", "title": "t", "start_index": 0, "end_index": 1}}
CUSTOM = {"id": "c", "type": "custom", "custom": {"name": "z", "input": "raw"}}
LEGACY = {"name": "now", "arguments": "{}"}
CITED = {"type": "web_search_result_location", "url": "https://a", "title": "t", "cited_text": "q"}


def whole(message: dict[str, Any], finish: str = "stop") -> Any:
    choice = {"index": 0, "message": {"role": "assistant", "content": None, **message}, "finish_reason": finish}
    return lambda _: json_answer({**HEAD, "object": "chat.completion", "choices": [choice]})


def stream(*pieces: tuple[int, dict[str, Any], str | None]) -> Any:
    steps = [
        {
            **HEAD,
            "object": "chat.completion.chunk",
            "choices": [{"index": index, "delta": delta, "finish_reason": finish}],
        }
        for index, delta, finish in pieces
    ]
    return lambda _: event_answer([*(f"data: {json.dumps(step)}\n\n".encode() for step in steps), b"data: [DONE]\n\n"])


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as upstream:
        yield upstream


async def ask(upstream: ScriptedUpstream, prefix: str, model: str = "gpt-4o", **fields: Any) -> list[dict[str, Any]]:
    """Return the message of a whole answer with its finish, or the deltas of a stream with theirs."""
    options = {"api_version": SecretStr("2025-04-01-preview")} if prefix == "azure" else {}
    settings = LiteLLMSettings(
        kind="litellm", prefix=prefix, base_url=upstream.base_url, api_key=SecretStr("sk-canary-1"), options=options
    )
    lane = LiteLLM("lab", settings)
    body = {"model": "small", "messages": MESSAGES, **fields}
    try:
        reply = await lane.send(make_exchange(model=model, body=body, stream=fields.get("stream", False)))
        if isinstance(reply, PlainReply):
            choices = orjson.loads(reply.body)["choices"]
            return [{**choice["message"], "finish": choice["finish_reason"]} for choice in choices]
        async with reply:
            events = b"".join([block async for block in reply]).split(b"\n\n")
    finally:
        await lane.close()
    assert events[-2:] == [b"data: [DONE]", b""]
    choices = [orjson.loads(event.removeprefix(b"data: "))["choices"][0] for event in events[:-2]]
    return [
        {
            **choice["delta"],
            "index": choice["index"],
            **({"finish": finish} if (finish := choice["finish_reason"]) else {}),
        }
        for choice in choices
    ]


@pytest.mark.parametrize(
    ("said", "finish"),
    [
        ({"refusal": "I cannot."}, "stop"),
        ({"annotations": [SOURCE], "content": "x"}, "stop"),
        ({"tool_calls": [CUSTOM]}, "tool_calls"),
        ({"function_call": LEGACY}, "function_call"),
    ],
)
async def test_every_part_of_a_whole_answer_is_carried(
    upstream: ScriptedUpstream, said: dict[str, Any], finish: str
) -> None:
    upstream.script(whole(said, finish))

    (message,) = await ask(upstream, "azure")

    assert {**said, "finish": finish}.items() <= message.items()


@pytest.mark.parametrize(
    ("pieces", "carried", "finish"),
    [
        ([{"refusal": "I can"}, {"refusal": "not."}], [{"refusal": "I can"}, {"refusal": "not."}], "stop"),
        (
            [{"function_call": {"name": "now", "arguments": ""}}, {"function_call": {"arguments": "{}"}}],
            [{"function_call": {"name": "now"}}, {"function_call": {"arguments": "{}"}}],
            "function_call",
        ),
        (
            [{"content": "x"}, {"annotations": [SOURCE]}],
            [{"content": "x"}, {"annotations": [{"index": 0, **SOURCE}]}],
            "stop",
        ),
        (
            [
                {"tool_calls": [{"index": 0, **CUSTOM, "custom": {"name": "z", "input": ""}}]},
                {"tool_calls": [{"index": 0, "custom": {"input": "raw"}}]},
            ],
            [
                {"tool_calls": [{"index": 0, **CUSTOM, "custom": {"name": "z", "input": ""}}]},
                {"tool_calls": [{"index": 0, "custom": {"input": "raw"}}]},
            ],
            "tool_calls",
        ),
    ],
)
async def test_every_part_of_a_stream_is_carried(
    upstream: ScriptedUpstream, pieces: list[dict[str, Any]], carried: list[dict[str, Any]], finish: str
) -> None:
    upstream.script(stream(*((0, piece, None) for piece in pieces), (0, {}, finish)))

    told = await ask(upstream, "azure", stream=True)

    assert told[1:] == [*({**part, "index": 0} for part in carried), {"index": 0, "finish": finish}]


@pytest.mark.parametrize("prefix", ["azure", "openai", "deepinfra", "groq", "mistral"])
async def test_all_choices_of_a_stream_end_with_their_own_reasons(upstream: ScriptedUpstream, prefix: str) -> None:
    upstream.script(
        stream((0, {"content": "a"}, None), (1, {"content": "b"}, None), (0, {}, "stop"), (1, {}, "length"))
    )

    told = await ask(upstream, prefix, stream=True, n=2)

    assert [(each["index"], each["finish"]) for each in told if "finish" in each] == [(0, "stop"), (1, "length")]


@pytest.mark.parametrize("prefix", ["azure", "deepinfra"])
async def test_a_row_of_equal_pieces_is_a_good_answer(upstream: ScriptedUpstream, prefix: str) -> None:
    upstream.script(stream(*[(0, {"content": "-----"}, None)] * 150, (0, {}, "stop")))

    told = await ask(upstream, prefix, stream=True)

    assert "".join(each.get("content") or "" for each in told) == "-----" * 150


async def test_functions_of_models_that_take_them_elsewhere_are_asked_for_there(upstream: ScriptedUpstream) -> None:
    call = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "now", "arguments": "{}"}
    upstream.script(
        lambda _: json_answer(
            {
                "id": "resp_1",
                "object": "response",
                "created_at": 1,
                "model": "gpt-6-luna",
                "status": "completed",
                "output": [{**call, "status": "completed"}],
                "usage": {"input_tokens": 5, "output_tokens": 6, "total_tokens": 11},
            }
        )
    )

    (message,) = await ask(upstream, "azure", "gpt-6-luna", tools=TOOLS)

    assert message["tool_calls"][0]["function"] == {"name": "now", "arguments": "{}"}
    assert upstream.requests[0].path.endswith("/openai/responses")


def google(part: dict[str, Any]) -> Any:
    candidate = {"index": 0, "content": {"role": "model", "parts": [part]}, "finishReason": "STOP"}
    counted = {"promptTokenCount": 5, "candidatesTokenCount": 3, "totalTokenCount": 8}
    told = {"candidates": [candidate], "usageMetadata": counted, "modelVersion": "g", "responseId": "r"}
    return lambda request: (
        event_answer([f"data: {json.dumps(told)}\n\n".encode()]) if "stream" in request.path else json_answer(told)
    )


async def test_google_answers_functions_and_sound(upstream: ScriptedUpstream) -> None:
    upstream.script(google({"functionCall": {"name": "now", "args": {"a": 1}}}))
    upstream.script(google({"inlineData": {"mimeType": "audio/pcm;rate=24000", "data": "AAAA"}}))
    functions = [{"name": "now", "parameters": {"type": "object", "properties": {}}}]
    sound = {"modalities": ["audio"], "audio": {"voice": "Kore", "format": "pcm16"}}

    (called,) = await ask(upstream, "gemini", "gemini-2.5-flash", functions=functions)
    (spoken,) = await ask(upstream, "gemini", "gemini-2.5-flash", **sound)

    assert called["function_call"]["name"] == "now"
    assert spoken["audio"]["data"] == "AAAA"


@pytest.mark.parametrize(
    "sound", [{"audio": {"voice": "Kore", "format": "pcm16"}}, {"modalities": ["text", "audio"]}], ids=str
)
async def test_a_stream_with_sound_of_google_is_refused_by_name(
    upstream: ScriptedUpstream, sound: dict[str, Any]
) -> None:
    with pytest.raises(UpstreamRejected) as caught:
        await ask(upstream, "gemini", "gemini-2.5-flash", stream=True, **sound)

    assert (caught.value.param, caught.value.code) == (next(iter(sound)), "unsupported_parameter")
    assert upstream.requests == []


async def test_sources_of_anthropic_name_the_text_they_are_for(upstream: ScriptedUpstream) -> None:
    blocks = [{"type": "text", "text": "So "}, {"type": "text", "text": "Paris won.", "citations": [CITED]}]
    told = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "stop_reason": "end_turn"}
    upstream.script(
        lambda _: json_answer({**told, "content": blocks, "usage": {"input_tokens": 1, "output_tokens": 1}})
    )

    (message,) = await ask(upstream, "anthropic", "claude-haiku-4-5", web_search_options={})

    cited = {"url": "https://a", "title": "t", "start_index": 3, "end_index": 13}
    assert message["annotations"] == [{"type": "url_citation", "url_citation": cited}]


async def test_sources_of_anthropic_are_streamed_with_the_block_they_are_for(upstream: ScriptedUpstream) -> None:
    told = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": []}
    steps: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**told, "usage": {"input_tokens": 1, "output_tokens": 1}}}
    ]
    pieces: list[list[dict[str, Any]]] = [
        [{"type": "text_delta", "text": "So "}],
        [
            {"type": "text_delta", "text": "Paris "},
            {"type": "text_delta", "text": "won."},
            {"type": "citations_delta", "citation": CITED},
        ],
    ]
    for index, deltas in enumerate(pieces):
        steps.append({"type": "content_block_start", "index": index, "content_block": {"type": "text", "text": ""}})
        steps += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        steps.append({"type": "content_block_stop", "index": index})
    steps.append({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}})
    events = [f"event: {step['type']}\ndata: {json.dumps(step)}\n\n".encode() for step in steps]
    upstream.script(lambda _: event_answer(events))

    told_deltas = await ask(upstream, "anthropic", "claude-haiku-4-5", stream=True, web_search_options={})

    cited = {"url": "https://a", "title": "t", "start_index": 3, "end_index": 13}
    (sources,) = [delta["annotations"] for delta in told_deltas if "annotations" in delta]
    assert sources == [{"index": 0, "type": "url_citation", "url_citation": cited}]


async def test_sources_of_google_are_placed_in_characters(upstream: ScriptedUpstream) -> None:
    web = {"groundingChunks": [{"web": {"uri": "https://a", "title": "t"}}]}
    supports = [
        {"segment": {"endIndex": 4, "text": "Él "}, "groundingChunkIndices": [0]},
        {"segment": {"startIndex": 4, "endIndex": 8, "text": "fue."}, "groundingChunkIndices": [0]},
    ]
    candidate = {
        "index": 0,
        "content": {"role": "model", "parts": [{"text": "Él fue."}]},
        "finishReason": "STOP",
        "groundingMetadata": {**web, "groundingSupports": supports},
    }
    counted = {"promptTokenCount": 5, "candidatesTokenCount": 3, "totalTokenCount": 8}
    upstream.script(lambda _: json_answer({"candidates": [candidate], "usageMetadata": counted, "responseId": "r"}))

    (message,) = await ask(upstream, "gemini", "gemini-2.5-flash", web_search_options={})

    places = [source["url_citation"] for source in message["annotations"]]
    assert [(place["start_index"], place["end_index"]) for place in places] == [(0, 3), (3, 7)]


async def test_the_input_of_vectors_is_estimated_where_nobody_counted_it(upstream: ScriptedUpstream) -> None:
    upstream.script(lambda _: json_answer({"embeddings": [{"values": [0.1, 0.2]}, {"values": [0.1, 0.3]}]}))
    settings = LiteLLMSettings(
        kind="litellm", prefix="gemini", base_url=upstream.base_url, api_key=SecretStr("sk-canary-1")
    )
    lane = LiteLLM("lab", settings)

    body = {"model": "embedding", "input": ["twelve bytes", "ab"]}
    reply = await lane.send(make_exchange(endpoint="embeddings", model="gemini-embedding-2", body=body))

    assert isinstance(reply, PlainReply)
    assert reply.usage == Usage(4)
    await lane.close()
