"""No sentence and no tool that nobody wrote reaches a model: conversations are put so that litellm adds none."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from pydantic import SecretStr

from gateway.errors import UpstreamRejected
from gateway.providers import LiteLLMSettings
from gateway.providers.litellm_request import keywords
from tests.support.exchanges import make_exchange

HI = {"role": "user", "content": "Hi"}
MORE = {"role": "user", "content": "More"}
SO = {"role": "assistant", "content": "So"}
LATE = {"role": "system", "content": "Be brief"}
SAID = {"role": "user", "content": "Be brief"}
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "3"}
BEDROCKS = ["us.amazon.nova-2-lite-v1:0", "us.anthropic.claude-haiku-4-5-20251001-v1:0", "anthropic.claude-opus-5-5"]
OLD, NEW = "claude-sonnet-4-5", "claude-opus-5-5"
WIRES = {"anthropic": OLD, "vertex_ai": OLD, "bedrock": "us.amazon.nova-2-lite-v1:0", "gemini": "gemini-2.5-flash"}


def made(prefix: str, model: str, *messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    settings = LiteLLMSettings(kind="litellm", prefix=prefix, api_key=SecretStr("k"))
    body = {"messages": list(messages), **fields}
    return keywords(make_exchange(body=body, model=model), settings)


def asked(prefix: str, model: str, *messages: dict[str, Any]) -> Any:
    return made(prefix, model, *messages)["messages"]


@pytest.mark.parametrize("prefix", WIRES)
@pytest.mark.parametrize("content", ["", None, [], [{"type": "text", "text": ""}]])
def test_an_answer_that_says_nothing_is_left_out(prefix: str, content: Any) -> None:
    empty = {"role": "assistant", "content": content}

    assert asked(prefix, WIRES[prefix], HI, empty, MORE) == [HI, MORE]


@pytest.mark.parametrize(("prefix", "kept"), [("anthropic", False), ("bedrock", False), ("gemini", True)])
def test_an_answer_of_spaces_is_left_out_where_litellm_would_write_something_else(prefix: str, kept: bool) -> None:
    spaces = {"role": "assistant", "content": " \n"}

    assert asked(prefix, WIRES[prefix], HI, spaces, MORE) == ([HI, spaces, MORE] if kept else [HI, MORE])


def test_what_an_answer_says_besides_is_kept() -> None:
    parts = [{"type": "text", "text": " "}, {"type": "text", "text": "So"}]

    messages = asked("anthropic", OLD, HI, {"role": "assistant", "content": parts}, {**CALLING, "content": ""}, RESULT)

    assert messages == [HI, {"role": "assistant", "content": parts[1:]}, CALLING, RESULT]


@pytest.mark.parametrize("role", ["system", "developer"])
@pytest.mark.parametrize(
    ("before", "after"),
    [([HI], [MORE]), ([HI], [SO]), ([HI, SO], [MORE]), ([HI, SO], []), ([HI, SO], [SO])],
)
def test_later_instructions_are_said_by_the_user_to_models_that_know_no_others(
    role: str, before: list[Any], after: list[Any]
) -> None:
    late = {**LATE, "role": role}

    assert asked("anthropic", OLD, LATE, *before, late, *after) == [LATE, *before, SAID, *after]


@pytest.mark.parametrize("prefix", ["anthropic", "vertex_ai"])
@pytest.mark.parametrize(("before", "after"), [([HI], [MORE]), ([HI], [SO]), ([HI, SO], [MORE]), ([HI], [])])
def test_models_that_know_later_instructions_get_them(prefix: str, before: list[Any], after: list[Any]) -> None:
    assert asked(prefix, NEW, *before, LATE, *after) == [*before, LATE, *after]


@pytest.mark.parametrize("after", [[], [SO]])
def test_where_no_model_knows_instructions_the_user_says_them(after: list[Any]) -> None:
    assert asked("anthropic", NEW, HI, SO, LATE, *after) == [HI, SO, SAID, *after]


def test_nothing_comes_between_a_call_and_its_result() -> None:
    assert asked("anthropic", OLD, HI, CALLING, LATE, RESULT, SO) == [HI, CALLING, RESULT, SAID, SO]


def test_instructions_without_words_are_left_out() -> None:
    parts = {"role": "system", "content": [{"type": "text", "text": ""}, {"type": "text", "text": "Be brief"}]}

    messages = asked("anthropic", OLD, HI, {**LATE, "content": " "}, parts, MORE)

    assert messages == [HI, {"role": "user", "content": parts["content"][1:]}, MORE]


def test_functions_that_were_called_are_declared_and_cannot_be_called_again() -> None:
    given = made("anthropic", OLD, HI, CALLING, RESULT, parallel_tool_calls=False, tool_choice="auto")

    assert given["tools"] == [
        {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
    ]
    assert given["tool_choice"] == "none"
    assert "parallel_tool_calls" not in given


def test_no_function_is_declared_where_none_need_be() -> None:
    assert "tools" not in made("gemini", WIRES["gemini"], HI, CALLING, RESULT)


@pytest.mark.parametrize("model", BEDROCKS)
@pytest.mark.parametrize("tools", [{}, {"tools": None}, {"tools": []}])
def test_calls_without_tools_are_refused_where_no_function_can_be_forbidden(model: str, tools: dict[str, Any]) -> None:
    with pytest.raises(UpstreamRejected) as caught:
        made("bedrock", model, HI, CALLING, RESULT, **tools)

    assert (caught.value.param, caught.value.code) == ("tools", "missing_required_parameter")


@pytest.mark.parametrize("model", BEDROCKS)
@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ([LATE, HI, SO, LATE, MORE], [LATE, HI, SO, SAID, MORE]),
        ([HI, LATE], [HI, SAID]),
        ([HI, CALLING, LATE, RESULT], [HI, CALLING, RESULT, SAID]),
    ],
)
def test_bedrock_is_told_later_instructions_by_the_user(model: str, sent: list[Any], said: list[Any]) -> None:
    tools = [{"type": "function", "function": {"name": "add"}}]

    assert made("bedrock", model, *sent, tools=tools)["messages"] == said


def test_the_callers_own_tools_and_messages_stay_as_they_are() -> None:
    tools = [{"type": "function", "function": {"name": "sub"}}]
    messages: list[dict[str, Any]] = [HI, {**CALLING, "content": ""}, RESULT, LATE]
    before = copy.deepcopy(messages)

    given = made("anthropic", OLD, *messages, tools=tools)

    assert given["tools"] == tools
    assert "tool_choice" not in given
    assert messages == before
