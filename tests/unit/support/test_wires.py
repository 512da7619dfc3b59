"""The scripted upstreams of other wires, asked directly: they speak as the references say and refuse what is wrong."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.support.contract import parse_sse
from tests.support.upstream import Cut
from tests.support.wires import (
    BAD_REQUEST,
    CALLS,
    COUNTED,
    CUT,
    FAILED_MIDWAY,
    HANGING,
    JSON_ANSWER,
    OVERLOADED,
    PICTURE,
    RATE_LIMITED,
    REASONING,
    REFUSED_KEY,
    SERVER_ERROR,
    TEXT,
    TOO_LARGE,
    TOO_LONG,
    UNFINISHED,
    UNKNOWN_MODEL,
    UPSTREAM_KEY,
    Anthropic,
    Gemini,
    OpenAI,
    Scene,
    WireUpstream,
)

HELLO = {"role": "user", "content": "Hi"}
GOOD: dict[str, dict[str, Any]] = {
    "anthropic": {"model": "claude", "max_tokens": 10, "messages": [HELLO]},
    "gemini": {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]},
    "openai": {"model": "gpt", "messages": [HELLO]},
}
KEYS = {
    "anthropic": {"x-api-key": UPSTREAM_KEY, "anthropic-version": "2023-06-01"},
    "gemini": {"x-goog-api-key": UPSTREAM_KEY},
    "openai": {"Authorization": f"Bearer {UPSTREAM_KEY}"},
}
USE = {"type": "tool_use", "id": "a", "name": "clock", "input": {}}


class Client:
    """Asks one upstream as a right client of its wire does; what is given to a call goes over that."""

    def __init__(self, upstream: WireUpstream, session: aiohttp.ClientSession) -> None:
        self.upstream = upstream
        self.name = upstream.wire.name
        self._session = session

    def path(self, *, stream: bool) -> str:
        if self.name == "gemini":
            return "/models/gem:streamGenerateContent?alt=sse" if stream else "/models/gem:generateContent"
        return "/v1/messages" if self.name == "anthropic" else "/chat/completions"

    async def ask(
        self,
        *scenes: Scene,
        stream: bool = False,
        path: str | None = None,
        headers: dict[str, str] | None = None,
        **fields: Any,
    ) -> tuple[int, bytes]:
        self.upstream.play(*scenes)
        switch = {"stream": True} if stream and self.name != "gemini" else {}
        url = self.upstream.base_url + (self.path(stream=stream) if path is None else path)
        body = {**GOOD[self.name], **switch, **fields}
        kept = KEYS[self.name] if headers is None else headers
        async with self._session.post(url, json=body, headers=kept) as response:
            return response.status, await response.read()

    async def read(self, scene: Scene, **fields: Any) -> Any:
        status, body = await self.ask(scene, **fields)
        assert (status, self.upstream.mistakes) == (200, [])
        return json.loads(body)

    async def read_events(self, scene: Scene, **fields: Any) -> list[Any]:
        status, body = await self.ask(scene, stream=True, **fields)
        assert (status, self.upstream.mistakes) == (200, [])
        return [json.loads(event) for event in parse_sse(body) if event != "[DONE]"]


async def serve(kind: type[Any]) -> AsyncIterator[Client]:
    async with WireUpstream(kind()) as upstream, aiohttp.ClientSession() as session:
        yield Client(upstream, session)


@pytest.fixture(params=[Anthropic, Gemini, OpenAI], ids=lambda kind: kind.name)
async def client(request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    async for made in serve(request.param):
        yield made


@pytest.fixture
async def anthropic() -> AsyncIterator[Client]:
    async for made in serve(Anthropic):
        yield made


@pytest.fixture
async def gemini() -> AsyncIterator[Client]:
    async for made in serve(Gemini):
        yield made


async def test_anthropic_answers_in_blocks(anthropic: Client) -> None:
    answer = await anthropic.read(REASONING)

    assert [block["type"] for block in answer["content"]] == ["thinking", "text"]
    assert (answer["type"], answer["role"], answer["stop_reason"]) == ("message", "assistant", "end_turn")


async def test_anthropic_counts_what_was_cached_beside_the_input(anthropic: Client) -> None:
    usage = (await anthropic.read(COUNTED))["usage"]

    assert (usage["input_tokens"], usage["cache_read_input_tokens"], usage["output_tokens"]) == (20, 100, 50)


async def test_anthropic_streams_its_events_in_their_order(anthropic: Client) -> None:
    _, body = await anthropic.ask(TEXT, stream=True)

    names = [line.removeprefix("event: ") for line in body.decode().splitlines() if line.startswith("event: ")]
    assert names == [
        "message_start",
        "ping",
        "content_block_start",
        *["content_block_delta"] * 2,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


async def test_anthropic_streams_two_calls_in_blocks_of_their_own(anthropic: Client) -> None:
    events = await anthropic.read_events(CALLS)

    starts = [event for event in events if event["type"] == "content_block_start"]
    assert [(start["index"], start["content_block"]["id"]) for start in starts] == [
        (0, "call_paris"),
        (1, "call_tokyo"),
    ]
    pieces = [e["delta"]["partial_json"] for e in events if e["type"] == "content_block_delta" and e["index"] == 0]
    assert json.loads("".join(pieces)) == CALLS.calls[0].arguments


async def test_anthropic_gives_an_answer_by_a_schema_to_the_tool_it_must_call(anthropic: Client) -> None:
    tool = {"name": "town", "input_schema": {"type": "object"}}
    answer = await anthropic.read(JSON_ANSWER, tools=[tool], tool_choice={"type": "tool", "name": "town"})

    assert answer["stop_reason"] == "tool_use"
    assert answer["content"][0]["input"] == {"city": "Paris", "people": 2_100_000}


async def test_gemini_answers_in_parts(gemini: Client) -> None:
    answer = await gemini.read(REASONING)

    (candidate,) = answer["candidates"]
    assert candidate["finishReason"] == "STOP"
    assert [part.get("thought", False) for part in candidate["content"]["parts"]] == [True, False]


async def test_gemini_counts_thoughts_beside_the_candidates(gemini: Client) -> None:
    usage = (await gemini.read(COUNTED))["usageMetadata"]

    assert (usage["promptTokenCount"], usage["cachedContentTokenCount"]) == (120, 100)
    assert (usage["candidatesTokenCount"], usage["thoughtsTokenCount"], usage["totalTokenCount"]) == (20, 30, 170)


async def test_gemini_streams_whole_calls_and_ends_with_its_reason(gemini: Client) -> None:
    (event,) = await gemini.read_events(CALLS)

    (candidate,) = event["candidates"]
    assert [part["functionCall"]["name"] for part in candidate["content"]["parts"]] == ["weather", "clock"]
    assert candidate["finishReason"] == "STOP"


async def test_gemini_says_in_its_error_when_to_come_back(gemini: Client) -> None:
    _, body = await gemini.ask(RATE_LIMITED)

    error = json.loads(body)["error"]
    assert (error["code"], error["status"]) == (429, "RESOURCE_EXHAUSTED")
    assert error["details"][0]["retryDelay"] == "7s"


@pytest.mark.parametrize(
    ("scene", "anthropic", "gemini", "openai"),
    [
        (BAD_REQUEST, 400, 400, 400),
        (TOO_LONG, 400, 400, 400),
        (REFUSED_KEY, 401, 400, 401),
        (UNKNOWN_MODEL, 404, 404, 404),
        (TOO_LARGE, 413, 400, 413),
        (RATE_LIMITED, 429, 429, 429),
        (SERVER_ERROR, 500, 500, 500),
        (OVERLOADED, 529, 503, 503),
    ],
    ids=str,
)
async def test_each_wire_refuses_with_its_own_status(
    client: Client, scene: Scene, anthropic: int, gemini: int, openai: int
) -> None:
    status, body = await client.ask(scene)

    assert status == {"anthropic": anthropic, "gemini": gemini, "openai": openai}[client.name]
    assert json.loads(body)["error"]["message"]


async def test_a_key_that_is_not_ours_is_a_mistake(client: Client) -> None:
    status, _ = await client.ask(TEXT, headers={"anthropic-version": "2023-06-01"})

    assert status == 400
    (mistake,) = client.upstream.mistakes
    assert mistake.startswith("the key is ")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"max_tokens": 0}, "max_tokens: Input should be"),
        ({"frequency_penalty": 1}, "frequency_penalty: Extra inputs"),
        ({"messages": []}, "at least one message"),
        ({"messages": [{"role": "system", "content": "x"}]}, "role: is 'system'"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "a known type"),
        ({"messages": [HELLO, {"role": "assistant", "content": [USE]}, HELLO]}, "`tool_use` ids need"),
        ({"tools": [{"name": "clock"}]}, "tools.clock.input_schema"),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, "must be greater than thinking"),
    ],
)
async def test_anthropic_refuses_what_is_wrong(anthropic: Client, fields: dict[str, Any], said: str) -> None:
    status, body = await anthropic.ask(TEXT, **fields)

    assert status == 400
    assert said in json.loads(body)["error"]["message"]
    assert anthropic.upstream.mistakes


@pytest.mark.parametrize(
    ("path", "fields", "said"),
    [
        ("/models/gem:generateContent", {"contents": []}, "contents is not specified"),
        ("/models/gem:generateContent", {"messages": []}, 'Unknown name "messages"'),
        ("/models/gem:generateContent", {"contents": [{"role": "assistant", "parts": [{"text": "x"}]}]}, "'assistant'"),
        ("/models/gem:generateContent", {"contents": [{"role": "user", "parts": [{"picture": 1}]}]}, "one initialized"),
        ("/models/gem:streamGenerateContent", {}, "without alt=sse"),
        ("/models/gem:chat", {}, "the path is"),
    ],
)
async def test_gemini_refuses_what_is_wrong(gemini: Client, path: str, fields: dict[str, Any], said: str) -> None:
    status, body = await gemini.ask(TEXT, path=path, **fields)

    assert status == 400
    assert said in json.loads(body)["error"]["message"]
    assert gemini.upstream.mistakes


async def test_gemini_takes_names_in_snake_case_and_reads_pictures(gemini: Client) -> None:
    picture = {"inline_data": {"mime_type": "image/png", "data": PICTURE}}
    await gemini.ask(
        TEXT,
        contents=[{"role": "user", "parts": [{"text": "Hi"}, picture]}],
        system_instruction={"parts": [{"text": "Be brief."}]},
        generation_config={"max_output_tokens": 5},
    )

    asked = await gemini.upstream.asked()
    assert (asked.model, asked.system, asked.text, asked.max_tokens) == ("gem", "Be brief.", "Hi", 5)
    assert asked.images == (("image/png", PICTURE),)


async def test_a_hanging_upstream_sees_the_client_leave(client: Client) -> None:
    with pytest.raises(TimeoutError):
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=0.1)) as session:
            await Client(client.upstream, session).ask(HANGING)

    await client.upstream.closed_by_client()


async def test_a_stream_that_is_cut_breaks_for_its_reader(client: Client) -> None:
    with pytest.raises((aiohttp.ClientPayloadError, ConnectionResetError, aiohttp.ClientOSError)):
        await client.ask(CUT, stream=True)


async def test_a_plain_answer_can_be_cut_by_the_usual_wrappers(client: Client) -> None:
    client.upstream.otherwise = Cut(client.upstream.scene(TEXT), after=0)

    with pytest.raises((aiohttp.ClientPayloadError, ConnectionResetError, aiohttp.ClientOSError)):
        await client.ask()


async def test_an_error_in_the_middle_is_the_last_event(client: Client) -> None:
    events = await client.read_events(FAILED_MIDWAY)

    assert "error" in events[-1]
    assert not any("error" in event for event in events[:-1])


async def test_a_stream_may_end_in_order_without_a_reason(client: Client) -> None:
    _, body = await client.ask(UNFINISHED, stream=True)

    assert b"two " in body
    assert b"three" not in body
    for reason in (b'"stop_reason":"', b'"finishReason":"', b'"finish_reason":"', b"[DONE]"):
        assert reason not in body
