"""Refuses grammars that would keep llama.cpp's server busy without end: it follows every way through them.

Stands between the front and an engine that makes grammars of schemas and tools by its own code. What that comes to is
seen in what our own code makes of them, without the keywords that it does not keep to: they lead to no other ways.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from gateway.worker.batching.grammar import calls_to_grammar, grammar_of
from gateway.worker.batching.refusals import Refusal
from gateway.worker.batching.schema_merging import BY_TYPE, UNKEPT, UNKEPT_BY_TYPE
from gateway.worker.branching import MULTIPLIES, multiplies
from gateway.worker.engine import Answer, Body, LoadedModel
from gateway.worker.told import refuse

_FORMS = ("grammar", "json_schema", "response_format", "tools")
_NAMED = ("properties", "$defs", "definitions")  # whose keys are names
_COUNTS = ("minItems", "maxItems")
_HIGHEST_COUNT = 3
_LEFT_OUT = frozenset({*UNKEPT, *(one for many in UNKEPT_BY_TYPE.values() for one in many), *BY_TYPE["string"]})
_WRITING = ("/v1/chat/completions", "/v1/completions")


class FormCheck:
    """Asks `model`, except for answers whose form has ways that multiply."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = model

    async def ask(self, path: str, body: Body) -> Answer:
        if path in _WRITING and any(body.get(name) for name in _FORMS):
            named = await asyncio.to_thread(_multiplying, body)
            if named is not None:
                return refuse(400, "invalid_value", "invalid_request_error", f"'{named}' {MULTIPLIES}", named)
        return await self._model.ask(path, body)

    async def close(self) -> None:
        await self._model.close()


def _multiplying(body: Body) -> str | None:
    """Return the field whose ways multiply."""
    for name, grammar in _grammars(body):
        if multiplies(grammar):
            return name
    return None


def _grammars(body: Body) -> Iterator[tuple[str, str]]:
    """Yield the grammars that an engine makes of a request; nothing for what it refuses itself."""
    if isinstance(body.get("grammar"), str):
        yield "grammar", body["grammar"]
    for name in ("json_schema", "response_format"):
        made = _made(partial(_of_field, name, body))
        if made is not None:
            yield name, made
    tools = body.get("tools")
    for tool in tools if isinstance(tools, list) and body.get("tool_choice") != "none" else ():
        made = _made(partial(_of_tool, tool))
        if made is not None:
            yield "tools", made


def _of_field(name: str, body: Body) -> str | None:
    return grammar_of({name: _lightened(body.get(name))})


def _of_tool(tool: Any) -> str:
    return calls_to_grammar([_lightened(tool)])


def _made(make: Callable[[], str | None]) -> str | None:
    try:
        return make()
    except (Refusal, AttributeError, KeyError, TypeError, ValueError, RecursionError):
        return None


def _lightened(schema: Any) -> Any:
    """Return a schema without what our own code cannot read and what makes no other ways."""
    if isinstance(schema, list):
        return [_lightened(one) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    light: dict[str, Any] = {}
    for name, value in schema.items():
        if name in _NAMED and isinstance(value, Mapping):
            light[name] = {one: _lightened(inner) for one, inner in value.items()}
        elif name in _COUNTS and type(value) is int:
            light[name] = min(value, _HIGHEST_COUNT)
        elif name not in _LEFT_OUT:
            light[name] = value if name in ("enum", "const") else _lightened(value)
    return light
