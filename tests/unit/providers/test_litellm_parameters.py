"""What the parameters of functions say arrives as it is, or is refused by the name of its place."""

from __future__ import annotations

import time
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


USUAL: list[dict[str, Any]] = [
    TEXT,
    {"type": "string", "format": "uri", "title": "t", "default": "x", "examples": ["y"]},
    {"type": "string", "enum": ["x", "y"], "pattern": "^x", "minLength": 1},
    {"type": "number", "minimum": 0, "maximum": 1},
    {"type": "array", "items": one(TEXT), "minItems": 1},
    {"anyOf": [TEXT, {"type": "null"}], "description": "d", "default": None},
    {"type": ["string", "integer"]},
    {"type": "object", "additionalProperties": True},
    {"$ref": "#/$defs/B", "description": "d"},
    {"type": "object", "additionalProperties": TEXT},
    {"type": "integer", "enum": [1, 2]},
    {"type": "array", "prefixItems": [TEXT], "minItems": 1, "uniqueItems": True},
    {"oneOf": [{"const": True}, {"enum": ["", "x"]}], "not": {"const": "x"}},
]


@pytest.mark.parametrize("schema", USUAL, ids=str)
@pytest.mark.parametrize("prefix", MODELS)
def test_usual_parameters_arrive_as_they_are(prefix: str, schema: dict[str, Any]) -> None:
    parameters = {**one(schema), "$defs": {"B": TEXT}, "title": "t"}

    assert settled(prefix, parameters) == parameters


@pytest.mark.parametrize("name", ["$defs", "definitions"])
def test_definitions_that_lead_back_to_themselves_are_refused_where_they_are_written_out(name: str) -> None:
    tree = {"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": f"#/{name}/Tree"}}}}
    parameters = {**one({"$ref": f"#/{name}/Tree"}), name: {"Tree": tree}}

    assert refused("bedrock", parameters) == f"{PATH}.{name}.Tree"
    assert settled("gemini", parameters) == parameters


@pytest.mark.parametrize("prefix", ["anthropic", "bedrock"])
@pytest.mark.parametrize("name", ["oneOf", "anyOf", "allOf", "not", "$ref", "minProperties"])
def test_rules_beside_the_properties_that_would_vanish_are_refused(prefix: str, name: str) -> None:
    assert refused(prefix, {**one(TEXT), name: [{"required": ["a"]}]}) == f"{PATH}.{name}"


WIDE = one({"anyOf": [{}] * 300_000})


def test_parameters_of_more_values_than_can_be_looked_through_are_refused_where_references_are_sought() -> None:
    began = time.process_time()

    with pytest.raises(UpstreamRejected) as caught:
        settled("bedrock", WIDE)

    assert (caught.value.param, caught.value.code) == (PATH, "array_above_max_length")
    assert time.process_time() - began < 1


@pytest.mark.parametrize("prefix", ["anthropic", "gemini"])
def test_where_nothing_is_looked_through_any_number_of_values_passes(prefix: str) -> None:
    began = time.process_time()

    assert settled(prefix, WIDE) == WIDE

    assert time.process_time() - began < 1
