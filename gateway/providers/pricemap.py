"""What litellm's bundled price map says of a model, for models that no preset describes.

The file is read where it lies; the library itself is not imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError

from gateway.providers.availability import why_unavailable
from gateway.providers.settings import ModelFacts

_FILE = "model_prices_and_context_window_backup.json"
_KEPT = (
    "deprecation_date",
    "input_cost_per_token",
    "litellm_provider",
    "max_input_tokens",
    "max_output_tokens",
    "output_cost_per_token",
    "supports_mid_conversation_system",
    "supports_sampling_params",
)
_SAMPLING = ("temperature", "top_p", "top_k")
_MILLION = 1_000_000


def look_up(prefix: str, model: str) -> ModelFacts | None:
    """Return the facts of a model of the provider that litellm calls `prefix`; None without litellm or such a model."""
    entry = _entry(prefix, model)
    return _facts(entry) if entry else None


def _entry(prefix: str, model: str) -> Mapping[str, Any]:
    known = _read()
    entry = known.get(f"{prefix}/{model}", {})
    if not entry and str(known.get(model, {}).get("litellm_provider", "")).startswith(prefix):
        entry = known[model]  # some are listed without their provider; others' models of that name are no news
    return entry


def takes_late_instructions(prefix: str, model: str) -> bool:
    """Tell whether a model knows instructions that come after the first words of a conversation."""
    return _entry(prefix, model).get("supports_mid_conversation_system") is True


def lists(prefix: str) -> bool:
    """Tell whether the map has models of a provider at all."""
    return any(
        name.startswith(f"{prefix}/") or str(entry.get("litellm_provider", "")).startswith(prefix)
        for name, entry in _read().items()
    )


@cache
def _read() -> Mapping[str, Mapping[str, Any]]:
    """Return what is asked for of each model; the rest of the map would be ten megabytes in every process."""
    return {name: {field: entry[field] for field in _KEPT if field in entry} for name, entry in _load().items()}


def _load() -> Mapping[str, Mapping[str, Any]]:
    spec = None if why_unavailable() else find_spec("litellm")
    if spec is None or spec.origin is None:
        return {}
    try:
        found = orjson.loads((Path(spec.origin).parent / _FILE).read_bytes())
    except (OSError, orjson.JSONDecodeError):  # another release may keep it elsewhere; facts are a convenience
        return {}
    return {name: entry for name, entry in found.items() if isinstance(entry, dict)} if isinstance(found, dict) else {}


def _facts(entry: Mapping[str, Any]) -> ModelFacts | None:
    refuses = _SAMPLING if entry.get("supports_sampling_params") is False else ()
    try:
        return ModelFacts(
            context_window=entry.get("max_input_tokens"),
            max_output_tokens=entry.get("max_output_tokens"),
            input_usd=_per_million(entry.get("input_cost_per_token")),
            output_usd=_per_million(entry.get("output_cost_per_token")),
            retires=entry.get("deprecation_date"),
            refuses=refuses,
        )
    except ValidationError:  # the map is other people's, and holds examples and slips
        return None


def _per_million(usd: object) -> float | None:
    return round(usd * _MILLION, 6) if isinstance(usd, int | float) else None
