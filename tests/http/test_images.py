"""POST /v1/images/generations, plain and streamed, through the official client and without it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from openai.types import ImageGenCompletedEvent

from tests.support.app import RunningGateway, make_config, running
from tests.support.contract import assert_error_obeys_contract, parse_sse
from tests.support.upstream import (
    Answer,
    Behaviour,
    Body,
    Changed,
    Chat,
    CommentsOnly,
    Cut,
    Delayed,
    Ending,
    ErrorEvent,
    Events,
    Gate,
    Hang,
    Held,
    Html,
    Huge,
    Images,
    Inserted,
    Malformed,
    Reset,
    ScriptedUpstream,
    Sliced,
    Status,
    Step,
    Truncated,
    encode_event,
    encode_named_event,
    make_error,
    make_picture,
)

PROMPT = "a lighthouse"
ASKED = {"model": "image", "prompt": PROMPT}
PROMPT_SECONDS = 1.0  # within which an upstream must be free again
HASTE = {"first_event": 0.3, "between_events": 0.3}
SILENT = {"hang", "comments only", "silence"}  # what only a limit ends
PARTIAL, COMPLETED = "image_generation.partial_image", "image_generation.completed"


@pytest.fixture(autouse=True)
def drawing(upstream: ScriptedUpstream) -> None:
    upstream.otherwise = Images()


@pytest.fixture
async def second() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as another:
        another.otherwise = Images()
        yield another


@pytest.fixture
async def pictures(upstream: ScriptedUpstream) -> AsyncIterator[RunningGateway]:
    """Serve `image` and `pictures` by one upstream."""
    async with running(make_config(upstream, aliases=("image", "pictures"))) as gateway:
        yield gateway


@pytest.fixture
async def pair(
    request: pytest.FixtureRequest, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> AsyncIterator[RunningGateway]:
    """Serve `image` by two upstreams; in tests of silence with short limits."""
    name = request.node.callspec.params.get("name") if hasattr(request.node, "callspec") else None
    timeouts = HASTE if name in SILENT else None
    async with running(make_config(upstream, second, aliases=("image",), timeouts=timeouts)) as gateway:
        yield gateway


@pytest.fixture
async def client(pictures: RunningGateway) -> AsyncIterator[AsyncOpenAI]:
    async with pictures.client() as running_client:
        yield running_client


async def test_an_image_comes_as_base64(client: AsyncOpenAI) -> None:
    answer = await client.images.generate(model="image", prompt=PROMPT)

    assert answer.data is not None
    assert [image.b64_json for image in answer.data] == [make_picture(PROMPT)]
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (7, 4160)


async def test_an_image_comes_as_an_address(client: AsyncOpenAI, upstream: ScriptedUpstream) -> None:
    answer = await client.images.generate(model="image", prompt=PROMPT, response_format="url")

    assert answer.data is not None
    assert answer.data[0].url == "https://images.invalid/0.png"
    assert upstream.requests[0].json["response_format"] == "url"


async def test_several_images_come_in_their_order(client: AsyncOpenAI) -> None:
    answer = await client.images.generate(model="image", prompt=PROMPT, n=2)

    assert answer.data is not None
    assert [image.b64_json for image in answer.data] == [make_picture(PROMPT, 0), make_picture(PROMPT, 1)]


@pytest.mark.parametrize("unnamed", [{}, {"model": None}], ids=["left out", "null"])
async def test_without_a_model_the_class_image_is_meant(
    pictures: RunningGateway, upstream: ScriptedUpstream, unnamed: dict[str, Any]
) -> None:
    answer = await pictures.post("images/generations", {"prompt": PROMPT, **unnamed})

    assert answer.status == 200
    assert upstream.requests[0].path == "/v1/images/generations"
    assert upstream.requests[0].json == {"prompt": PROMPT, "model": "model"}


async def test_any_alias_may_make_images(pictures: RunningGateway) -> None:
    answer = await pictures.post("images/generations", {"model": "pictures", "prompt": PROMPT})

    assert answer.json["data"] == [{"b64_json": make_picture(PROMPT)}]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_fields_travel_on_untouched_and_none_is_added(
    pictures: RunningGateway, upstream: ScriptedUpstream, stream: bool
) -> None:
    known = {"n": 1, "size": "1152x896", "quality": "hd", "style": "vivid", "background": None, "moderation": "low"}
    coded = {"output_format": "webp", "output_compression": 100, "partial_images": 0, "stream": stream, "user": "u"}
    unknown = {"steps": 28, "seed": 2**53, "guidance": 3.5, "loras": [{"path": "a", "scale": 0.5}], "safety": None}
    fields = {**known, **coded, **unknown}

    answer = await pictures.post("images/generations", {**ASKED, **fields})

    assert answer.status == 200
    assert upstream.requests[0].json == {**ASKED, **fields, "model": "model"}


async def test_a_plain_answer_is_relayed_byte_by_byte(pictures: RunningGateway, upstream: ScriptedUpstream) -> None:
    odd = b'{ "data": [ {"b64_json": "QQ==", "seed": 1e2} ],  "timings": {"inference": 0.10} }\n'
    upstream.script(Body(odd))

    answer = await pictures.post("images/generations", ASKED)

    assert answer.body == odd
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["x-gateway-deployment"] == "up0/model"


async def test_ten_megabytes_of_image_pass(client: AsyncOpenAI, upstream: ScriptedUpstream) -> None:
    upstream.script(Images(size=7_500_000))

    answer = await client.images.generate(model="image", prompt=PROMPT)

    assert answer.data is not None
    assert answer.data[0].b64_json == make_picture(PROMPT, size=7_500_000)


async def test_a_stream_brings_the_partial_images_and_then_the_whole(client: AsyncOpenAI) -> None:
    stream = await client.images.generate(model="image", prompt=PROMPT, stream=True, partial_images=2)
    events = [event async for event in stream]

    assert [event.type for event in events] == [PARTIAL, PARTIAL, COMPLETED]
    assert [event.b64_json for event in events] == [make_picture(PROMPT, number) for number in (-1, -2, 0)]
    assert isinstance(events[-1], ImageGenCompletedEvent)
    assert events[-1].usage.output_tokens == 4160


async def test_the_only_event_of_a_stream_may_be_the_whole_image(client: AsyncOpenAI) -> None:
    stream = await client.images.generate(model="image", prompt=PROMPT, stream=True)

    assert [event.type async for event in stream] == [COMPLETED]


async def test_events_of_megabytes_pass(client: AsyncOpenAI, upstream: ScriptedUpstream) -> None:
    size = 15_000_000  # 20 MB of base64, more than an event of text may have
    upstream.script(Images(size=size))

    stream = await client.images.generate(model="image", prompt=PROMPT, stream=True, partial_images=1)
    pictures = [event.b64_json async for event in stream]

    assert pictures == [make_picture(PROMPT, -1, size), make_picture(PROMPT, 0, size)]


async def test_an_event_beyond_all_measure_ends_the_stream(
    pictures: RunningGateway, upstream: ScriptedUpstream
) -> None:
    endless = Huge(70 * 1024 * 1024, piece=b"A" * 65_536, content_type="text/event-stream")
    upstream.script(Inserted(endless, b'data: {"b64_json":"'))

    answer = await pictures.post("images/generations", ASKED, stream=True)

    assert answer.status == 502
    assert answer.error["code"] == "event_too_large"


async def test_a_streams_bytes_are_the_upstreams_without_done(
    pictures: RunningGateway, upstream: ScriptedUpstream
) -> None:
    sent: list[Answer] = []

    def remember(answer: Answer) -> Answer:
        sent.append(answer)
        return answer

    upstream.script(Changed(Images(), remember))

    answer = await pictures.post("images/generations", ASKED, stream=True, partial_images=3)

    assert answer.body == _bytes(sent[0].parts)
    assert answer.body.startswith(b"event: image_generation.partial_image\ndata: {")
    assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"


async def test_each_event_is_relayed_when_it_comes(client: AsyncOpenAI, upstream: ScriptedUpstream) -> None:
    gate = Gate()
    upstream.script(Held(Images(), gate, before=None))
    gate.let(1)

    stream = await client.images.generate(model="image", prompt=PROMPT, stream=True, partial_images=1)
    events = aiter(stream)
    first = await anext(events)
    gate.let(1)
    last = await anext(events)

    assert (first.type, last.type) == (PARTIAL, COMPLETED)
    assert [event async for event in events] == []  # the end is known though the upstream's body has not ended
    gate.open()


def _bytes(parts: tuple[Step, ...]) -> bytes:
    return b"".join(part for part in parts if isinstance(part, bytes))


WHOLE: dict[str, Behaviour] = {
    "cut in pieces": Sliced(Images(), 7),
    "with CRLF": Changed(
        Images(),
        lambda answer: replace(
            answer, parts=tuple(p.replace(b"\n", b"\r\n") if isinstance(p, bytes) else p for p in answer.parts)
        ),
    ),
    "with comments": Inserted(Inserted(Images(), b": ping\n\n", 1), b": ping\n\n", 0),
    "with DONE": Inserted(Images(), b"data: [DONE]\n\n", 3),
    "reset after the last image": Cut(Images(), 3),
    "without its last blank line": Changed(
        Images(), lambda answer: replace(answer, parts=(*answer.parts[:-1], _bytes(answer.parts[-1:]).rstrip()))
    ),
}


@pytest.mark.parametrize("name", WHOLE)
async def test_every_form_of_a_whole_stream_is_understood(
    client: AsyncOpenAI, upstream: ScriptedUpstream, name: str
) -> None:
    upstream.script(WHOLE[name])

    stream = await client.images.generate(model="image", prompt=PROMPT, stream=True, partial_images=2)
    events = [event async for event in stream]

    assert [event.type for event in events] == [PARTIAL, PARTIAL, COMPLETED]


async def test_a_stream_of_several_images_ends_with_the_last(
    pictures: RunningGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(Inserted(Images(), Ending.HANG, 2))

    answer = await pictures.post("images/generations", ASKED, stream=True, n=2)

    assert [json.loads(event)["b64_json"] for event in answer.events] == [make_picture(PROMPT, n) for n in (0, 1)]


@pytest.mark.parametrize(
    "end", [Ending.CLOSE, Ending.RESET, b": bye\n\n"], ids=["closed", "reset", "ended in good order"]
)
async def test_a_stream_that_ends_before_its_last_image_is_interrupted(
    pictures: RunningGateway, upstream: ScriptedUpstream, end: Step
) -> None:
    upstream.script(Inserted(Images(), end, 1, last=True))

    answer = await pictures.post("images/generations", ASKED, stream=True, n=2)

    *good, last = answer.events
    assert [json.loads(event)["b64_json"] for event in good] == [make_picture(PROMPT)]
    assert assert_error_obeys_contract(json.loads(last))["code"] == "upstream_stream_interrupted"


async def test_fewer_images_than_asked_are_whole_where_the_upstream_says_so(
    pictures: RunningGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(Inserted(Images(), b"data: [DONE]\n\n", 1, last=True))

    answer = await pictures.post("images/generations", ASKED, stream=True, n=2)

    assert [json.loads(event)["b64_json"] for event in answer.events] == [make_picture(PROMPT)]


async def test_one_completed_event_may_stand_for_several_images(
    pictures: RunningGateway, upstream: ScriptedUpstream
) -> None:
    each: list[dict[str, Any]] = [
        {"type": "image_generation.partial_succeeded", "image_index": index, "url": "u"} for index in (0, 1)
    ]
    events = [*each, {"type": COMPLETED, "usage": {"output_tokens": 8, "input_tokens": 1}}]
    upstream.script(Events(tuple(encode_named_event(event) for event in events)))

    answer = await pictures.post("images/generations", ASKED, stream=True, n=2)

    assert [json.loads(event) for event in answer.events] == events


MISTAKES: list[tuple[dict[str, Any], str, str]] = [
    ({"model": "image"}, "prompt", "missing_required_parameter"),
    ({"prompt": None}, "prompt", "missing_required_parameter"),
    ({"prompt": ""}, "prompt", "empty_string"),
    ({"prompt": ["a"]}, "prompt", "invalid_type"),
    ({"prompt": "a" * 32_001}, "prompt", "string_above_max_length"),
    ({"prompt": "a", "model": ""}, "model", "empty_string"),
    ({"prompt": "a", "model": 1}, "model", "invalid_type"),
    ({"prompt": "a", "n": 0}, "n", "integer_below_min_value"),
    ({"prompt": "a", "n": 11}, "n", "integer_above_max_value"),
    ({"prompt": "a", "response_format": "png"}, "response_format", "invalid_value"),
    ({"prompt": "a", "partial_images": 4}, "partial_images", "integer_above_max_value"),
    ({"prompt": "a", "stream": "yes"}, "stream", "invalid_type"),
    ({"prompt": "a", "stream_options": "x"}, "stream_options", "invalid_type"),
]


@pytest.mark.parametrize(("body", "param", "code"), MISTAKES)
async def test_a_mistake_names_its_field_and_reaches_no_upstream(
    pictures: RunningGateway, upstream: ScriptedUpstream, body: dict[str, Any], param: str, code: str
) -> None:
    answer = await pictures.post("images/generations", body)

    assert answer.status == 400
    assert (answer.error["param"], answer.error["code"]) == (param, code)
    assert answer.error["type"] == "invalid_request_error"
    assert upstream.requests == []


MOVES_ON: dict[str, Behaviour] = {
    "500": Status(500),
    "429": Status(429, retry_after="1"),
    "401": Status(401),
    "404": Status(404, "Not Found"),
    "reset": Reset(),
    "hang": Hang(),
    "a page": Html(),
}
PLAIN: dict[str, Behaviour] = {
    "no list": Body(b'{"created":1}'),
    "an empty list": Images(spoil=lambda _: []),
    "no list but an object": Images(spoil=lambda items: items[0]),
    "texts in the list": Images(spoil=lambda _: ["QQ=="]),
    "an item without image": Images(spoil=lambda items: [*items, {"revised_prompt": "x"}]),
    "an item of null": Images(spoil=lambda _: [{"b64_json": None, "url": None}]),
    "a chat completion": Chat(),
    "half JSON": Malformed(),
    "truncated": Truncated(Images()),
    "error in 200": Body(b'{"error":{"message":"x"}}'),
}
STREAMED: dict[str, Behaviour] = {
    "error event first": ErrorEvent(),
    "comments only": CommentsOnly(),
    "ends at once": Events(()),
    "cut at once": Cut(Images(), 0),
    "bad event first": Events((b"data: x\n\n",)),
    "the end only": Events((b"data: [DONE]\n\n",)),
    "comment and error": Events((b": ping\n\n", encode_event(make_error(503)))),
    "JSON in place of events": Images(stream=False),
}


@pytest.mark.parametrize("name", [*MOVES_ON, *PLAIN])
async def test_a_plain_request_is_answered_by_the_next(
    pair: RunningGateway, upstream: ScriptedUpstream, name: str
) -> None:
    upstream.script({**MOVES_ON, **PLAIN}[name])

    answer = await pair.post("images/generations", ASKED)

    assert answer.json["data"] == [{"b64_json": make_picture(PROMPT)}]
    assert (answer.headers["x-gateway-deployment"], answer.headers["x-gateway-attempts"]) == ("up1/model", "2")
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("name", [*MOVES_ON, *STREAMED])
async def test_a_stream_is_answered_by_the_next_when_no_event_came(
    pair: RunningGateway, upstream: ScriptedUpstream, name: str
) -> None:
    upstream.script({**MOVES_ON, **STREAMED}[name])

    answer = await pair.post("images/generations", ASKED, stream=True)

    assert [json.loads(event)["type"] for event in answer.events] == [COMPLETED]
    assert answer.headers["x-gateway-deployment"] == "up1/model"


async def test_the_first_event_is_waited_for_as_long_as_a_plain_answer(upstream: ScriptedUpstream) -> None:
    upstream.script(Hang())

    async with running(make_config(upstream, aliases=("image",), timeouts={"plain_answer": 0.3})) as gateway:
        answer = await gateway.post("images/generations", ASKED, stream=True)

    assert (answer.status, answer.error["code"]) == (504, "upstream_timeout")


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_what_the_prompt_is_to_blame_for_is_told_at_once(
    pair: RunningGateway, upstream: ScriptedUpstream, second: ScriptedUpstream, stream: bool
) -> None:
    upstream.script(Status(400, code="moderation_blocked", message="Your request was rejected."))

    answer = await pair.post("images/generations", ASKED, stream=stream)

    assert (answer.status, answer.error["code"]) == (400, "moderation_blocked")
    assert second.requests == []


async def test_a_prompt_too_long_for_the_model_names_the_prompt(
    pair: RunningGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(Status(400, code="context_length_exceeded"))

    answer = await pair.post("images/generations", ASKED)

    assert (answer.status, answer.error["param"]) == (400, "prompt")


BREAKS: dict[str, tuple[Behaviour, str]] = {
    "reset": (Cut(Images(), 1), "upstream_stream_interrupted"),
    "closed": (Cut(Images(), 1, Ending.CLOSE), "upstream_stream_interrupted"),
    "silence": (Cut(Images(), 1, Ending.HANG), "upstream_stream_stalled"),
    "ends without the whole image": (Inserted(Images(), b": bye\n\n", 1, last=True), "upstream_stream_interrupted"),
    "DONE without the whole image": (Inserted(Images(), b"data: [DONE]\n\n", 1, last=True), "bad_event"),
    "half an image": (Inserted(Images(), b'data: {"type":"image_ge', 1, last=True), "upstream_stream_interrupted"),
    "no JSON": (Inserted(Images(), b"data: oops\n\n", 1, last=True), "bad_event"),
    "error event": (ErrorEvent(1, Images()), "upstream_error"),
    "refusal": (ErrorEvent(1, Images(), make_error(400, code="content_filter")), "content_filter"),
}


@pytest.mark.parametrize("name", BREAKS)
async def test_after_an_image_a_failure_is_one_event_and_no_clean_end(
    pair: RunningGateway, upstream: ScriptedUpstream, second: ScriptedUpstream, name: str
) -> None:
    behaviour, code = BREAKS[name]
    upstream.script(behaviour)

    answer = await pair.post("images/generations", ASKED, stream=True, partial_images=1)

    *good, last = answer.events
    assert [json.loads(event)["type"] for event in good] == [PARTIAL]
    assert assert_error_obeys_contract(json.loads(last))["code"] == code
    assert second.requests == []


async def test_the_client_raises_when_a_stream_breaks(client: AsyncOpenAI, upstream: ScriptedUpstream) -> None:
    upstream.script(Cut(Images(), 1))
    stream = await client.images.generate(model="image", prompt=PROMPT, stream=True, partial_images=1)
    events = aiter(stream)
    await anext(events)

    with pytest.raises(openai.APIError, match="ended"):
        await anext(events)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_leaving_before_the_answer_closes_the_upstream(
    client: AsyncOpenAI, upstream: ScriptedUpstream, stream: bool
) -> None:
    gate = Gate()
    upstream.script(Delayed(Images(), gate))
    asking = asyncio.create_task(client.images.generate(model="image", prompt=PROMPT, stream=stream))
    await gate.reached()

    asking.cancel()

    await upstream.closed_by_client(within_seconds=PROMPT_SECONDS)


async def test_leaving_a_stream_closes_the_upstream(client: AsyncOpenAI, upstream: ScriptedUpstream) -> None:
    gate = Gate()
    upstream.script(Held(Images(), gate, before=1))
    stream = await client.images.generate(model="image", prompt=PROMPT, stream=True, partial_images=1)
    await anext(aiter(stream))
    await gate.reached()

    await stream.close()

    await upstream.closed_by_client(within_seconds=PROMPT_SECONDS)


async def test_leaving_with_the_image_while_the_upstream_lingers_closes_it(
    pictures: RunningGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(Inserted(Images(), Ending.HANG, 1))
    async with pictures.session.post(f"{pictures.base_url}/images/generations", json={**ASKED, "stream": True}) as got:
        await got.read()

    await pictures.session.close()

    await upstream.closed_by_client(within_seconds=PROMPT_SECONDS)


async def test_a_connection_is_used_again_after_a_stream(pictures: RunningGateway, upstream: ScriptedUpstream) -> None:
    for _ in range(2):
        await pictures.post("images/generations", ASKED, stream=True)

    assert upstream.connections.opened == 1


KEYS: list[dict[str, Any]] = [
    {"name": "painter", "key": "sk-painter-0123456789", "models": ["image"]},
    {"name": "writer", "key": "sk-writer-0123456789", "models": ["pictures"]},
    {"name": "watcher", "key": "sk-watcher-0123456789", "role": "viewer"},
]


@pytest.mark.parametrize(
    ("key", "status"),
    [(KEYS[0]["key"], 200), (KEYS[1]["key"], 403), (KEYS[2]["key"], 403), ("sk-nobody", 401), (None, 401)],
)
async def test_images_are_for_callers_that_may_use_the_alias(
    upstream: ScriptedUpstream, key: str | None, status: int
) -> None:
    async with running(make_config(upstream, aliases=("image", "pictures"), keys=KEYS)) as gateway:
        answer = await gateway.post("images/generations", {"prompt": PROMPT}, key=key)

    assert answer.status == status


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_an_image_has_a_log_line_and_figures(pictures: RunningGateway, stream: bool) -> None:
    await pictures.post("images/generations", {"prompt": PROMPT}, stream=stream)
    figures = await pictures.figures()
    pictures.stop.asked.set()
    await pictures.serving

    line = pictures.lines()[0]
    assert (line["endpoint"], line["model"], line["stream"]) == ("/v1/images/generations", "image", stream)
    assert (line["prompt_tokens"], line["completion_tokens"], line["attempts"]) == (7, 4160, 1)
    assert figures["gateway_requests_total", "/v1/images/generations", "200", "image"] == 1
    assert figures["gateway_tokens_total", "completion", "image"] == 4160


async def test_an_error_event_is_read_by_every_client_the_same(
    pictures: RunningGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(Cut(Images(), 1))

    answer = await pictures.post("images/generations", ASKED, stream=True, partial_images=1)

    assert answer.body.count(b"\ndata: ") == 2
    assert "event" not in json.loads(parse_sse(answer.body)[-1])


async def test_settings_of_images_reach_images_and_no_others(upstream: ScriptedUpstream) -> None:
    upstream.otherwise = Images()
    provider = {
        "kind": "openai",
        "base_url": upstream.base_url,
        "classes": {"image": "painter"},
        "settings": {"temperature": 0.7},
        "image_settings": {"steps": 20},
    }

    async with running(json.dumps({"providers": {"up": provider}})) as gateway:
        await gateway.post("images/generations", {"prompt": "A cat"})
        await gateway.post("images/generations", {"prompt": "A cat", "model": "up/other", "steps": 5})

    assert upstream.requests[0].json == {"prompt": "A cat", "model": "painter", "steps": 20}
    assert upstream.requests[1].json == {"prompt": "A cat", "model": "other", "steps": 5}


GOOGLES = {
    "candidates": [{"content": {"parts": [{"inlineData": {"mimeType": "image/png", "data": make_picture(PROMPT)}}]}}],
    "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 1290, "totalTokenCount": 1295},
}


@asynccontextmanager
async def painting(upstream: ScriptedUpstream, **deployment: Any) -> AsyncIterator[RunningGateway]:
    """Serve `image` by a model of Google's, with a setting that it does not take."""
    upstream.otherwise = Body(json.dumps(GOOGLES).encode())
    provider = {
        "kind": "litellm",
        "prefix": "gemini",
        "base_url": upstream.base_url,
        "api_key": "canary",
        "image_settings": {"steps": 20},
    }
    route = {"deployments": [{"provider": "far", "model": "gemini-3.1-flash-image", **deployment}]}
    async with running(json.dumps({"providers": {"far": provider}, "models": {"image": route}})) as gateway:
        yield gateway


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_an_image_of_another_wire_is_counted_like_openais(upstream: ScriptedUpstream, stream: bool) -> None:
    async with painting(upstream) as gateway:
        answer = await gateway.post("images/generations", ASKED, stream=stream)
        figures = await gateway.figures()

    told = json.loads(answer.events[0]) if stream else {**answer.json, **answer.json["data"][0]}
    assert told["b64_json"] == make_picture(PROMPT)
    assert (told["usage"]["input_tokens"], told["usage"]["output_tokens"]) == (5, 1290)
    assert figures["gateway_tokens_total", "completion", "image"] == 1290


async def test_a_setting_of_ours_that_another_wire_lacks_is_left_out_and_a_callers_refused(
    upstream: ScriptedUpstream,
) -> None:
    async with painting(upstream) as gateway:
        ours = await gateway.post("images/generations", ASKED)
        theirs = await gateway.post("images/generations", ASKED, response_format="url")

    assert ours.status == 200
    assert theirs.status == 400
    assert (theirs.error["param"], theirs.error["code"]) == ("response_format", "unsupported_parameter")
    assert len(upstream.requests) == 1


async def test_a_callers_field_that_another_wire_lacks_is_dropped_where_that_is_configured(
    upstream: ScriptedUpstream,
) -> None:
    async with painting(upstream, drop_params=True) as gateway:
        answer = await gateway.post("images/generations", ASKED, quality="high")

    assert (answer.status, answer.headers["x-gateway-dropped-params"]) == (200, "quality")
