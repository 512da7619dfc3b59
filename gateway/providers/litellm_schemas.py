"""How large a schema becomes when its references are replaced by what they name, as litellm does for some wires.

A few hundred bytes may stand for gigabytes: every definition that names the next one twice doubles it. The whole is
measured here without making it; what else may be odd about a schema is the upstream's to judge.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from gateway.errors import UpstreamRejected
from gateway.wire import dump

MAX_NODES = 20_000  # objects, lists and values of all schemas of one request together; litellm takes 70 ms for them
MAX_CHAIN = 64  # references behind one another, as deep as a request may be
MAX_BYTES = 1024 * 1024  # of JSON, all tools and schemas together; litellm takes 0.3 s for them on the event loop
_CHARACTERS = 100  # of a text count as one more node
_FIELDS = ("tools", "functions", "response_format")
_PLACES = ("$defs", "definitions", "schemas")
_Definitions = Mapping[str, list[Any]]


def check_size(body: Mapping[str, Any]) -> None:
    """Raise UpstreamRejected, its `param` naming the largest field, for tools and schemas of more than MAX_BYTES."""
    sizes = {name: len(dump(body[name])) for name in _FIELDS if body.get(name)}
    if sum(sizes.values()) > MAX_BYTES:
        raise UpstreamRejected(
            f"Tools and schemas are too large: expected at most {MAX_BYTES} bytes of JSON together.",
            param=max(sizes, key=lambda name: sizes[name]),
            code="string_above_max_length",
        )


def check_schemas(fields: Mapping[str, Any]) -> None:
    """Raise UpstreamRejected, its `param` naming the schema, for references that stand for too much."""
    room = MAX_NODES
    for path, schema in _schemas(fields):
        definitions, has_references = _collect(schema)
        if has_references:
            room -= _grow(schema, definitions, room)
        if room < 0:
            raise UpstreamRejected(
                f"Invalid schema for '{path}': its references stand for more than can be written out.",
                param=path,
                code="invalid_value",
            )


def _schemas(fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for index, tool in enumerate(fields.get("tools") or ()):
        yield f"tools[{index}]", tool
    for name in ("functions", "response_format"):
        if fields.get(name) is not None:
            yield name, fields[name]


def _collect(schema: Any) -> tuple[_Definitions, bool]:
    """Return every definition by its name, wherever it is, and whether anything is referred to."""
    found: defaultdict[str, list[Any]] = defaultdict(list)
    has_references = False
    rest = [schema]
    while rest:
        node = rest.pop()
        if isinstance(node, dict):
            has_references = has_references or "$ref" in node
            for place in _PLACES:
                named = node.get(place)
                for name, target in named.items() if isinstance(named, dict) else ():
                    found[name].append(target)
            rest.extend(node.values())
        elif isinstance(node, list):
            rest.extend(node)
    return found, has_references


def _grow(schema: Any, definitions: _Definitions, room: int) -> int:
    """Return how many nodes references add, or more than `room` as soon as it is more."""
    added = 0
    rest: list[tuple[Any, tuple[str, ...]]] = [(schema, ())]
    while rest and added <= room:
        node, chain = rest.pop()
        if chain:
            added += 1 + (len(node) // _CHARACTERS if isinstance(node, str) else 0)
        if isinstance(node, list):
            rest.extend((inner, chain) for inner in node)
        elif isinstance(node, dict):
            name = _named(node)
            if name is None:
                rest.extend((inner, chain) for inner in node.values())
            elif name not in chain:  # a circle is not followed again
                rest.extend((target, (*chain, name)) for target in definitions.get(name, ()))
        if len(chain) > MAX_CHAIN:
            return room + 1
    return added


def _named(node: Mapping[str, Any]) -> str | None:
    reference = node.get("$ref")
    return reference.rpartition("/")[2] if isinstance(reference, str) else None
