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
_SAMPLING = ("temperature", "top_p", "top_k")
_MILLION = 1_000_000


def look_up(prefix: str, model: str) -> ModelFacts | None:
    """Return the facts of a model of the provider that litellm calls `prefix`; None without litellm or such a model."""
    known = _read()
    entry = known.get(f"{prefix}/{model}")
    if entry is None and str(known.get(model, {}).get("litellm_provider", "")).startswith(prefix):
        entry = known[model]  # some are listed without their provider; others' models of that name are no news
    return None if entry is None else _facts(entry)


@cache
def _read() -> Mapping[str, Mapping[str, Any]]:
    spec = None if why_unavailable() else find_spec("litellm")
    if spec is None or spec.origin is None:
        return {}
    try:
        found = orjson.loads((Path(spec.origin).parent / _FILE).read_bytes())
    except (OSError, orjson.JSONDecodeError):  # another release may keep it elsewhere; facts are a convenience
        return {}
    return found if isinstance(found, dict) else {}


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
