"""Presets: what is known of a provider besides the caller's key, one YAML file for each.

A preset is data. Code that is special to a provider lives in that provider's file, not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from gateway.providers.settings import BaseUrl, ModelClass

ALIASES: Mapping[str, str] = MappingProxyType({"grok": "xai"})

_FOLDER = Path(__file__).parent
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Preset(BaseModel):
    """One provider as shipped; `checked` is the day on which its endpoint and model names were last compared."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_url: BaseUrl
    env: Annotated[str | None, Field(pattern=r"^[A-Z][A-Z0-9_]*$")] = None
    needs_key: bool
    checked: date
    classes: dict[ModelClass, Annotated[str, Field(min_length=1)]]
    settings: dict[str, JsonValue] = {}
    streams_usage: bool = True


def preset_names() -> tuple[str, ...]:
    """Return the name of every preset and alias, sorted."""
    return tuple(sorted([*(file.stem for file in _FOLDER.glob("*.yaml")), *ALIASES]))


def read_preset(name: str) -> Preset | None:
    """Return the preset of that name or alias, None if there is none. Only the file asked for is read."""
    if name not in preset_names():
        return None
    text = (_FOLDER / f"{ALIASES.get(name, name)}.yaml").read_bytes()
    return Preset.model_validate(yaml.load(text, Loader=_LOADER))  # noqa: S506  # a safe loader, and our own file
