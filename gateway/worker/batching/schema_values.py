"""What a merged schema says about types, values and properties, checked, and how values stand in a grammar."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gateway.worker.batching.patterns import quoted
from gateway.worker.batching.schema_merging import (
    BY_TYPE,
    FOR_ALL,
    UNKEPT_BY_TYPE,
    Schema,
    SchemaError,
    same,
    types_of,
    unkept,
)


def literal(value: Any) -> str:
    """Return the rule of exactly this value."""
    return f'"{quoted(_told(value))}"'


def _told(value: Any) -> str:
    told = json.dumps(value, ensure_ascii=False)
    return told if told.isprintable() else json.dumps(value)


def kinds_of(schema: Schema) -> list[str]:
    """Return the types that a schema permits: without a `type` that whose keywords it has, none for any value."""
    if "type" in schema:
        return types_of(schema["type"])
    groups = {**{kind: (*BY_TYPE.get(kind, ()), *names) for kind, names in UNKEPT_BY_TYPE.items()}}
    groups["string"] = BY_TYPE["string"]
    found = [kind for kind, names in groups.items() if any(name in schema for name in names)]
    if len(found) > 1:
        raise SchemaError("a schema without 'type' restricts values of several types", is_valid=True)
    return found


def refuse_unkept(schema: Schema, kind: str) -> None:
    """Raise SchemaError where a schema of this type has what no grammar can be held to."""
    for keyword in UNKEPT_BY_TYPE.get("number" if kind == "integer" else kind, ()):
        if keyword in schema:
            raise unkept(keyword)


def members_of(schema: Schema) -> tuple[Schema, dict[str, None], Any]:
    """Return the properties, the required names, and the schema of further properties."""
    properties, required = schema.get("properties", {}), schema.get("required", [])
    more = schema.get("additionalProperties", "properties" not in schema)
    if not isinstance(properties, Mapping):
        raise SchemaError("'properties' must be an object")
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        raise SchemaError("'required' must be an array of texts")
    return dict(properties), dict.fromkeys(required), True if more == {} else more


def values_of(schema: Schema) -> list[Any]:
    """Return the values that `enum` and `const` permit."""
    values = schema.get("enum", [schema.get("const")])
    if not isinstance(values, list):
        raise SchemaError("'enum' must be an array")
    if "const" in schema:
        values = [value for value in values if same(value, schema["const"])]
    kinds = types_of(schema["type"]) if "type" in schema else None
    values = [value for value in values if kinds is None or any(kind in kinds for kind in _kinds_of_value(value))]
    if not values:
        raise SchemaError("a schema permits no value")
    applying = {kind for value in values for kind in _kinds_of_value(value)}
    for keyword in schema.keys() - FOR_ALL:
        if any(keyword in (*BY_TYPE.get(kind, ()), *UNKEPT_BY_TYPE.get(kind, ())) for kind in applying):
            raise unkept(f"{keyword}' beside 'enum")
    return values


def _kinds_of_value(value: Any) -> tuple[str, ...]:
    if isinstance(value, bool):
        return ("boolean",)
    if isinstance(value, int | float):
        return ("integer", "number") if value == int(value) else ("number",)
    return ({str: "string", list: "array", dict: "object", type(None): "null"}[type(value)],)
