"""The parameters of functions, for upstreams for which litellm takes away rules beside the properties.

What would be lost is refused by the name of its place; whatever else a schema says arrives as it is, and is the
upstream's to judge. Nothing is put in other words here: Google is sent the schema itself, see `litellm_words.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

from gateway.errors import UpstreamRejected
from gateway.providers.litellm_fields import wire_of
from gateway.providers.litellm_schemas import MAX_NODES

Schema = dict[str, Any]
_Named = Mapping[str, tuple[Any, str]]  # definitions with their places

# What litellm leaves out of the root of a schema for Anthropic and for Bedrock.
_LOST = (
    "$ref",
    "allOf",
    "anyOf",
    "const",
    "contains",
    "dependentRequired",
    "dependentSchemas",
    "else",
    "enum",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "if",
    "maxProperties",
    "minProperties",
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
_PLACES = ("$defs", "definitions")
_WIRES = frozenset({"anthropic", "bedrock"})


def check_parameters(fields: Mapping[str, Any], prefix: str, model: str) -> None:
    """Raise UpstreamRejected, its `param` the place, for parameters of functions of which something would be lost."""
    wire = wire_of(prefix, model)
    if wire not in _WIRES:
        return
    room = MAX_NODES
    for index, tool in enumerate(fields.get("tools") or ()):
        parameters = tool["function"].get("parameters") if tool["type"] == "function" else None
        if not parameters:
            continue
        path = f"tools[{index}].function.parameters"
        _check_root(parameters, path)
        if wire == "bedrock":
            room -= _count(parameters, room)
            _check_room(room, path)
            _check_circles(_definitions(parameters, path))


def _check_room(room: int, path: str) -> None:
    if room < 0:
        raise UpstreamRejected(
            f"Invalid schema for '{path}': expected at most {MAX_NODES} objects, lists and values in all tools.",
            param=path,
            code="array_above_max_length",
        )


def _count(schema: Any, room: int) -> int:
    """Return how many objects, lists and values a schema has, or more than `room` as soon as it is more."""
    counted, rest = 1, [schema]
    while rest and counted <= room:
        node = rest.pop()
        if isinstance(node, dict | list):
            counted += len(node)
            if counted <= room:
                rest.extend(node.values() if isinstance(node, dict) else node)
    return counted


def _check_root(schema: Schema, path: str) -> None:
    for name in _LOST:
        if schema.get(name) is not None and schema[name] is not False:
            _refuse(f"{path}.{name}")


def _definitions(schema: Schema, path: str) -> _Named:
    return {
        name: (node, f"{path}.{place}.{name}")
        for place in _PLACES
        if isinstance(schema.get(place), dict)
        for name, node in schema[place].items()
    }


def _check_circles(named: _Named) -> None:
    """Refuse definitions that lead back to themselves: litellm writes them out for Bedrock, and they have no end."""
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
