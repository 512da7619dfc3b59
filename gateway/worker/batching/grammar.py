"""From what a request says about the form of the answer to a grammar in llama.cpp's notation.

Nothing is ever fetched. What must not live here: schemas (`schemas.py`, since the converter of llama-cpp-python asserts,
expands repetitions and leaves keywords out in silence), and the native parser, which has the last word (`sampling.py`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gateway.worker.batching.refusals import Refusal, unsupported
from gateway.worker.batching.schema_merging import SchemaError
from gateway.worker.batching.schemas import LONGEST_GRAMMAR, calls_grammar, schema_grammar

LONGEST_SCHEMA = 1 << 16  # characters
DEEPEST = 64  # brackets within each other; the native parser goes down with each one

_LITERAL = re.compile(r'"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]|#[^\n]*')


def grammar_of(body: Mapping[str, Any]) -> str | None:
    """Return the grammar that `grammar`, `json_schema` or `response_format` asks for; raises Refusal."""
    response_format = body.get("response_format") or {}
    if not isinstance(response_format, Mapping):
        raise Refusal("'response_format' must be an object", param="response_format")
    schema = _schema_of(response_format)
    if schema is None:
        schema = body.get("json_schema")
    grammar = body.get("grammar")
    if grammar and schema is not None:
        raise Refusal("Cannot use both json_schema and grammar", param="grammar")
    if grammar:
        return check_text(grammar)
    return None if schema is None else schema_to_grammar(schema)


def form_field(body: Mapping[str, Any]) -> str:
    """Return the field of a request that its grammar comes from."""
    return next((name for name in ("grammar", "json_schema", "response_format") if body.get(name)), "tools")


def _schema_of(response_format: Mapping[str, Any]) -> Any:
    kind = response_format.get("type", "text")
    if kind == "text":
        return None
    if kind == "json_object":
        return response_format.get("schema") or {"type": "object"}
    if kind == "json_schema":
        inner = response_format.get("json_schema")
        if not isinstance(inner, Mapping):
            raise Refusal("'response_format.json_schema' must be an object", param="response_format")
        return inner.get("schema") or {}
    raise Refusal(
        f'response_format type must be one of "text", "json_object" or "json_schema", but got: {str(kind)[:40]}',
        param="response_format",
    )


def check_text(grammar: Any) -> str:
    """Return a grammar written by a caller if it is text that the native parser survives; raises Refusal."""
    if not isinstance(grammar, str) or len(grammar) > LONGEST_GRAMMAR or "\0" in grammar:
        raise Refusal(f"'grammar' must be text of at most {LONGEST_GRAMMAR} characters", param="grammar")
    depth = deepest = 0
    for sign in _LITERAL.sub("", grammar):
        depth += (sign == "(") - (sign == ")")
        deepest = max(deepest, depth)
    if deepest > DEEPEST:
        raise Refusal(f"'grammar' has more than {DEEPEST} brackets within each other", param="grammar")
    return grammar


def schema_to_grammar(schema: Any, param: str = "response_format") -> str:
    """Return the grammar of a JSON schema; raises Refusal for what cannot be held to."""
    return _converted(lambda: schema_grammar(schema), schema, param)


def calls_to_grammar(tools: Sequence[Mapping[str, Any]]) -> str:
    """Return the grammar of a call of one of `tools`; raises Refusal."""
    return _converted(lambda: calls_grammar([tool["function"] for tool in tools]), tools, "tools")


def _converted(convert: Callable[[], str], given: Any, param: str) -> str:
    try:
        if len(json.dumps(given, allow_nan=False)) > LONGEST_SCHEMA:
            raise Refusal(f"JSON schema error: it is longer than {LONGEST_SCHEMA} characters", param=param)
        return convert()
    except SchemaError as error:
        message = f"JSON schema error: {error}"
        raise (unsupported(param, message) if error.is_valid else Refusal(message, param=param)) from error
    except (TypeError, ValueError, RecursionError, MemoryError) as error:
        raise Refusal(f"JSON schema error: {str(error)[:200]}", param=param) from error
