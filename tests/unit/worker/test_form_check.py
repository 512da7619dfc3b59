"""Forms whose ways multiply do not reach an engine that makes grammars by its own code; all others do."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.worker.form_check import FormCheck
from gateway.worker.told import Told, body_of

CHAT, COMPLETIONS, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
GRAMMAR = 'root ::= a\na ::= "x" a "b" | "x" a "c"'
ITSELF = {"$ref": "#/$defs/a"}
LISTS = [{"type": "array", "items": ITSELF, "minItems": 2000}, {"type": "array", "items": ITSELF, "uniqueItems": True}]
SCHEMA = {"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": LISTS}}}
PLAIN = {"type": "object", "properties": {"minimum": {"type": "integer", "minimum": 3}, "a": {"pattern": "^(?=a)"}}}


def format_of(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}


def tool(schema: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", "parameters": schema}}


class Model:
    """A model that answers everything."""

    async def ask(self, path: str, body: Any) -> Told:
        return Told(b"{}")

    async def close(self) -> None:
        return None


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"grammar": GRAMMAR}, "grammar"),
        ({"json_schema": SCHEMA}, "json_schema"),
        ({"response_format": format_of(SCHEMA)}, "response_format"),
        ({"tools": [tool(PLAIN), tool(SCHEMA)], "tool_choice": "required"}, "tools"),
    ],
)
@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_a_form_whose_ways_multiply_is_refused_by_its_field(path: str, body: dict[str, Any], named: str) -> None:
    answer = await FormCheck(Model()).ask(path, body)

    error = orjson.loads(await body_of(answer))["error"]
    assert (answer.status, error["param"], error["code"]) == (400, named, "invalid_value")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {}),
        (CHAT, {"grammar": 'root ::= "a"+'}),
        (CHAT, {"json_schema": PLAIN, "tools": [tool(PLAIN), 5, {"function": {}}, tool(7)]}),
        (CHAT, {"response_format": format_of({"type": "no such"})}),
        (CHAT, {"response_format": 5, "grammar": 5, "tools": 5}),
        (CHAT, {"tools": [tool(SCHEMA)], "tool_choice": "none"}),
        (EMBEDDINGS, {"grammar": GRAMMAR}),
    ],
)
async def test_all_else_reaches_the_model(path: str, body: dict[str, Any]) -> None:
    answer = await FormCheck(Model()).ask(path, body)

    assert answer.status == 200
