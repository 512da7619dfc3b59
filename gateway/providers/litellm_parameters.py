"""The parameters of functions, for upstreams that take less than JSON Schema, or litellm less for them.

litellm takes away whatever is left. What Google can be told in other words is told so here, on the call's own copies;
what only describes is let go, and so is what only narrows numbers or lists a little, which whoever runs a function has to
check anyway; a rule about the shape of values that cannot be told is refused by the name of its place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

from gateway.errors import UpstreamRejected
from gateway.providers.litellm_fields import wire_of

Schema = dict[str, Any]
_Named = Mapping[str, tuple[Any, str]]  # definitions with their places

# Rules that Google's schemas have no field for.
_UNSAYABLE = (
    "allOf",
    "contains",
    "dependentRequired",
    "dependentSchemas",
    "else",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "if",
    "multipleOf",
    "not",
    "oneOf",
    "patternProperties",
    "prefixItems",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
    "uniqueItems",
)
_NARROWING = ("multipleOf", "uniqueItems")
# Beside `anyOf` these would be taken away.
_RULES = (
    "enum",
    "items",
    "maximum",
    "maxItems",
    "maxLength",
    "maxProperties",
    "minimum",
    "minItems",
    "minLength",
    "minProperties",
    "pattern",
    "properties",
    "required",
)
_ROOT_RULES = ("anyOf", "const", "enum", "minProperties", "maxProperties", "$ref")  # unsayable at Anthropic's root
_PLACES = ("$defs", "definitions")
_DEFINITION = re.compile(r"#/(?:\$defs|definitions)/([^/]+)")


def settle_parameters(fields: dict[str, Any], prefix: str, model: str) -> None:
    """Change the functions' parameters in place; raises UpstreamRejected, its `param` the place, for what would be lost."""
    settle = _SETTLERS.get(wire_of(prefix, model))
    if settle is None:
        return
    for index, tool in enumerate(fields.get("tools") or ()):
        parameters = tool["function"].get("parameters") if tool["type"] == "function" else None
        if parameters:
            settle(parameters, f"tools[{index}].function.parameters")


def _settle_for_anthropic(schema: Schema, path: str) -> None:
    """Refuse rules beside the properties: what is within them arrives, and is the upstream's to judge."""
    for name in (*_UNSAYABLE, *_ROOT_RULES):
        if _has(schema, name):
            _refuse(f"{path}.{name}")


def _settle_for_bedrock(schema: Schema, path: str) -> None:
    """Refuse what is refused for Anthropic; references are written out here."""
    _settle_for_anthropic(schema, path)
    _check_circles(_definitions(schema, path))


def _settle_for_google(schema: Schema, path: str) -> None:
    named = _definitions(schema, path)
    rest: list[tuple[Any, str]] = [(schema, path), *named.values()]
    while rest:
        node, place = rest.pop()
        if isinstance(node, dict):
            _settle_node(node, place)
            rest.extend(_inner(node, place))
    _check_circles(named)


_SETTLERS: Mapping[str, Callable[[Schema, str], None]] = {
    "anthropic": _settle_for_anthropic,
    "bedrock": _settle_for_bedrock,
    "gemini": _settle_for_google,
}


def _definitions(schema: Schema, path: str) -> _Named:
    return {
        name: (node, f"{path}.{place}.{name}")
        for place in _PLACES
        if isinstance(schema.get(place), dict)
        for name, node in schema[place].items()
    }


def _inner(node: Schema, place: str) -> list[tuple[Any, str]]:
    properties = node.get("properties")
    inner = [(node.get("items"), f"{place}.items")]
    if isinstance(properties, dict):
        inner += [(value, f"{place}.properties.{name}") for name, value in properties.items()]
    if isinstance(node.get("anyOf"), list):
        inner += [(choice, f"{place}.anyOf[{index}]") for index, choice in enumerate(node["anyOf"])]
    return inner


def _settle_node(node: Schema, place: str) -> None:
    _say_otherwise(node)
    for name in _UNSAYABLE:
        if _has(node, name):
            _refuse(f"{place}.{name}")
    if isinstance(node.get("additionalProperties"), dict) and node["additionalProperties"]:
        _refuse(f"{place}.additionalProperties")
    _check_enum(node, place)
    if "$ref" in node and not _DEFINITION.fullmatch(str(node["$ref"])):
        _refuse(f"{place}.$ref")
    if "anyOf" in node or isinstance(node.get("type"), list):
        for name in _RULES:
            if name in node:
                _refuse(f"{place}.{name}")


def _has(node: Schema, name: str) -> bool:
    return node.get(name) is not None and node[name] is not False


def _say_otherwise(node: Schema) -> None:
    """Replace what Google has another word for; one of several is any of them there, also in its own JSON Schema."""
    only = node.get("allOf")
    if isinstance(only, list) and len(only) == 1 and isinstance(only[0], dict) and not only[0].keys() & node.keys():
        node.update(node.pop("allOf")[0])
    if "oneOf" in node and "anyOf" not in node:
        node["anyOf"] = node.pop("oneOf")
    if "const" in node and "enum" not in node:
        node["enum"] = [node.pop("const")]
    _allow_null(node)
    if isinstance(node.get("enum"), list) and "type" not in node and all(isinstance(one, str) for one in node["enum"]):
        node["type"] = "string"
    _close_bounds(node)
    for name in _NARROWING:
        node.pop(name, None)


def _allow_null(node: Schema) -> None:
    kinds = node.get("type")
    if isinstance(kinds, list) and "null" in kinds and len(kinds) == 2:
        node["type"] = next((kind for kind in kinds if kind != "null"), "null")
        node["nullable"] = True
    if node.get("nullable") is True and isinstance(node.get("enum"), list):
        node["enum"] = [value for value in node["enum"] if value is not None]


def _close_bounds(node: Schema) -> None:
    for open_bound, bound, step in (("exclusiveMinimum", "minimum", 1), ("exclusiveMaximum", "maximum", -1)):
        limit = node.pop(open_bound, None)
        if type(limit) in (int, float) and bound not in node:
            node[bound] = limit + step if node.get("type") == "integer" and type(limit) is int else limit


def _check_enum(node: Schema, place: str) -> None:
    values = node.get("enum")
    if "const" in node:
        _refuse(f"{place}.const")
    if values is None:
        return
    texts = isinstance(values, list) and all(isinstance(value, str) and value for value in values)
    if not texts or node.get("type") != "string":
        _refuse(f"{place}.enum")  # Google has texts to choose from only, and none of them empty


def _check_circles(named: _Named) -> None:
    """Refuse definitions that lead back to themselves, which cannot be written out."""
    try:
        TopologicalSorter({name: _references(node) for name, (node, _) in named.items()}).prepare()
    except CycleError as error:
        _refuse(named[error.args[1][0]][1])


def _references(node: Any) -> set[str]:
    found: set[str] = set()
    rest = [node]
    while rest:
        inner = rest.pop()
        if isinstance(inner, dict):
            found.add(str(inner.get("$ref")).rpartition("/")[2])
            rest.extend(inner.values())
        elif isinstance(inner, list):
            rest.extend(inner)
    return found


def _refuse(place: str) -> None:
    raise UpstreamRejected(
        f"Invalid schema: '{place}' cannot be said to this upstream, which would answer as if it were not there.",
        param=place,
        code="unsupported_value",
    )
