"""Presets: what is known of a provider besides the caller's key, one YAML file for each.

A preset is data. Code that is special to a provider lives in that provider's file, not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from gateway.mistakes import ConfigError, Mistake
from gateway.providers.settings import BaseUrl, BatchInputs, BatchTokens, ModelClass, ModelFacts, TokenField

ALIASES: Mapping[str, str] = MappingProxyType(
    {"gemini": "google", "grok": "xai", "llamacloud": "together", "vertex": "claude_vertex"}
)

_FOLDER = Path(__file__).parent
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Variable = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")]


class Preset(BaseModel):
    """One provider as shipped; `checked` is the day on which its endpoint and model names were last compared.

    `wire` says how it is spoken to: `openai` directly, `litellm` through that library by the name `prefix`, `llamacpp`
    in processes of its own. `env` names the variable of the key, `base_url_env` that of the endpoint and `options` those
    of what else is needed; `base_path` is put behind an endpoint that is only a host. The provider is off without its key where `needs_key`, and without the field that `needs`
    names. Prices of `models` are US dollars for a million tokens; other models are looked up in litellm's price map under
    `price_map`. The limits are those of class models of which nothing else is known, but those of a batch hold for each
    request for embeddings.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    wire: Literal["openai", "litellm", "llamacpp"] = "openai"
    prefix: str | None = None
    base_url: BaseUrl | None = None
    base_url_env: Variable | None = None
    base_path: Annotated[str | None, Field(pattern=r"^(/[a-z0-9]+)+$")] = None
    env: Variable | None = None
    options: dict[str, Variable] = {}
    needs: str | None = None
    needs_key: bool
    checked: date
    classes: dict[ModelClass, Annotated[str, Field(min_length=1)]]
    models: dict[str, ModelFacts] = {}
    settings: dict[str, JsonValue] = {}
    image_settings: dict[str, JsonValue] = {}
    max_input_tokens: Annotated[int | None, Field(ge=1)] = None
    max_output_tokens: Annotated[int | None, Field(ge=1)] = None
    refuses: tuple[str, ...] = ()
    streams_usage: bool = True
    embeds_base64: bool = True
    max_batch_inputs: BatchInputs = None
    max_batch_tokens: BatchTokens = None
    token_field: TokenField | None = None
    price_map: str | None = None

    @model_validator(mode="after")
    def _check_wire(self) -> Self:
        if self.wire == "openai" and self.base_url is None and self.needs != "base_url":
            raise ValueError("a preset of the OpenAI wire needs a base_url")
        if (self.wire == "litellm") != (self.prefix is not None):
            raise ValueError("a prefix goes with the wire litellm, and only with it")
        if self.needs is not None and self.needs != "base_url" and self.needs not in self.options:
            raise ValueError("what a preset needs is its base_url or one of its options")
        return self

    def limits(self) -> dict[str, int]:
        """Return what is known of a class model of which nothing else is."""
        found = {"context_window": self.max_input_tokens, "max_output_tokens": self.max_output_tokens}
        return {name: limit for name, limit in found.items() if limit is not None}

    def fields(self) -> dict[str, object]:
        """Return what the preset gives to a provider's entry, as plain values; empty ones are left out."""
        names = ["settings"]
        if self.wire == "llamacpp":
            names += ["max_input_tokens", "max_output_tokens"]
        else:
            names += ["base_url", "classes", "models", "image_settings", "refuses", "price_map"]
            names += ["max_batch_inputs", "max_batch_tokens"]
        names += {"openai": ["streams_usage", "embeds_base64", "token_field"], "litellm": ["prefix"], "llamacpp": []}[
            self.wire
        ]
        plain = self.model_dump(mode="json", include=set(names), exclude_defaults=True)
        return {name: plain[name] for name in names if name in plain}


@cache
def preset_names() -> tuple[str, ...]:
    """Return the name of every preset and alias, sorted."""
    return tuple(sorted([*(file.stem for file in _FOLDER.glob("*.yaml")), *ALIASES]))


@cache
def read_preset(name: str) -> Preset | None:
    """Return the preset of that name or alias, None if there is none. Only the file asked for is read."""
    if name not in preset_names():
        return None
    return parse_preset(_FOLDER / f"{ALIASES.get(name, name)}.yaml")


def parse_preset(file: Path) -> Preset:
    """Return the preset in a file; raises ConfigError with file, line and path of everything that is wrong in it."""
    try:
        root = yaml.compose(file.read_bytes(), Loader=_LOADER)
        return Preset.model_validate(yaml.load(file.read_bytes(), Loader=_LOADER))  # noqa: S506  # a safe loader
    except ValidationError as error:
        raise ConfigError(
            [
                Mistake(str(file), _line_of(root, found["loc"]), ".".join(map(str, found["loc"])), found["msg"])
                for found in error.errors(include_url=False)
            ]
        ) from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: no UTF-8, or a day that no month has
        mark = getattr(error, "problem_mark", None)
        said = getattr(error, "problem", None) or str(error)
        raise ConfigError([Mistake(str(file), mark.line + 1 if mark else 0, "", f"not valid YAML: {said}")]) from error


def _line_of(node: yaml.Node | None, path: tuple[int | str, ...]) -> int:
    """Return the line on which a place begins, or what surrounds it."""
    line = 0
    for step in path:
        if not isinstance(node, yaml.MappingNode):
            break
        for key, value in node.value:
            if key.value == step:
                line, node = key.start_mark.line + 1, value
    return line
