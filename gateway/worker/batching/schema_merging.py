"""A JSON schema without `$ref` and `allOf`: what they point to and what they join is put into one schema.

What must not live here: the notation of grammars.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

MOST_PARTS = 100
MOST_COMPARED = 1 << 17  # characters of keywords that several parts have
TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")

# What restricts a value, by the type that it restricts. All that is not here only describes.
FOR_ALL = ("type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref")
BY_TYPE = {
    "object": ("properties", "required", "additionalProperties"),
    "array": ("items", "prefixItems", "minItems", "maxItems"),
    "string": ("minLength", "maxLength", "pattern", "format"),
}
UNKEPT = (
    "not", "if", "then", "else", "dependentRequired", "dependentSchemas", "dependencies", "unevaluatedProperties",
    "unevaluatedItems", "$dynamicRef", "$recursiveRef",
)  # fmt: skip
UNKEPT_BY_TYPE = {
    "object": ("patternProperties", "propertyNames", "minProperties", "maxProperties"),
    "array": ("contains", "minContains", "maxContains", "uniqueItems"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}
FORMATS = ("date", "time", "date-time", "uuid", "uuid1", "uuid2", "uuid3", "uuid4", "uuid5")
_READ = {name for names in (FOR_ALL, *BY_TYPE.values(), *UNKEPT_BY_TYPE.values()) for name in names}

Schema = dict[str, Any]


class SchemaError(ValueError):
    """A schema that is none, or that cannot be kept to; `is_valid` when another engine might."""

    def __init__(self, reason: str, *, is_valid: bool = False) -> None:
        super().__init__(reason)
        self.is_valid = is_valid


def unkept(keyword: str) -> SchemaError:
    return SchemaError(f"'{keyword}' is not supported by the engine of this model", is_valid=True)


def merged(schema: Any, document: Any) -> Schema:
    """Return `schema` with all that it points to in `document`; raises SchemaError."""
    whole: Schema = {}
    origins: dict[str, set[int]] = {}
    waiting = [schema]
    compared = 0
    for number in range(MOST_PARTS):
        if not waiting or compared > MOST_COMPARED:
            break
        part = _restricting(waiting.pop(0))
        if "$ref" in part:
            waiting.append(_target(part.pop("$ref"), document))
        waiting.extend(_list(part.pop("allOf", []), "allOf"))
        for keyword, value in part.items():
            origins.setdefault(keyword, set()).add(number)
            if whole.setdefault(keyword, value) is not value:
                compared += len(json.dumps(value)) + len(json.dumps(whole[keyword]))
                whole[keyword] = _joined(keyword, whole[keyword], value)
    if waiting or compared > MOST_COMPARED:
        raise SchemaError("a '$ref' or 'allOf' leads to itself or to too many parts")
    if whole.get("additionalProperties") not in (True, {}):
        _expect_together(origins, "additionalProperties", "properties")
    _expect_together(origins, "items", "prefixItems")
    return whole


def _restricting(schema: Any) -> Schema:
    """Return the part of a schema that restricts."""
    if schema is True:
        return {}
    if schema is False:
        raise SchemaError("a schema permits no value")
    if not isinstance(schema, Mapping):
        raise SchemaError("a schema must be an object")
    for keyword in UNKEPT:
        if schema.get(keyword, False) is not False:
            raise unkept(keyword)
    part = {name: value for name, value in schema.items() if name in _READ and not _is_idle(name, value)}
    if part.get("required") == []:
        del part["required"]
    return part


def _is_idle(name: str, value: Any) -> bool:
    return (name == "format" and value not in FORMATS) or (name == "uniqueItems" and value is False)


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise SchemaError(f"'{name}' must be an array")
    return value


def _target(reference: Any, document: Any) -> Any:
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        raise SchemaError(
            f"unsupported $ref {str(reference)[:80]}, only references into the same document are supported"
        )
    found = document
    for step in reference.split("/")[1:]:
        name = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(found, list) and name.isdecimal() and len(name) < 6 and int(name) < len(found):
            found = found[int(name)]
        elif isinstance(found, Mapping) and name in found:
            found = found[name]
        else:
            raise SchemaError(f"the $ref {reference[:80]} leads nowhere")
    return found


def _expect_together(origins: Mapping[str, set[int]], one: str, other: str) -> None:
    """Refuse `one` that would forbid what `other` says in another part."""
    if one in origins and other in origins and len(origins[one] | origins[other]) > 1:
        raise SchemaError(f"'{one}' and '{other}' in different parts of an 'allOf' are not supported", is_valid=True)


def _joined(keyword: str, one: Any, other: Any) -> Any:
    """Return the value of a keyword that two parts have."""
    if same(one, other):
        return one
    if keyword == "required" and isinstance(one, list) and isinstance(other, list):
        return list({json.dumps(name): name for name in (*one, *other)}.values())
    if keyword == "properties" and isinstance(one, Mapping) and isinstance(other, Mapping):
        both = {name: {"allOf": [one[name], other[name]]} for name in one if name in other}
        return {**one, **other, **both}
    if keyword == "type":
        return both_types(types_of(one), types_of(other))
    if keyword == "enum" and isinstance(one, list) and isinstance(other, list):
        known = {json.dumps(value, sort_keys=True) for value in other}
        return [value for value in one if json.dumps(value, sort_keys=True) in known]
    if type(one) is int and type(other) is int and keyword[:3] in ("min", "max"):
        return max(one, other) if keyword.startswith("min") else min(one, other)
    raise SchemaError(f"two different '{keyword}' at one place are not supported", is_valid=True)


def both_types(one: list[str], other: list[str]) -> list[str]:
    """Return the types that two lists of types have in common; raises SchemaError where there is none."""
    found = [kind for kind in one if kind in other or (kind == "integer" and "number" in other)]
    found += [kind for kind in other if kind == "integer" and "number" in one and kind not in found]
    if not found:
        raise SchemaError("a schema permits no value")
    return found


def types_of(given: Any) -> list[str]:
    """Return the types that `type` names; raises SchemaError."""
    kinds = given if isinstance(given, list) else [given]
    for kind in kinds:
        if not isinstance(kind, str) or kind not in TYPES:
            raise SchemaError(f"unrecognized type {str(kind)[:40]}")
    if not kinds:
        raise SchemaError("'type' names no type")
    return [kind for kind in kinds if kind != "integer" or "number" not in kinds]


def same(one: Any, other: Any) -> bool:
    """Return whether two values are the same in JSON, where 1 is not true."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
