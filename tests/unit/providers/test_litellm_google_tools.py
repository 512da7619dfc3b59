"""The functions that a caller declares, as they arrive on Google's wire: in JSON Schema, as they were written."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import SecretStr

from gateway.providers import LiteLLMSettings
from gateway.providers.litellm import LiteLLM
from tests.support.exchanges import MESSAGES, make_exchange
from tests.support.wires import UPSTREAM_KEY, Gemini, WireUpstream

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "words": {"type": "object", "additionalProperties": {"type": "string"}},
        "level": {"type": "integer", "enum": [1, 2]},
        "always": {"type": "boolean", "const": True},
        "pair": {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "minItems": 2},
        "order": {"type": "string", "enum": ["", "asc"]},
        "strict": {"type": "string", "title": "Strict", "default": "x"},
        "tree": {"$ref": "#/$defs/Tree", "description": "d"},
    },
    "required": ["words"],
    "additionalProperties": False,
    "$defs": {"Tree": {"type": "object", "properties": {"inner": {"$ref": "#/$defs/Tree"}}}},
}


@pytest.fixture
async def upstream() -> AsyncIterator[WireUpstream]:
    async with WireUpstream(Gemini()) as wire:
        yield wire


@pytest.fixture
async def lane(upstream: WireUpstream) -> AsyncIterator[LiteLLM]:
    settings = LiteLLMSettings(
        kind="litellm", prefix="gemini", base_url=upstream.base_url, api_key=SecretStr(UPSTREAM_KEY)
    )
    provider = LiteLLM("lab", settings)
    yield provider
    await provider.close()


async def declared(lane: LiteLLM, upstream: WireUpstream, *functions: dict[str, Any], **fields: Any) -> Any:
    """Return the functions that the upstream was told of."""
    tools = [{"type": "function", "function": function} for function in functions]
    body = {"model": "m", "messages": MESSAGES, "tools": tools, **fields}
    before = copy.deepcopy(body)
    async with await lane.send(make_exchange(model="gemini-2.5-flash", body=body)):
        pass
    assert body == before
    assert upstream.mistakes == []
    (tool,) = upstream.requests[-1].json["tools"]
    return tool["function_declarations"]


async def test_parameters_arrive_as_the_schema_that_they_are(lane: LiteLLM, upstream: WireUpstream) -> None:
    sent = {"name": "f", "description": "d", "strict": True, "parameters": SCHEMA}

    told = await declared(lane, upstream, sent)

    assert told == [{"name": "f", "description": "d", "parametersJsonSchema": SCHEMA}]


async def test_each_function_has_its_own_parameters_and_one_without_has_none(
    lane: LiteLLM, upstream: WireUpstream
) -> None:
    other = {"type": "object", "properties": {}}

    told = await declared(lane, upstream, {"name": "f"}, {"name": "g", "parameters": other}, {"name": "h"})

    assert told == [{"name": "f"}, {"name": "g", "parametersJsonSchema": other}, {"name": "h"}]


async def test_functions_in_the_form_before_tools_have_theirs(lane: LiteLLM, upstream: WireUpstream) -> None:
    functions = [{"name": "f", "parameters": SCHEMA}]

    told = await declared(lane, upstream, tools=[], functions=functions)

    assert told == [{"name": "f", "parametersJsonSchema": SCHEMA}]
