"""What pydantic found wrong, told as mistakes: the place, what was expected, and the nearest known word."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gateway.config.document import NAME_EXPECTED, Document
from gateway.config.tree import Place, Tree, nearest, spell

_KEY = "[key]"
_LONGEST_WORD = 20  # no key that the file may have is much longer


def blame_all(tree: Tree, error: ValidationError) -> None:
    """Note every error of validating the tree's root as a Document."""
    shapes = Shapes(Document.model_json_schema())
    details = error.errors(include_url=False)
    misspelt = {
        (*place[:-1], *_near(place, shapes.at(tree, place[:-1])))
        for detail in details
        if detail["type"] == "extra_forbidden" and (place := _place_of(detail["loc"]))
    }
    for detail in details:
        place = _place_of(detail["loc"])
        if tree.is_broken(place) or _follows(tree, place, detail["type"], misspelt):
            continue
        word = _WORDS.get(detail["type"], _expected)
        tree.blame(
            place, word(tree, place, shapes, detail), spelled=_masked(place, shapes.at(tree, place[:-1]), detail)
        )
    _blame_booleans(tree, (), tree.root, shapes)


def blame_swallowed(tree: Tree, document: Document) -> None:
    """Note each true and false that became a number of `document`: pydantic takes them for 1 and 0."""
    if _swallows(tree.root, document):
        _blame_booleans(tree, (), tree.root, Shapes(Document.model_json_schema()))


def _swallows(raw: object, valid: object) -> bool:
    if isinstance(raw, bool):
        return isinstance(valid, int | float) and not isinstance(valid, bool)
    if isinstance(raw, list):
        return isinstance(valid, tuple) and any(map(_swallows, raw, valid))
    if not isinstance(raw, dict):
        return False
    inner = valid if isinstance(valid, dict) else vars(valid) if isinstance(valid, BaseModel) else {}
    return any(_swallows(value, inner.get(key)) for key, value in raw.items())


def _blame_booleans(tree: Tree, place: Place, value: object, shapes: Shapes) -> None:
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in steps:
        _blame_booleans(tree, (*place, step), inner, shapes)
    if isinstance(value, bool) and (shape := shapes.at(tree, place)).get("type") in ("integer", "number"):
        tree.blame(place, f"expected {describe(shape)}, got {tree.show(place)}")


def _follows(tree: Tree, place: Place, kind: str, misspelt: set[Place]) -> bool:
    """Tell whether this error only follows from another: its key is misspelt, or items of the list are wrong."""
    return (kind == "missing" and place in misspelt) or (kind == "too_short" and bool(tree.at(place)))


class Shapes:
    """The JSON Schema of the file, by place."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._root = schema
        self._definitions: dict[str, Any] = schema.get("$defs", {})

    def at(self, tree: Tree, place: Place) -> dict[str, Any]:
        """Return the schema of what may stand at `place`; an empty one if that is not known."""
        shape = self._plain(self._root, tree, ())
        for index, step in enumerate(place):
            inner = shape.get("items") if isinstance(step, int) else _of_key(shape, step)
            shape = self._plain(inner if isinstance(inner, dict) else {}, tree, place[: index + 1])
        return shape

    def _plain(self, shape: dict[str, Any], tree: Tree, place: Place) -> dict[str, Any]:
        if "oneOf" in shape:
            kind = str(tree.at((*place, "kind")))
            reference = shape["discriminator"]["mapping"].get(kind)
            shape = {"$ref": reference} if reference else {"type": "object"}
        for choice in shape.get("anyOf", ()):
            if choice.get("type") != "null":
                shape = choice
                break
        if "$ref" in shape:
            return dict(self._definitions.get(shape["$ref"].removeprefix("#/$defs/"), {}))
        return shape


def _of_key(shape: dict[str, Any], key: str) -> object:
    named = shape.get("properties", {}).get(key)
    return named or next(iter(shape.get("patternProperties", {}).values()), shape.get("additionalProperties"))


def describe(shape: dict[str, Any]) -> str:
    """Say in words what a JSON Schema allows."""
    if "enum" in shape:
        return f"one of: {', '.join(map(str, shape['enum']))}"
    if "const" in shape:
        return f"one of: {shape['const']}"
    name = {
        "array": "a list",
        "boolean": "true or false",
        "integer": "an integer",
        "number": "a number",
        "object": "a mapping",
        "string": "a string",
    }.get(shape.get("type", ""), "another value")
    return name + _bounds(shape)


def _bounds(shape: dict[str, Any]) -> str:
    least, most, above = shape.get("minimum"), shape.get("maximum"), shape.get("exclusiveMinimum")
    if least is not None and most is not None:
        return f" from {least:g} to {most:.0f}"
    low = f" from {least:g}" if least is not None else f" above {above:g}" if above is not None else ""
    return low + (f" up to {most:.0f}" if most is not None else "")


def _place_of(loc: tuple[str | int, ...]) -> Place:
    """Leave out what pydantic adds to a place: the kind within a provider, and the mark of a bad key."""
    steps = [step for step in loc if step != _KEY]
    if steps[0] == "providers" and len(steps) > 2:
        del steps[2]
    return tuple(steps)


def _expected(tree: Tree, place: Place, shapes: Shapes, detail: ErrorDetails) -> str:
    shape = shapes.at(tree, place)
    if detail["loc"][-1] == _KEY:
        around = shapes.at(tree, place[:-1]).get("propertyNames", {})
        if "enum" in around:
            return f"unknown key; {nearest(place[-1], around['enum'])}"
        return NAME_EXPECTED + (":/@+" if place[0] == "models" else "")
    value = tree.at(place)
    if isinstance(value, str) and shape.get("type") in ("object", "array"):
        return f"expected {describe(shape)}, got a string"  # which may be a secret in the wrong place
    near = nearest(value, shape["enum"]) if isinstance(value, str) and "enum" in shape else ""
    hint = f"; {near}" if near.startswith("did you mean") and place not in tree.unfilled else ""
    quotes = " (write it in quotes)" if shape.get("type") == "string" and isinstance(value, int | float) else ""
    return f"expected {describe(shape)}, got {tree.show(place)}{quotes}{hint}"


def _masked(place: Place, around: dict[str, Any], detail: ErrorDetails) -> str | None:
    """Spell the place of an unknown key without the key where that may be a secret that slipped to the left."""
    known = [*around.get("properties", {}), *around.get("propertyNames", {}).get("enum", ())]
    is_unknown = detail["type"] == "extra_forbidden" or (detail["loc"][-1] == _KEY and place[0] == "providers")
    key = str(place[-1]) if place else ""
    if not is_unknown or difflib.get_close_matches(key[:100], known, n=1):
        return None
    if len(key) <= _LONGEST_WORD and not any(sign.isdigit() for sign in key):
        return None
    return ".".join([word for word in (spell(place[:-1]), "…") if word])


def _near(place: Place, around: dict[str, Any]) -> list[str]:
    return difflib.get_close_matches(str(place[-1]), around.get("properties", {}), n=1)


def _unknown_key(tree: Tree, place: Place, shapes: Shapes, _: ErrorDetails) -> str:
    return f"unknown key; {nearest(place[-1], shapes.at(tree, place[:-1]).get('properties', {}))}"


def _missing(tree: Tree, place: Place, shapes: Shapes, _: ErrorDetails) -> str:
    return f"is missing; expected {describe(shapes.at(tree, place))}"


def _empty(tree: Tree, place: Place, shapes: Shapes, _: ErrorDetails) -> str:
    named = f" ({tree.unfilled[place]})" if place in tree.unfilled else ""
    return f"must not be empty{named}"


def _own_words(tree: Tree, place: Place, shapes: Shapes, detail: ErrorDetails) -> str:
    return str(detail.get("ctx", {}).get("error", "not a usable value"))


_WORDS: dict[str, Callable[[Tree, Place, Shapes, ErrorDetails], str]] = {
    "extra_forbidden": _unknown_key,
    "missing": _missing,
    "string_too_short": _empty,
    "too_short": _empty,
    "value_error": _own_words,
}
