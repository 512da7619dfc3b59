"""Schemas whose references stand for more than can be written out never reach litellm, which would write them out."""

from __future__ import annotations

import time
from typing import Any

import pytest
from pydantic import SecretStr

from gateway.errors import UpstreamError, UpstreamRejected
from gateway.providers import LiteLLMSettings
from gateway.providers.litellm_request import keywords
from gateway.providers.litellm_schemas import MAX_BYTES, MAX_CHAIN, MAX_NODES
from tests.support.exchanges import MESSAGES, make_exchange

PREFIXES = ("anthropic", "azure", "bedrock", "gemini", "vertex_ai")


def refer(name: str, place: str = "$defs") -> dict[str, str]:
    return {"$ref": f"#/{place}/{name}"}


def chain(length: int, width: int, place: str = "$defs") -> dict[str, Any]:
    """Return a schema in which every definition names the next one `width` times."""
    named: dict[str, Any] = {
        f"X{index}": {"properties": {f"p{side}": refer(f"X{index + 1}", place) for side in range(width)}}
        for index in range(length)
    }
    named[f"X{length}"] = {"type": "string"}
    return {"type": "object", place: named, "properties": {"x": refer("X0", place)}}


def circles(size: int) -> dict[str, Any]:
    """Return a schema in which every definition names all of them."""
    everything = {"properties": {f"p{index}": refer(f"X{index}") for index in range(size)}}
    return {"type": "object", "$defs": {f"X{index}": everything for index in range(size)}, **everything}


def tool(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", "parameters": schema}}


def in_tools(schema: dict[str, Any]) -> dict[str, Any]:
    return {"tools": [tool({"type": "object"}), tool(schema)]}


def in_format(schema: dict[str, Any]) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}


def asked(prefix: str, body: dict[str, Any]) -> dict[str, Any]:
    exchange = make_exchange(body={"model": "m", "messages": MESSAGES, **body}, model="gemini-2.5-flash")
    return keywords(exchange, LiteLLMSettings(kind="litellm", prefix=prefix, api_key=SecretStr("k")))


TOO_MUCH = [
    chain(24, 2),
    chain(60, 2),
    chain(6, 8),
    chain(24, 2, "definitions"),
    chain(MAX_CHAIN + 1, 1),
    circles(12),
    {"$defs": {"X": {"const": "x" * 100_000}}, "properties": {f"p{index}": refer("X") for index in range(100)}},
    {"properties": {"nested": chain(24, 2)}},
]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("schema", TOO_MUCH, ids=range(len(TOO_MUCH)))
def test_references_that_stand_for_too_much_are_refused_at_once(schema: dict[str, Any], prefix: str) -> None:
    for body, param in ((in_tools(schema), "tools[1]"), (in_format(schema), "response_format")):
        started = time.perf_counter()

        with pytest.raises(UpstreamRejected) as caught:
            asked(prefix, body)

        error: UpstreamError = caught.value
        assert (error.http_status, error.param, error.code) == (400, param, "invalid_value")
        assert time.perf_counter() - started < 1


TREE = {"type": "object", "properties": {"name": {"type": "string"}, "children": {"items": refer("Tree")}}}
USUAL = [
    {"type": "object", "properties": {"a": {"type": "string"}}},
    {"$defs": {"Tree": TREE}, "properties": {"root": refer("Tree"), "other": refer("Tree")}},
    chain(6, 2),
    chain(30, 1),
    {"properties": {"a": refer("Absent")}},
    {"properties": {"$ref": {"type": "string"}, "definitions": {"type": "array"}}},
    {"properties": {f"p{index}": {"type": "string"} for index in range(MAX_NODES)}},
]


@pytest.mark.parametrize("schema", USUAL, ids=range(len(USUAL)))
def test_usual_schemas_pass_as_they_are(schema: dict[str, Any]) -> None:
    for body in (in_tools(schema), in_format(schema)):
        assert asked("anthropic", body) | body == asked("anthropic", body)


def test_all_tools_share_the_room() -> None:
    one = chain(9, 2)

    assert asked("gemini", {"tools": [tool(one)]})["tools"] == [tool(one)]
    with pytest.raises(UpstreamRejected) as caught:
        asked("gemini", {"tools": [tool(one)] * 20})
    assert caught.value.param is not None


@pytest.mark.parametrize("prefix", ["anthropic", "azure", "gemini"])
@pytest.mark.parametrize("name", ["tools", "functions", "response_format"])
def test_tools_and_schemas_have_a_size_together(prefix: str, name: str) -> None:
    half = {"type": "object", "description": "é" * (MAX_BYTES // 4)}
    function = {"name": "f", "parameters": half}
    tools: dict[str, Any] = {
        "tools": [{"type": "function", "function": function}] * 2,
        "functions": [function] * 2,
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"allOf": [half, half]}}},
    }

    with pytest.raises(UpstreamRejected) as caught:
        asked(prefix, {name: tools[name]})

    assert (caught.value.param, caught.value.code) == (name, "string_above_max_length")


def test_a_large_prompt_may_have_tools() -> None:
    given = tool({"type": "object"})
    messages = [{"role": "user", "content": "a" * (2 * MAX_BYTES)}]

    assert asked("anthropic", {"tools": [given], "messages": messages})["tools"] == [given]
