"""Media are sent, never named; and text, quotes and bytes are no names, whatever they begin with."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr

from gateway.call import Endpoint
from gateway.errors import UpstreamError, UpstreamRejected
from gateway.providers import LiteLLMSettings
from gateway.providers.litellm_media import check_media
from gateway.providers.litellm_request import keywords
from tests.support.exchanges import MESSAGES, make_exchange

SETTINGS = LiteLLMSettings(kind="litellm", prefix="anthropic", base_url="http://right/v1", api_key=SecretStr("right"))


def made(settings: LiteLLMSettings = SETTINGS, endpoint: Endpoint = "chat/completions", **body: Any) -> dict[str, Any]:
    return keywords(make_exchange(endpoint=endpoint, body={"model": "small", **body}), settings)


def using(prefix: str) -> LiteLLMSettings:
    return LiteLLMSettings(kind="litellm", prefix=prefix, api_key=SecretStr("right"))


NAMED = [
    {"type": "image_url", "image_url": {"url": "http://127.0.0.1/x.png"}},
    {"type": "image_url", "image_url": " HTTPS://example.org/x.png"},
    {"type": "image_url", "image_url": {"url": "gs://bucket/object"}},
    {"type": "image_url", "image_url": {"url": "//host/x"}},
    {"type": "file", "file": {"file_data": "http://host/x"}},
    {"type": "file", "file": {"file_id": "abc"}},
    {"type": "file", "file": {"file_data": "files/abc"}},
    {"type": "document", "source": {"type": "url", "url": "https://host/x"}},
    {"type": "video_url", "video_url": {"url": "https://host/x"}},
    {"type": "image_url", "image_url": {"url": "https://generativelanguage.googleapis.com/v1beta/files/abc"}},
    {"type": "image_url", "image_url": {"url": "s3://bucket/key"}},
    {"type": "file", "file": {"file_id": "https://host/x"}},
    {"type": "file", "file": {"file_id": "gs://bucket/object", "format": "application/pdf"}},
    {"type": "file", "file": {"file_uri": "gs://bucket/object"}},
    {"type": "image", "source": {"type": "url", "url": "https://host/x"}},
    {"type": "image", "source": {"type": "file", "file_id": "abc"}},
    {"type": "document", "source": {"type": "content", "content": [{"type": "image", "source": {"url": "https://h"}}]}},
    {"type": "document", "source": {"type": "base64", "data": "https://host/x"}},
    {"type": "input_audio", "input_audio": {"data": "https://host/x", "format": "wav"}},
    {"type": "audio_url", "audio_url": {"url": "https://host/x"}},
    {"type": "tool_result", "content": [{"type": "image_url", "image_url": "https://host/x"}]},
    {"type": "text", "text": {"url": "https://host/x"}},
    {"type": "text", "text": "a", "image_url": "https://host/x"},
    {"type": "thinking", "thinking": "a", "source": {"url": "https://host/x"}},
    {"type": "text", "text": "a", "more": {"url": "file:///etc/passwd"}},
]


@pytest.mark.parametrize("role", ["user", "tool", "assistant", "system"])
@pytest.mark.parametrize("part", NAMED)
def test_media_that_are_named_instead_of_sent_are_refused(part: dict[str, Any], role: str) -> None:
    with pytest.raises(UpstreamRejected) as caught:
        made(messages=[*MESSAGES, {"role": role, "content": [part]}])

    error: UpstreamError = caught.value
    assert (error.param, error.code) == ("messages[1].content", "invalid_image_url")


@pytest.mark.parametrize("prefix", ["azure", "bedrock", "cohere_chat", "gemini", "groq", "vertex_ai"])
def test_media_that_are_named_are_refused_for_every_provider(prefix: str) -> None:
    settings = LiteLLMSettings(kind="litellm", prefix=prefix, api_key=SecretStr("right"))

    for part in NAMED:
        with pytest.raises(UpstreamRejected):
            made(settings, messages=[{"role": "user", "content": [part]}])


def test_media_in_thoughts_that_are_sent_back_are_refused() -> None:
    block = {"type": "image", "source": {"type": "url", "url": "https://host/x"}}

    with pytest.raises(UpstreamRejected):
        made(messages=[*MESSAGES, {"role": "assistant", "content": "a", "thinking_blocks": [block]}])


def test_media_beside_the_content_are_refused_as_well() -> None:
    with pytest.raises(UpstreamRejected):
        made(messages=[{"role": "user", "content": "a", "images": [{"url": "https://host/x"}]}])


def test_text_may_name_what_it_likes_and_media_may_be_sent() -> None:
    parts = [
        {"type": "text", "text": "https://host/x"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    ]
    call = {"id": "http://c", "type": "function", "function": {"name": "f", "arguments": '{"file_id": "http://host"}'}}
    messages = [
        {"role": "user", "content": parts},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "http://c", "content": "gs://b"},
    ]

    assert made(messages=messages)["messages"] == messages


CONTENT = [
    {"type": "input_audio", "input_audio": {"data": "//uQxAAAAAAAAAAAAAAA", "format": "mp3"}},
    {"type": "input_audio", "input_audio": {"data": "data:audio/wav;base64,AAAA", "format": "wav"}},
    {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "https://host/x says so"}},
    {"type": "document", "source": {"type": "base64", "data": "//8AAAAA"}, "title": "//a", "context": "file:/b"},
    {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "file:///c/x.pdf"}},
    {"type": "thinking", "thinking": "https://host/x is", "signature": "//abc"},
    {"type": "redacted_thinking", "data": "//abc"},
    {"type": "text", "text": "a", "citations": [{"type": "web_search_result_location", "url": "https://host/x"}]},
    {"type": "guarded_text", "text": "https://host/x"},
]


@pytest.mark.parametrize("part", CONTENT)
def test_content_may_begin_like_an_address(part: dict[str, Any]) -> None:
    check_media([{"role": "user", "content": [part]}])


def test_what_an_answer_had_may_come_back() -> None:
    annotation = {"type": "url_citation", "url_citation": {"url": "https://host/x", "title": "t"}}
    thoughts = [{"type": "thinking", "thinking": "http://a", "signature": "//abc"}]
    answer = {"role": "assistant", "content": "see", "annotations": [annotation], "thinking_blocks": thoughts}
    messages = [*MESSAGES, answer, *MESSAGES]

    assert made(messages=messages)["messages"] == messages


FILES = [
    "files/a",
    " files/a",
    "gs://b/o.png",
    "data:image/png;base64,AAAA",
    "data: the new oil;base64,AAAA",
    "https://generativelanguage.googleapis.com/v1beta/files/a",
]


@pytest.mark.parametrize(
    ("prefix", "text"),
    [*((prefix, text) for prefix in ("gemini", "vertex_ai") for text in FILES), ("bedrock", "s3://bucket/key")],
)
def test_texts_to_embed_that_litellm_would_look_up_are_refused(prefix: str, text: str) -> None:
    for given in (text, ["a", text]):
        with pytest.raises(UpstreamRejected) as caught:
            made(using(prefix), endpoint="embeddings", input=given)
        assert caught.value.param == "input"


@pytest.mark.parametrize(
    ("prefix", "text"),
    [
        ("gemini", "data: the new oil"),
        ("vertex_ai", "https://example.org/ says so"),
        ("gemini", "s3://bucket/key"),
        *(("azure", text) for text in FILES),
    ],
)
def test_other_texts_to_embed_may_begin_as_they_like(prefix: str, text: str) -> None:
    assert made(using(prefix), endpoint="embeddings", input=[text])["input"] == [text]
