"""Sections whose shape is settled while this version does not act on them, and the warnings that say so.

What a section means will live in the room that acts on it, and its models move there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from gateway.config.tree import Place, Tree, spell

NO_EFFECT = "Not enforced by this version"

Megabytes = Annotated[int, Field(ge=1, le=1_048_576)]
TtlSeconds = Annotated[int, Field(ge=1, le=315_360_000)]


class AcceptedSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MemoryTierSettings(AcceptedSettings):
    """Embeddings remembered in each process."""

    max_mb: Megabytes = 64
    ttl_seconds: TtlSeconds = 300


class DiskTierSettings(AcceptedSettings):
    """Embeddings remembered in the data directory."""

    max_mb: Megabytes = 2048
    ttl_seconds: TtlSeconds = 2_592_000


class RedisTierSettings(AcceptedSettings):
    """Embeddings remembered in Redis, for all processes and hosts."""

    ttl_seconds: TtlSeconds = 604_800


class CacheSettings(AcceptedSettings):
    """The tiers, each on when it is mentioned."""

    memory: MemoryTierSettings | None = None
    disk: DiskTierSettings | None = None
    redis: RedisTierSettings | None = None


class EmbeddingsSettings(AcceptedSettings):
    cache: Annotated[CacheSettings | None, Field(description=f"Where embeddings are remembered. {NO_EFFECT}.")] = None


class RedisSettings(AcceptedSettings):
    url: Annotated[
        SecretStr, Field(description=f"redis://host:6379/0; shares limits, health and cache. {NO_EFFECT}.")
    ] = SecretStr("")


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
