"""Sections whose shape is settled while this version does not act on them, and the warnings that say so.

What a section means will live in the room that acts on it, and its models move there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from gateway.config.tree import Place, Tree, spell

NO_EFFECT = "Not enforced by this version"


class AcceptedSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StoreSettings(AcceptedSettings):
    url: Annotated[
        SecretStr | None,
        Field(description=f"Default: sqlite in the data directory; postgresql://… for a fleet. {NO_EFFECT}."),
    ] = None


def warn(document: BaseModel, tree: Tree) -> list[str]:
    """Return one line for each thing the file asks for that this version does not do."""
    lines = sorted({(tree.line(place), spell(place)) for place in _without_effect(document, ())})
    return [f"{tree.file}:{line}: {path}: accepted, has no effect in this version" for line, path in lines]


def _without_effect(value: object, place: Place) -> Iterator[Place]:
    if isinstance(value, BaseModel):
        for name in value.model_fields_set:
            yield from _of_field(value, name, (*place, name))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _without_effect(item, (*place, key))
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _without_effect(item, (*place, index))


def _of_field(model: BaseModel, name: str, place: Place) -> Iterator[Place]:
    value = getattr(model, name)
    if NO_EFFECT not in (type(model).model_fields[name].description or ""):
        yield from _without_effect(value, place)
    elif value is not None and value != SecretStr(""):
        yield place
