"""What upstreams say that litellm has no word for, or fails at: taught to it once, when it is imported.

Only where litellm loses it before our own modules see its answer; the rest is put right in `litellm_reply.py` and
`litellm_chunks.py`. A version of litellm that has other names for these is left as it is, and tests fail.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import wraps
from importlib import import_module
from types import MappingProxyType
from typing import Any

_FINISHES: Mapping[str, str] = MappingProxyType({"model_context_window_exceeded": "length"})
_TAUGHT = "__wrapped__"  # as `wraps` leaves it


def teach() -> None:
    """Tell litellm why Anthropic's answers end, and that Google calls a function of no arguments without any."""
    known = getattr(import_module("litellm.litellm_core_utils.core_helpers"), "_FINISH_REASON_MAP", None)
    if isinstance(known, dict):
        for told, meant in _FINISHES.items():
            known.setdefault(told, meant)
    google = import_module("litellm.llms.vertex_ai.gemini.vertex_and_google_ai_studio_gemini").VertexGeminiConfig
    read = getattr(google, "_transform_parts", None)
    if read is not None and not hasattr(read, _TAUGHT):
        google._transform_parts = staticmethod(_with_arguments(read))


def _with_arguments(read: Any) -> Any:
    @wraps(read)
    def read_all(parts: Any, *more: Any, **named: Any) -> Any:
        for part in parts:
            call = part.get("functionCall")
            if isinstance(call, dict) and call.get("args") is None:
                call["args"] = {}
        return read(parts, *more, **named)

    return read_all
