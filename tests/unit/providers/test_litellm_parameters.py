"""What the parameters of functions say arrives, in other words where need be, or is refused by the name of its place."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr

from gateway.errors import UpstreamRejected
from gateway.providers import LiteLLMSettings
from gateway.providers.litellm_request import keywords
from tests.support.exchanges import MESSAGES, make_exchange

PATH = "tools[0].function.parameters"
MODELS = {"anthropic": "claude-sonnet-4-5", "bedrock": "us.amazon.nova-2-lite-v1:0", "gemini": "gemini-2.5-flash"}
TEXT = {"type": "string"}


def settled(prefix: str, parameters: dict[str, Any]) -> Any:
    settings = LiteLLMSettings(kind="litellm", prefix=prefix, api_key=SecretStr("k"))
    tool = {"type": "function", "function": {"name": "f", "strict": True, "parameters": parameters}}
    exchange = make_exchange(body={"messages": MESSAGES, "tools": [tool]}, model=MODELS[prefix])
    return keywords(exchange, settings)["tools"][0]["function"]["parameters"]


def one(schema: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": schema}, "required": ["a"], "additionalProperties": False}


def refused(prefix: str, parameters: dict[str, Any]) -> str | None:
    with pytest.raises(UpstreamRejected) as caught:
        settled(prefix, parameters)

    assert caught.value.code == "unsupported_value"
    return caught.value.param


OTHERWISE: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"const": "k"}, {"enum": ["k"], "type": "string"}),
    ({"type": "string", "const": "k"}, {"type": "string", "enum": ["k"]}),
    ({"oneOf": [TEXT, {"type": "null"}]}, {"anyOf": [TEXT, {"type": "null"}]}),
    ({"allOf": [TEXT], "description": "d"}, {"description": "d", "type": "string"}),
    ({"type": ["string", "null"], "enum": ["x", None]}, {"type": "string", "enum": ["x"], "nullable": True}),
    ({"type": "integer", "exclusiveMinimum": 0}, {"type": "integer", "minimum": 1}),
    ({"type": "number", "exclusiveMinimum": 0}, {"type": "number", "minimum": 0}),
    ({"type": "number", "exclusiveMaximum": 1.5}, {"type": "number", "maximum": 1.5}),
    ({"type": "number", "multipleOf": 0.5}, {"type": "number"}),
    ({"type": "array", "items": TEXT, "uniqueItems": True}, {"type": "array", "items": TEXT}),
    ({"type": "array", "items": {"const": "k"}}, {"type": "array", "items": {"enum": ["k"], "type": "string"}}),
    ({"anyOf": [{"const": "k"}, TEXT]}, {"anyOf": [{"enum": ["k"], "type": "string"}, TEXT]}),
]


@pytest.mark.parametrize(("schema", "expected"), OTHERWISE, ids=[str(schema) for schema, _ in OTHERWISE])
def test_what_google_has_other_words_for_is_said_in_them(schema: dict[str, Any], expected: dict[str, Any]) -> None:
    assert settled("gemini", one(schema)) == one(expected)


USUAL: list[dict[str, Any]] = [
    TEXT,
    {"type": "string", "format": "uri", "title": "t", "default": "x", "examples": ["y"]},
    {"type": "string", "enum": ["x", "y"], "pattern": "^x", "minLength": 1},
    {"type": "number", "minimum": 0, "maximum": 1},
    {"type": "array", "items": one(TEXT), "minItems": 1},
    {"anyOf": [TEXT, {"type": "null"}], "description": "d", "default": None},
    {"type": ["string", "integer"]},
    {"type": "object", "additionalProperties": True},
    {"$ref": "#/$defs/B"},
]


@pytest.mark.parametrize("schema", USUAL, ids=str)
@pytest.mark.parametrize("prefix", MODELS)
def test_usual_parameters_arrive_as_they_are(prefix: str, schema: dict[str, Any]) -> None:
    parameters = {**one(schema), "$defs": {"B": TEXT}, "title": "t"}

    assert settled(prefix, parameters) == parameters


LOST: list[tuple[dict[str, Any], str]] = [
    ({"const": 1}, ".enum"),
    ({"type": "integer", "enum": [1, 2]}, ".enum"),
    ({"enum": ["", "x"]}, ".enum"),
    ({"type": "array", "prefixItems": [TEXT]}, ".prefixItems"),
    ({"allOf": [TEXT, {"minLength": 1}]}, ".allOf"),
    ({"not": TEXT}, ".not"),
    ({"type": "object", "additionalProperties": TEXT}, ".additionalProperties"),
    ({"anyOf": [{"required": ["b"]}], "properties": {"b": TEXT}}, ".properties"),
    ({"type": ["string", "integer"], "minLength": 1}, ".minLength"),
    ({"$ref": "#"}, ".$ref"),
    ({"type": "array", "items": {"anyOf": [TEXT, {"const": 2}]}}, ".items.anyOf[1].enum"),
]


@pytest.mark.parametrize(("schema", "place"), LOST, ids=[str(schema) for schema, _ in LOST])
def test_rules_that_google_would_never_see_are_refused_by_their_place(schema: dict[str, Any], place: str) -> None:
    assert refused("gemini", one(schema)) == f"{PATH}.properties.a{place}"


@pytest.mark.parametrize("prefix", ["bedrock", "gemini"])
@pytest.mark.parametrize("name", ["$defs", "definitions"])
def test_definitions_that_lead_back_to_themselves_are_refused_where_they_are_written_out(
    prefix: str, name: str
) -> None:
    tree = {"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": f"#/{name}/Tree"}}}}

    assert refused(prefix, {**one({"$ref": f"#/{name}/Tree"}), name: {"Tree": tree}}) == f"{PATH}.{name}.Tree"


@pytest.mark.parametrize("prefix", ["anthropic", "bedrock"])
@pytest.mark.parametrize("name", ["oneOf", "anyOf", "allOf", "not", "$ref", "minProperties"])
def test_rules_beside_the_properties_that_would_vanish_are_refused(prefix: str, name: str) -> None:
    assert refused(prefix, {**one(TEXT), name: [{"required": ["a"]}]}) == f"{PATH}.{name}"


@pytest.mark.parametrize("prefix", ["anthropic", "bedrock"])
def test_rules_within_the_properties_arrive(prefix: str) -> None:
    parameters = one({"oneOf": [{"const": 1}, {"type": "array", "prefixItems": [TEXT]}]})

    assert settled(prefix, parameters) == parameters
