"""Files arrive at Anthropic as what they are: PDFs in base64, texts as text, others are refused by their place."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest
from pydantic import SecretStr

from gateway.errors import UpstreamRejected
from gateway.providers import LiteLLMSettings
from gateway.providers.litellm_request import keywords
from tests.support.exchanges import make_exchange

MODELS = {"anthropic": "claude-sonnet-4-5", "vertex_ai": "claude-sonnet-4-5", "bedrock": "us.amazon.nova-2-lite-v1:0"}
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
WORDS = "Grüße\n"


def data(kind: str, content: bytes = WORDS.encode()) -> str:
    return f"data:{kind};base64,{b64encode(content).decode()}"


def file(url: str, **fields: Any) -> dict[str, Any]:
    return {"type": "file", "file": {"file_data": url, **fields}}


def asked(prefix: str, *messages: dict[str, Any]) -> Any:
    settings = LiteLLMSettings(kind="litellm", prefix=prefix, api_key=SecretStr("k"))
    exchange = make_exchange(body={"messages": list(messages)}, model=MODELS[prefix])
    return keywords(exchange, settings)["messages"]


def part(prefix: str, given: dict[str, Any]) -> Any:
    return asked(prefix, {"role": "user", "content": [given]})[0]["content"][0]


def text(content: str = WORDS, **fields: Any) -> dict[str, Any]:
    return {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": content}, **fields}


@pytest.mark.parametrize("prefix", ["anthropic", "vertex_ai"])
@pytest.mark.parametrize("kind", ["text/plain", "text/plain;charset=utf-8", "TEXT/CSV", "text/markdown"])
def test_a_text_is_sent_as_text(prefix: str, kind: str) -> None:
    assert part(prefix, file(data(kind))) == text()


def test_its_name_and_marks_go_with_it() -> None:
    mark = {"type": "ephemeral"}

    sent = part("anthropic", {**file(data("text/plain"), filename="a.txt"), "cache_control": mark})

    assert sent == text(title="a.txt", cache_control=mark)


@pytest.mark.parametrize(("prefix", "kind"), [("anthropic", "application/pdf"), ("bedrock", "text/plain")])
def test_other_files_stay_as_they_are(prefix: str, kind: str) -> None:
    given = file(data(kind), filename="a")

    assert part(prefix, given) == given


@pytest.mark.parametrize(
    "url", [data("application/zip"), data("image/png"), data("text/plain", b"\xff\xfe"), "data:text/plain;base64,A"]
)
def test_what_has_no_words_there_is_refused_by_its_place(url: str) -> None:
    with pytest.raises(UpstreamRejected) as caught:
        part("anthropic", file(url))

    assert (caught.value.param, caught.value.code) == ("messages[0].content[0].file.file_data", "invalid_value")


def test_a_text_file_in_a_result_is_refused() -> None:
    result = {"role": "tool", "tool_call_id": "c1", "content": [file(data("text/plain"))]}

    with pytest.raises(UpstreamRejected) as caught:
        asked("anthropic", {"role": "user", "content": "Hi"}, {"role": "assistant", "tool_calls": [CALL]}, result)

    assert caught.value.param == "messages[2].content[0].file.file_data"


@pytest.mark.parametrize(
    "url",
    [
        "data:image/png;base64,AAAA gs://b/x.png",
        "data:image/png;base64,AAAA\nhttps://h/x.png",
        "data:image/png;base64,AAAA,BBBB",
        "data:image/png;base64,AA_-",
        "data:image/png;base64, ",
    ],
)
@pytest.mark.parametrize("kind", ["image_url", "file"])
def test_only_base64_may_follow_the_head_of_a_data_url(url: str, kind: str) -> None:
    given = file(url) if kind == "file" else {"type": "image_url", "image_url": {"url": url}}

    with pytest.raises(UpstreamRejected):
        part("anthropic", given)
