"""Images through litellm: what reaches the upstream, what is refused before it is asked, and what comes back."""

from __future__ import annotations

import base64
import struct
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from openai.types import ImageGenCompletedEvent, ImagesResponse

from gateway.call import Usage
from gateway.errors import UpstreamRejected
from gateway.providers import LiteLLMSettings
from gateway.providers.litellm import LiteLLM
from tests.support.exchanges import make_exchange

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", 1536, 1024) + b"rest").decode()
JPEG = base64.b64encode(b"\xff\xd8\xff\xe0rest").decode()
OTHER = base64.b64encode(b"nothing known").decode()
COUNTED = {"promptTokenCount": 7, "candidatesTokenCount": 1290, "thoughtsTokenCount": 3, "totalTokenCount": 1300}
USAGE = {
    "input_tokens": 7,
    "output_tokens": 1293,
    "total_tokens": 1300,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 7},
}
MODEL = "gemini-3.1-flash-image"
SDXL = "stability.stable-diffusion-xl-v1"
OPTIONS = {
    "bedrock": {"aws_region_name": "eu-west-1", "aws_access_key_id": "AKIACANARY", "aws_secret_access_key": "canary"}
}


class Studio:
    """Answers `answer` and remembers what it was asked."""

    def __init__(self) -> None:
        self.answer: dict[str, Any] = {}
        self.asked: list[dict[str, Any]] = []

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.append(orjson.loads(await request.read()))
        return web.json_response(self.answer)


@pytest.fixture
async def studio() -> Studio:
    return Studio()


@pytest.fixture
async def url(studio: Studio) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/{any:.*}", studio.handle)
    async with TestServer(app) as server:
        yield str(server.make_url("/")).rstrip("/")


async def ask(url: str, prefix: str = "gemini", model: str = MODEL, **fields: Any) -> tuple[bytes, Usage | None]:
    stream = fields.pop("stream", False)
    settings = LiteLLMSettings.model_validate(
        {
            "kind": "litellm",
            "prefix": prefix,
            "base_url": url,
            "api_key": "" if prefix in OPTIONS else "canary",
            "options": OPTIONS.get(prefix, {}),
        }
    )
    lane = LiteLLM("lab", settings)
    exchange = make_exchange(
        endpoint="images/generations", model=model, body={"prompt": "Cat", **fields}, stream=stream
    )
    try:
        async with await lane.send(exchange) as reply:
            return b"".join([block async for block in reply]) if stream else reply.body, reply.usage
    finally:
        await lane.close()


def drawn(*pictures: str, **more: Any) -> dict[str, Any]:
    parts = [{"inlineData": {"mimeType": "image/png", "data": picture}} for picture in pictures]
    return {"candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}], **more}


def events_of(stream: bytes) -> list[ImageGenCompletedEvent]:
    events = [event.partition(b"\ndata: ")[2] for event in stream.split(b"\n\n")[:-1]]
    return [ImageGenCompletedEvent.model_validate_json(event) for event in events]


async def test_usage_of_an_image_is_openais(studio: Studio, url: str) -> None:
    studio.answer = drawn(PNG, usageMetadata=COUNTED)

    body, usage = await ask(url)

    told = ImagesResponse.model_validate_json(body)
    assert told.usage is not None
    assert told.usage.model_dump(exclude_none=True) == USAGE
    assert (told.output_format, told.size) == ("png", "1536x1024")
    assert usage == Usage(7, 1293)


async def test_usage_that_was_not_told_is_not_made_up(studio: Studio, url: str) -> None:
    studio.answer = drawn(PNG)

    body, usage = await ask(url)

    assert "usage" not in orjson.loads(body)
    assert usage is None


async def test_a_completed_event_has_what_openais_have(studio: Studio, url: str) -> None:
    studio.answer = drawn(PNG, usageMetadata=COUNTED)

    body, usage = await ask(url, stream=True, size="1024x1024", partial_images=2)

    (event,) = events_of(body)
    assert (event.b64_json, event.output_format, event.size) == (PNG, "png", "1536x1024")
    assert (event.quality, event.background) == ("auto", "auto")
    assert event.usage.model_dump() == USAGE
    assert usage == Usage(7, 1293)


async def test_pictures_that_are_counted_together_are_counted_once(studio: Studio, url: str) -> None:
    studio.answer = drawn(JPEG, OTHER, usageMetadata=COUNTED)

    body, usage = await ask(url, stream=True, n=2)

    told = [orjson.loads(event.partition(b"\ndata: ")[2]) for event in body.split(b"\n\n")[:-1]]
    assert [(event["b64_json"], event.get("usage")) for event in told] == [(JPEG, None), (OTHER, USAGE)]
    assert [event.get("output_format") for event in told] == ["jpeg", None]
    assert usage == Usage(7, 1293)


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        ({"response_format": "url"}, "response_format"),
        ({"quality": "high"}, "quality"),
        ({"style": "vivid"}, "style"),
        ({"background": "transparent"}, "background"),
        ({"output_format": "webp"}, "output_format"),
        ({"output_compression": 50}, "output_compression"),
        ({"moderation": "low"}, "moderation"),
        ({"steps": 20}, "steps"),
    ],
)
@pytest.mark.parametrize("model", [MODEL, "imagen-4.0-generate-001"])
async def test_what_an_upstream_has_no_words_for_is_refused_unasked(
    studio: Studio, url: str, model: str, sent: dict[str, Any], param: str
) -> None:
    with pytest.raises(UpstreamRejected, match=f"'{param}' is not supported") as caught:
        await ask(url, model=model, **sent)

    assert caught.value.param == param
    assert caught.value.code == "unsupported_parameter"
    assert not studio.asked


@pytest.mark.parametrize(
    "sent",
    [
        {"response_format": "b64_json"},
        {"quality": "auto", "background": "auto", "moderation": "auto"},
        {"n": 1, "style": None},
        {"user": "somebody"},
    ],
)
async def test_what_asks_for_nothing_else_is_left_out(studio: Studio, url: str, sent: dict[str, Any]) -> None:
    studio.answer = drawn(PNG)

    await ask(url, **sent)

    assert studio.asked == [
        {"contents": [{"parts": [{"text": "Cat"}]}], "generationConfig": {"response_modalities": ["IMAGE", "TEXT"]}}
    ]


@pytest.mark.parametrize("size", ["1024x1024", "333x444", "auto"])
async def test_a_picture_that_cannot_be_seen_has_the_size_asked_for_if_it_is_one_of_openais(
    studio: Studio, url: str, size: str
) -> None:
    studio.answer = drawn(OTHER, usageMetadata=COUNTED)

    body, _ = await ask(url, size=size)

    told = ImagesResponse.model_validate_json(body)
    assert (told.size, told.output_format) == (size if size == "1024x1024" else None, None)


async def test_size_and_number_are_said_in_googles_words(studio: Studio, url: str) -> None:
    studio.answer = drawn(PNG, PNG)

    await ask(url, n=2, size="1792x1024")

    config = studio.asked[0]["generationConfig"]
    assert (config["candidateCount"], config["imageConfig"]["aspectRatio"]) == (2, "16:9")


async def test_steps_reach_an_upstream_that_takes_them(studio: Studio, url: str) -> None:
    studio.answer = {"artifacts": [{"base64": PNG}]}

    body, _ = await ask(url, "bedrock", SDXL, steps=20, size="1024x1024", response_format="b64_json")

    assert studio.asked == [
        {"text_prompts": [{"text": "Cat", "weight": 1}], "steps": 20, "width": 1024, "height": 1024}
    ]
    assert orjson.loads(body)["data"] == [{"b64_json": PNG}]


async def test_every_field_is_passed_on_where_litellm_changes_none(studio: Studio, url: str) -> None:
    studio.answer = {"created": 1, "data": [{"url": "https://images.invalid/0.png"}]}

    await ask(url, "together_ai", "flux", response_format="url", steps=4, quality="high")

    asked = studio.asked[0]
    assert {name: asked[name] for name in ("model", "prompt", "response_format", "steps", "quality")} == {
        "model": "flux",
        "prompt": "Cat",
        "response_format": "url",
        "steps": 4,
        "quality": "high",
    }
