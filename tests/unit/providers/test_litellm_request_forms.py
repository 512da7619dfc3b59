"""Forms of requests that would not arrive at an upstream as they were sent are refused by the name of their place."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from pydantic import SecretStr

from gateway.errors import UpstreamError, UpstreamRejected
from gateway.providers import LiteLLMSettings
from gateway.providers.litellm_request import keywords
from tests.support.exchanges import MESSAGES, make_exchange

PNG = "data:image/png;base64,iVBORw0KGgo="
HI = MESSAGES[0]
TEXT = {"type": "text", "text": "Hi"}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
MODELS = {
    "anthropic": "claude-sonnet-4-5",
    "bedrock": "us.amazon.nova-2-lite-v1:0",
    "gemini": "gemini-2.5-flash",
    "vertex_ai": "gemini-2.5-flash",
}
EVERY = tuple(MODELS)


def part(given: Any, role: str = "user") -> dict[str, Any]:
    return {"messages": [HI, {"role": role, "content": [TEXT, given]}]}


def picture(url: Any) -> dict[str, Any]:
    return part({"type": "image_url", "image_url": url})


def answer(**fields: Any) -> dict[str, Any]:
    return {"messages": [HI, {"role": "assistant", "content": "So", **fields}]}


def called(**changed: Any) -> dict[str, Any]:
    return answer(tool_calls=[{**CALL, **changed}])


def arguments(given: Any) -> dict[str, Any]:
    return called(function={"name": "add", "arguments": given})


def tool(given: dict[str, Any]) -> dict[str, Any]:
    return {"messages": MESSAGES, "tools": [TOOL, given]}


def choice(given: Any) -> dict[str, Any]:
    return {"messages": MESSAGES, "tools": [TOOL], "tool_choice": given}


def answer_format(**fields: Any) -> dict[str, Any]:
    return {"messages": MESSAGES, "response_format": fields}


PART = "messages[1].content[1]"
CALLED = "messages[1].tool_calls[0]"
MISSING, TYPE, VALUE, URL = "missing_required_parameter", "invalid_type", "invalid_value", "invalid_image_url"

ODD: list[tuple[dict[str, Any], str, str]] = [
    (part({"type": "foo"}), f"{PART}.type", VALUE),
    (part({"type": "input_text", "text": "Hi"}), f"{PART}.type", VALUE),
    (part({"type": "tool_result", "tool_use_id": "a", "content": "x"}), f"{PART}.type", VALUE),
    (part({"type": "video_url", "video_url": {"url": PNG}}), f"{PART}.type", VALUE),
    (part({"type": "refusal", "refusal": "No"}, "assistant"), f"{PART}.type", VALUE),
    (part({"type": "image_url", "image_url": {"url": PNG}}, "system"), f"{PART}.type", VALUE),
    (part({"type": "image_url", "image_url": {"url": PNG}}, "assistant"), f"{PART}.type", VALUE),
    (part({"type": "text", "text": None}), f"{PART}.text", MISSING),
    (part({"type": "text"}), f"{PART}.text", MISSING),
    (part({"type": "image_url"}), f"{PART}.image_url", MISSING),
    (picture(7), f"{PART}.image_url", TYPE),
    (picture({"detail": "low"}), f"{PART}.image_url.url", MISSING),
    (picture({"url": 5}), f"{PART}.image_url.url", TYPE),
    (picture({"url": "abc"}), f"{PART}.image_url.url", URL),
    (picture({"url": "data:image/png,abc"}), f"{PART}.image_url.url", URL),
    (picture({"url": "data:;base64,AAAA"}), f"{PART}.image_url.url", URL),
    (picture({"url": "data:image/png;base64,"}), f"{PART}.image_url.url", URL),
    (picture("iVBORw0KGgo="), f"{PART}.image_url", URL),
    (part({"type": "file"}), f"{PART}.file", MISSING),
    (part({"type": "file", "file": "abc"}), f"{PART}.file", TYPE),
    (part({"type": "file", "file": {}}), f"{PART}.file.file_data", MISSING),
    (part({"type": "file", "file": {"file_data": "abc"}}), f"{PART}.file.file_data", VALUE),
    (answer(refusal="No"), "messages[1].refusal", VALUE),
    (answer(audio={"id": "a"}), "messages[1].audio", VALUE),
    (answer(thinking_blocks="x"), "messages[1].thinking_blocks", TYPE),
    (answer(thinking_blocks=["x"]), "messages[1].thinking_blocks[0]", TYPE),
    (answer(thinking_blocks=[{"type": "foo"}]), "messages[1].thinking_blocks[0].type", VALUE),
    (called(type="custom"), f"{CALLED}.type", VALUE),
    (called(type=None), f"{CALLED}.type", VALUE),
    (called(id=None), f"{CALLED}.id", MISSING),
    (called(function=None), f"{CALLED}.function", MISSING),
    (called(function={"arguments": "{}"}), f"{CALLED}.function.name", MISSING),
    (arguments(None), f"{CALLED}.function.arguments", MISSING),
    (arguments({"a": 1}), f"{CALLED}.function.arguments", TYPE),
    (arguments("{oops"), f"{CALLED}.function.arguments", VALUE),
    (arguments("[1]"), f"{CALLED}.function.arguments", VALUE),
    (arguments("null"), f"{CALLED}.function.arguments", VALUE),
    (arguments('{"a":' * 5000), f"{CALLED}.function.arguments", VALUE),
    ({"messages": [HI, {"role": "tool", "tool_call_id": "zz", "content": "x"}]}, "messages[1].tool_call_id", VALUE),
    (tool({"type": "custom", "custom": {"name": "f"}}), "tools[1].type", VALUE),
    (tool({"type": "foo", "function": {"name": "f"}}), "tools[1].type", VALUE),
    (tool({"type": "function"}), "tools[1].function", MISSING),
    (tool({"type": "function", "function": {"name": "f", "parameters": "x"}}), "tools[1].function.parameters", TYPE),
    (choice("foo"), "tool_choice", VALUE),
    (choice({"type": "allowed_tools"}), "tool_choice.type", VALUE),
    (choice({"type": "function", "function": "add"}), "tool_choice.function", TYPE),
    (choice({"type": "function", "function": {}}), "tool_choice.function.name", MISSING),
    (choice({"type": "function", "function": {"name": "zz"}}), "tool_choice.function.name", VALUE),
    (answer_format(type="grammar"), "response_format.type", VALUE),
    (answer_format(type="json_schema", json_schema={"name": "x"}), "response_format.json_schema.schema", MISSING),
    (answer_format(type="json_object", response_schema="x"), "response_format.response_schema", TYPE),
    ({"messages": MESSAGES, "web_search_options": "x"}, "web_search_options", TYPE),
    ({"messages": MESSAGES, "functions": "x"}, "functions", TYPE),
]


def asked(prefix: str, body: dict[str, Any], model: str | None = None) -> dict[str, Any]:
    settings = LiteLLMSettings(kind="litellm", prefix=prefix, api_key=SecretStr("k"))
    return keywords(make_exchange(body={"model": "m", **body}, model=model or MODELS.get(prefix, "m")), settings)


@pytest.mark.parametrize("prefix", EVERY)
@pytest.mark.parametrize(("body", "param", "code"), ODD)
def test_an_odd_form_is_refused_by_its_place(prefix: str, body: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(UpstreamRejected) as caught:
        asked(prefix, body)

    error: UpstreamError = caught.value
    assert (error.param, error.code) == (param, code)
    assert (error.http_status, error.type, error.failover) == (400, "invalid_request_error", False)


AUDIO = part({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}})
DOCUMENT = part({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}})
HOSTED = tool({"type": "web_search_20250305", "name": "web_search"})
GROUNDED = tool({"type": "web_search"})
LEGACY = answer(function_call={"name": "add", "arguments": "{}"})
PARTLY = [
    (AUDIO, {"gemini", "vertex_ai"}, f"{PART}.type"),
    (DOCUMENT, {"anthropic", "bedrock"}, f"{PART}.type"),
    (HOSTED, {"anthropic"}, "tools[1].type"),
    (GROUNDED, {"gemini", "vertex_ai"}, "tools[1].type"),
    (LEGACY, {"gemini", "vertex_ai"}, "messages[1].function_call"),
]


@pytest.mark.parametrize("prefix", EVERY)
@pytest.mark.parametrize(("body", "takers", "param"), PARTLY)
def test_what_only_some_upstreams_take_is_refused_by_the_others(
    prefix: str, body: dict[str, Any], takers: set[str], param: str
) -> None:
    if prefix in takers:
        assert asked(prefix, body)["messages"] == body["messages"]
        return

    with pytest.raises(UpstreamRejected) as caught:
        asked(prefix, body)

    assert caught.value.param == param


FULL: dict[str, Any] = {
    "messages": [
        {"role": "developer", "content": [TEXT]},
        {"role": "user", "content": [TEXT, {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": PNG}]},
        {"role": "assistant", "content": None, "refusal": None, "audio": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": [TEXT, {"type": "image_url", "image_url": {"url": PNG}}]},
        {"role": "assistant", "content": None, "tool_calls": [{**CALL, "id": "c2"}], "thinking_blocks": None},
        {"role": "tool", "tool_call_id": "c2", "content": ""},
        {"role": "assistant", "content": [TEXT], "tool_calls": []},
    ],
    "tools": [TOOL, {"type": "function", "function": {"name": "bare"}}],
    "tool_choice": {"type": "function", "function": {"name": "bare"}},
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
    "stop": ["a", "b", "c", "d", "e"],
}


@pytest.mark.parametrize("prefix", EVERY)
def test_usual_forms_pass_as_they_are(prefix: str) -> None:
    sent = copy.deepcopy(FULL)

    made = asked(prefix, sent)

    assert {name: made[name] for name in FULL} == FULL
    assert sent == FULL


@pytest.mark.parametrize("given", ["", "{}", ' {"a": NaN} '])
def test_arguments_that_can_be_read_pass(given: str) -> None:
    """Empty ones are what some upstreams stream for a call without arguments."""
    body = arguments(given)

    assert asked("anthropic", body)["messages"] == body["messages"]


def test_a_wire_that_is_not_known_here_is_not_judged() -> None:
    for body, _, _ in ODD:
        assert asked("azure", body)["messages"] == body["messages"]


def test_claude_at_google_is_asked_as_claude() -> None:
    assert asked("vertex_ai", DOCUMENT, "claude-sonnet-4-5")["messages"] == DOCUMENT["messages"]
    assert asked("vertex_ai", AUDIO, "openai/gpt-oss-120b-maas")["messages"] == AUDIO["messages"]


def asking(content: Any) -> dict[str, Any]:
    return {"messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": content}]}


BLANK = {"type": "text", "text": " "}
BLANKS: list[tuple[dict[str, Any], str]] = [
    (asking(""), "messages[1].content"),
    (asking(" \n"), "messages[1].content"),
    (asking([BLANK]), "messages[1].content[0].text"),
    (asking([TEXT, BLANK]), "messages[1].content[1].text"),
]


@pytest.mark.parametrize(("body", "place"), BLANKS)
@pytest.mark.parametrize("prefix", ["anthropic", "bedrock"])
def test_a_question_of_nothing_is_refused_where_a_sentence_would_be_put_in_its_place(
    prefix: str, body: dict[str, Any], place: str
) -> None:
    with pytest.raises(UpstreamRejected) as caught:
        asked(prefix, body)

    assert (caught.value.param, caught.value.code) == (place, VALUE)


@pytest.mark.parametrize("content", ["", " "])
def test_a_question_of_nothing_is_the_upstreams_to_judge_where_it_arrives(content: str) -> None:
    assert asked("gemini", asking(content))["messages"] == asking(content)["messages"]


@pytest.mark.parametrize("prefix", EVERY)
def test_a_question_without_parts_is_refused(prefix: str) -> None:
    with pytest.raises(UpstreamRejected) as caught:
        asked(prefix, asking([]))

    assert (caught.value.param, caught.value.code) == ("messages[1].content", VALUE)


@pytest.mark.parametrize("role", ["system", "developer"])
@pytest.mark.parametrize("prefix", EVERY)
def test_instructions_alone_are_refused_rather_than_asked_with_an_invented_question(prefix: str, role: str) -> None:
    with pytest.raises(UpstreamRejected) as caught:
        asked(prefix, {"messages": [{"role": role, "content": "Be short."}]})

    assert (caught.value.param, caught.value.code) == ("messages", VALUE)
