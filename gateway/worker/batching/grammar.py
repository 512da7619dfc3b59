"""From what a request says about the form of the answer to a grammar in llama.cpp's notation.

The converter of llama-cpp-python asserts, expands repetitions and leaves keywords out in silence, so a schema is checked
first. Nothing is ever fetched. What must not live here: the native parser, which has the last word (`sampling.py`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from gateway.worker.batching.refusals import Refusal, unsupported

LONGEST_GRAMMAR = 1 << 18  # characters
LONGEST_SCHEMA = 1 << 16
DEEPEST = 64  # brackets or schemas within each other; the native parser goes down with each one
MOST_REPETITIONS = 1000
LONGEST_PATTERN = 500
MOST_IN_PATTERN = 100

_TYPES = {"object", "array", "string", "number", "integer", "boolean", "null"}
_IGNORED_BY_CONVERTER = (
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "not", "if", "then", "else", "contains",
    "patternProperties", "propertyNames", "minProperties", "maxProperties", "dependentRequired", "dependentSchemas",
    "dependencies", "unevaluatedProperties", "unevaluatedItems", "uniqueItems", "$dynamicRef",
)  # fmt: skip
_COUNTS = ("minItems", "maxItems", "minLength", "maxLength")
_NAMED = ("properties", "$defs", "definitions")
_LISTED = ("anyOf", "oneOf", "allOf", "prefixItems")
_LITERAL = re.compile(r'"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]|#[^\n]*')
_REPEATED = re.compile(r"\{(\d+)(?:,(\d*))?\}")


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
    try:
        text = json.dumps(schema)
    except (TypeError, ValueError, RecursionError) as error:
        raise Refusal(f"JSON schema error: {error}", param=param) from error
    if len(text) > LONGEST_SCHEMA:
        raise Refusal(f"JSON schema error: it is longer than {LONGEST_SCHEMA} characters", param=param)
    _check(schema, 0, param)
    from llama_cpp.llama_grammar import json_schema_to_gbnf

    try:
        grammar = json_schema_to_gbnf(text)
    except (AssertionError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise Refusal(f"JSON schema error: {str(error)[:200] or type(error).__name__}", param=param) from error
    if len(grammar) > LONGEST_GRAMMAR:
        raise Refusal("JSON schema error: it has too many parts", param=param)
    return str(grammar)


def _check(schema: Any, depth: int, param: str) -> None:
    if depth > DEEPEST:
        raise Refusal(f"JSON schema error: more than {DEEPEST} schemas within each other", param=param)
    if not isinstance(schema, Mapping):
        raise Refusal("JSON schema error: a schema must be an object", param=param)
    for keyword in _IGNORED_BY_CONVERTER:
        if schema.get(keyword, False) is not False:
            raise unsupported(param, f"JSON schema error: '{keyword}' is not supported by the engine of this model.")
    for fault in (_fault_of_type(schema), _fault_of_reference(schema), _fault_of_size(schema)):
        if fault:
            raise Refusal(f"JSON schema error: {fault}", param=param)
    for inner in _inner(schema):
        _check(inner, depth + 1, param)


def _fault_of_type(schema: Mapping[str, Any]) -> str:
    kinds = schema.get("type")
    for kind in kinds if isinstance(kinds, list) else [] if kinds is None else [kinds]:
        if not isinstance(kind, str) or kind not in _TYPES:
            return f"unrecognized type {str(kind)[:40]}"
    return ""


def _fault_of_reference(schema: Mapping[str, Any]) -> str:
    reference = schema.get("$ref", "#/")
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return f"unsupported $ref {str(reference)[:80]}, only references into the same document are supported"
    return ""


def _fault_of_size(schema: Mapping[str, Any]) -> str:
    for name in _COUNTS:
        count = schema.get(name, 0)
        if type(count) is not int or not 0 <= count <= MOST_REPETITIONS:
            return f"'{name}' must be a number from 0 to {MOST_REPETITIONS}"
    pattern = schema.get("pattern", "^$")
    if not isinstance(pattern, str) or len(pattern) > LONGEST_PATTERN:
        return f"'pattern' must be text of at most {LONGEST_PATTERN} characters"
    product = 1
    for least, most in _REPEATED.findall(pattern):
        product *= max(int(least[:6]), int((most or "0")[:6]), 1)
    return f"'pattern' repeats more than {MOST_IN_PATTERN} times" if product > MOST_IN_PATTERN else ""


def _inner(schema: Mapping[str, Any]) -> Iterator[Any]:
    for name in _NAMED:
        named = schema.get(name)
        if isinstance(named, Mapping):
            yield from named.values()
    for name in _LISTED:
        listed = schema.get(name)
        if isinstance(listed, list):
            yield from listed
    items = schema.get("items")
    yield from items if isinstance(items, list) else [] if items is None or items is True else [items]
    more = schema.get("additionalProperties")
    if isinstance(more, Mapping):
        yield more
