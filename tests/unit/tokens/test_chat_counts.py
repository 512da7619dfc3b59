"""What a request is counted to have: never fewer tokens than upstreams were seen to count, nor than its parts have."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.tokens import ChatCount, EncodingCounter, Encodings, SearchingCounter, count_chat, most_tokens
from gateway.tokens.images import MOST

ENCODINGS = Encodings()
CL100K = ENCODINGS["cl100k_base"]
NOTHING = {"type": "object", "properties": {}}
RECIPE = {
    "name": "get_recipe",
    "parameters": {
        "type": "object",
        "required": ["ingredients", "instructions", "time_to_cook"],
        "properties": {
            "ingredients": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["name", "unit", "amount"],
                    "properties": {
                        "name": {"type": "string"},
                        "unit": {"enum": ["grams", "ml", "cups", "pieces", "teaspoons"], "type": "string"},
                        "amount": {"type": "number"},
                    },
                },
            },
            "instructions": {
                "type": "array",
                "items": {"type": "string"},
                "description": "Steps to prepare the recipe (no numbering)",
            },
            "time_to_cook": {"type": "number", "description": "Total time to prepare the recipe in minutes"},
        },
    },
}
CHOICES = {"name": "choose", "parameters": {"type": "object", "properties": {"of": {"type": "string", "enum": [str(each) for each in range(200)]}}}}  # fmt: skip


def counted(body: dict[str, Any]) -> ChatCount:
    return count_chat(body, EncodingCounter(CL100K))


def said(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


# The usage that gpt-3.5-turbo reported, as published with the tests of github.com/hmarr/openai-chat-tokens.
@pytest.mark.parametrize(
    ("messages", "reported"),
    [
        ([said("user", "hello")], 8),
        ([said("user", "hello world")], 9),
        ([said("system", "hello:")], 9),
        (
            [
                said("system", "# Important: you're the best robot"),
                said("user", "hello robot"),
                said("assistant", "hello world"),
            ],
            27,
        ),
    ],
)
def test_plain_messages_have_the_tokens_that_openai_reported(messages: list[dict[str, Any]], reported: int) -> None:
    assert counted({"messages": messages}).total == reported


@pytest.mark.parametrize(
    ("body", "reported"),
    [
        ({"messages": [said("user", "hello")], "functions": [{"name": "foo", "parameters": NOTHING}]}, 31),
        (
            {
                "messages": [said("user", "hello")],
                "functions": [{"name": "foo", "description": "Do a foo", "parameters": NOTHING}],
            },
            36,
        ),
        ({"messages": [said("user", "hello")], "functions": [RECIPE]}, 106),
        (
            {
                "messages": [said("system", "Hello:"), said("system", "Hello"), said("user", "Hi there")],
                "functions": [{"name": "do_stuff", "parameters": NOTHING}],
            },
            40,
        ),
        (
            {
                "messages": [
                    said("user", "hello world"),
                    said("function", '{"foo": "bar", "baz": 1.5}', name="do_stuff"),
                ]
            },
            28,
        ),
        (
            {
                "messages": [
                    said("assistant", "", function_call={"name": "do_stuff", "arguments": '{"foo": "bar", "baz": 1.5}'})
                ]
            },
            26,
        ),
    ],
)
def test_functions_have_no_fewer_tokens_than_openai_reported_and_not_twice_as_many(
    body: dict[str, Any], reported: int
) -> None:
    assert reported <= counted(body).total <= 2 * reported


def written(kind: dict[str, Any], indent: int) -> str:
    """Return a schema as TypeScript, as OpenAI's models are seen to get it."""
    if "enum" in kind:
        return " | ".join(json.dumps(each) for each in kind["enum"])
    if kind["type"] == "object":
        lines = [
            f"{' ' * indent}// {member.get('description', '')}\n{' ' * indent}{name}?: {written(member, indent + 2)},"
            for name, member in kind["properties"].items()
        ]
        return "{\n" + "\n".join(lines) + "\n}"
    return written(kind["items"], indent) + "[]" if kind["type"] == "array" else str(kind["type"])


NAMES = st.text("abcdefghij_", min_size=1, max_size=12)
DESCRIBED = st.fixed_dictionaries({}, optional={"description": st.text(max_size=40)})
LEAVES = st.sampled_from([{"type": "string"}, {"type": "number"}, {"type": "boolean"}])
ENUMS = st.lists(st.one_of(NAMES, st.integers(0, 999)), min_size=1, max_size=20).map(
    lambda names: {"type": "string", "enum": names}
)
SCHEMAS = st.recursive(
    st.builds(lambda kind, more: {**kind, **more}, st.one_of(LEAVES, ENUMS), DESCRIBED),
    lambda inner: st.one_of(
        st.builds(lambda items: {"type": "array", "items": items}, inner),
        st.builds(lambda members: {"type": "object", "properties": members}, st.dictionaries(NAMES, inner, max_size=4)),
    ),
    max_leaves=12,
)


@given(tools=st.lists(st.tuples(NAMES, SCHEMAS), min_size=1, max_size=4))
@settings(max_examples=150, deadline=None)
def test_tools_have_no_fewer_tokens_than_written_as_typescript_or_as_json(
    tools: list[tuple[str, dict[str, Any]]],
) -> None:
    functions = [{"name": name, "parameters": schema} for name, schema in tools]
    declared = [{"type": "function", "function": function} for function in functions]
    types = "\n\n".join(f"type {name} = (_: {written(schema, 0)}) => any;" for name, schema in tools)
    exact = CL100K.take_apart

    estimated = counted({"messages": [], "tools": declared}).tools

    assert estimated >= exact(f"namespace functions {{\n\n{types}\n\n}} // namespace functions").tokens + 9
    assert estimated >= exact(json.dumps(declared, ensure_ascii=False)).tokens


def test_many_choices_have_no_fewer_tokens_than_written_as_typescript() -> None:
    estimated = counted({"messages": [], "functions": [CHOICES]}).tools

    assert estimated >= CL100K.take_apart(written(CHOICES["parameters"], 0)).tokens  # type: ignore[arg-type]


def test_each_part_of_a_request_is_counted_where_it_belongs() -> None:
    body = {
        "messages": [
            said("system", "hello"),
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "hello"},
                    {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}},
                ],
                "name": "hello",
            },
        ],
        "tools": [{"type": "function", "function": {"name": "foo"}}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "foo", "schema": NOTHING}},
    }

    result = counted(body)

    assert result.messages == (5, 3 + 1 + 1 + 85 + 1 + 1)
    assert result.images == 85
    assert (result.tools > 24, result.schema > 16, result.around) == (True, True, 3)
    assert result.total == sum(result.messages) + result.tools + result.schema + 3


def test_calls_and_their_results_are_counted_with_names_arguments_and_ids() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "hello", "arguments": "hello"}}
    one = {"role": "assistant", "content": None, "tool_calls": [call]}
    result = {"role": "tool", "content": "hello", "tool_call_id": "call_1"}
    exact = CL100K.take_apart

    first, second = counted({"messages": [one, result]}).messages

    assert first == 3 + 1 + 8 + 2 + exact("call_1").tokens
    assert second == 3 + 1 + 1 + exact("call_1").tokens


@pytest.mark.parametrize(
    ("body", "messages", "total"),
    [
        ({"prompt": "hello world"}, (2,), 2),
        ({"prompt": ["hello", "hello world"]}, (1, 2), 2),
        ({"prompt": [1, 2, 3], "suffix": "hello"}, (3,), 4),
        ({"prompt": [[1, 2], [3]]}, (2, 1), 2),
        ({"prompt": ""}, (0,), 0),
        ({"prompt": None}, (), 0),
    ],
)
def test_prompts_are_answered_apart_and_the_longest_counts(
    body: dict[str, Any], messages: tuple[int, ...], total: int
) -> None:
    result = counted(body)

    assert (result.messages, result.total) == (messages, total)


@pytest.mark.parametrize(
    "message",
    [
        {"role": "narrator", "content": "hello"},
        {"role": "user", "content": [{"type": "hologram", "text": "hello"}]},
        {"role": "user", "content": [{"type": "refusal", "refusal": "hello"}]},
        {"role": "user", "content": [{"type": ["text"], "text": "hello"}]},
        {"role": "user", "content": ["hello"]},
        {"role": "user", "content": {"said": "hello"}},
        {"role": "assistant", "content": None, "reasoning_content": "hello"},
        {"role": "assistant", "tool_calls": [{"type": "custom", "custom": {"input": "hello"}}, None, 7]},
        {"role": "assistant", "tool_calls": {"hello": 1}, "function_call": ["hello"]},
        {"role": "user", "content": "", "thinking": [{"hello": [[["hello"]]]}]},
        {"role": 7, "content": "hello"},
        "hello",
    ],
)
def test_what_is_not_known_counts_as_it_is_written(message: Any) -> None:
    nothing = counted({"messages": [{}]}).total

    assert counted({"messages": [message]}).total > nothing


def test_data_in_parts_of_unknown_kinds_counts_as_an_image() -> None:
    film = {"type": "video_url", "video_url": {"url": "data:video/mp4;base64," + "AAAA" * 50_000}}

    total = counted({"messages": [{"role": "user", "content": [film]}]}).total

    assert MOST < total < MOST + 50


@pytest.mark.parametrize("levels", [10, 300, 100_000])
def test_values_of_any_depth_are_counted(levels: int) -> None:
    nested: Any = "hello"
    for level in range(levels):
        nested = [nested] if level % 2 else {"a": nested}

    total = counted({"messages": [said("user", "", extra=nested)], "tools": [{"type": "function", "x": nested}]}).total

    assert total > levels // 10
    while isinstance(nested, list | dict):  # taken down by hand: too deep to be forgotten at once
        nested = nested[0] if isinstance(nested, list) else nested["a"]


TEXTS = st.one_of(st.text(max_size=20), st.sampled_from(["hello world ", "漢字", "\n", "0123456789"]))
ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-9, 99), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=8,
)
PARTS = st.one_of(
    st.fixed_dictionaries({"type": st.just("text"), "text": TEXTS}),
    st.fixed_dictionaries({"type": st.just("image_url"), "image_url": st.fixed_dictionaries({"url": TEXTS})}),
    st.fixed_dictionaries({"type": TEXTS, "more": ANYTHING}),
)
CALLS = st.fixed_dictionaries(
    {"id": TEXTS, "function": st.fixed_dictionaries({"name": TEXTS, "arguments": TEXTS})}, optional={"more": ANYTHING}
)
MESSAGES = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "tool"])},
    optional={
        "content": st.one_of(st.none(), TEXTS, st.lists(PARTS, max_size=4)),
        "name": TEXTS,
        "tool_calls": st.lists(CALLS, max_size=3),
        "more": ANYTHING,
    },
)
BODIES = st.fixed_dictionaries(
    {"messages": st.lists(MESSAGES, max_size=6)},
    optional={
        "tools": st.lists(st.fixed_dictionaries({"type": TEXTS, "function": ANYTHING}), max_size=3),
        "functions": ANYTHING,
        "response_format": st.fixed_dictionaries({"json_schema": ANYTHING}),
        "tool_choice": ANYTHING,
    },
)


def bytes_of(text: str) -> int:
    return len(text.encode())


@given(body=BODIES)
@settings(max_examples=200, deadline=None)
def test_no_request_has_more_tokens_than_its_bytes_let_it_have(body: dict[str, Any]) -> None:
    most = most_tokens(body, len(orjson.dumps(body)))

    assert counted(body).total <= most
    assert count_chat(body, EncodingCounter(CL100K, 0.4)).total <= most
    assert count_chat(body, SearchingCounter(bytes_of)).total <= most


def test_an_image_in_a_request_is_taken_by_its_estimate_instead_of_its_bytes() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 900_000}}
    body = {"messages": [{"role": "user", "content": [image]}]}

    assert most_tokens(body, len(orjson.dumps(body))) < MOST + 200


@given(body=BODIES)
@settings(max_examples=200, deadline=None)
def test_no_request_has_fewer_tokens_than_its_texts(body: dict[str, Any]) -> None:
    counter = EncodingCounter(CL100K)
    contents = [message.get("content") for message in body["messages"]]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    texts = [content for content in contents if isinstance(content, str)]
    texts += [part["text"] for part in parts if "text" in part]
    calls = [call["function"] for message in body["messages"] for call in message.get("tool_calls", ())]
    texts += [text for call in calls for text in call.values()]

    assert count_chat(body, counter).total >= sum(map(counter.count, texts))
