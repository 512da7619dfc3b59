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
_DISPATCH = "_responses_try_dispatch_mcp_gateway"
_CITE = "_convert_grounding_metadata_to_annotations"
_DECLARE = "_map_function"
_SCHEMA = "parametersJsonSchema"  # beside it there may be no `parameters`
_TAUGHT = "__wrapped__"  # as `wraps` leaves it


def teach() -> None:
    """Tell litellm why Anthropic's answers end, and that Google leaves out empty arguments and the place nought.

    And that Google reads JSON Schema, of which its own form has no half; and that no tools are of its own proxy server, whose code is not installed.
    """
    known = getattr(import_module("litellm.litellm_core_utils.core_helpers"), "_FINISH_REASON_MAP", None)
    if isinstance(known, dict):
        for told, meant in _FINISHES.items():
            known.setdefault(told, meant)
    google = import_module("litellm.llms.vertex_ai.gemini.vertex_and_google_ai_studio_gemini").VertexGeminiConfig
    read = getattr(google, "_transform_parts", None)
    if read is not None and not hasattr(read, _TAUGHT):
        google._transform_parts = staticmethod(_with_arguments(read))
    cite = getattr(google, _CITE, None)
    if cite is not None and not hasattr(cite, _TAUGHT):
        setattr(google, _CITE, staticmethod(_with_places(cite)))
    declare = getattr(google, _DECLARE, None)
    if declare is not None and not hasattr(declare, _TAUGHT):
        setattr(google, _DECLARE, _with_schemas(declare))
    responses = import_module("litellm.responses.main")
    if hasattr(responses, _DISPATCH):
        setattr(responses, _DISPATCH, _take_nothing)


def _take_nothing(*_: Any, **__: Any) -> None:
    """Stand in for what would look at the tools of a call to OpenAI's Responses API."""


def _with_arguments(read: Any) -> Any:
    @wraps(read)
    def read_all(parts: Any, *more: Any, **named: Any) -> Any:
        for part in parts:
            call = part.get("functionCall")
            if isinstance(call, dict) and call.get("args") is None:
                call["args"] = {}
        return read(parts, *more, **named)

    return read_all


def _with_schemas(declare: Any) -> Any:
    """Have the parameters of functions sent as they are, in the field that Google has for JSON Schema."""

    @wraps(declare)
    def declare_all(self: Any, value: Any, *more: Any, **named: Any) -> Any:
        bare = [_without_parameters(tool) for tool in value]
        told = declare(self, [tool for tool, _, _ in bare], *more, **named)
        schemas = {name: schema for _, name, schema in bare if schema}
        for function in (one for tool in told for one in tool.get("function_declarations") or ()):
            if function["name"] in schemas:
                function[_SCHEMA] = schemas[function["name"]]
        return told

    return declare_all


def _without_parameters(tool: Any) -> tuple[Any, str, Any]:
    """Return a copy of a tool, in either of OpenAI's forms, its function's name and what was taken out of it."""
    function = tool.get("function", tool) if isinstance(tool, dict) else None
    if not isinstance(function, dict):
        return tool, "", None  # which litellm refuses
    rest = {name: value for name, value in function.items() if name != "parameters"}
    bare = {**tool, "function": rest} if "function" in tool else rest
    return bare, function.get("name", ""), function.get("parameters")


def _with_places(cite: Any) -> Any:
    """Have sources named from the text's very beginning too, and all places in characters, which Google counts in bytes."""

    @wraps(cite)
    def cite_all(grounding_metadata: Any, content_text: Any) -> Any:
        text = (content_text or "").encode("utf-8", "replace")
        placed = [
            {**metadata, "groundingSupports": [_placed(each, text) for each in metadata.get("groundingSupports") or ()]}
            for metadata in grounding_metadata
        ]
        return cite(placed, content_text)

    return cite_all


def _placed(support: dict[str, Any], text: bytes) -> dict[str, Any]:
    segment = {"startIndex": 0, **(support.get("segment") or {})}
    places = {name: _in_characters(text, segment.get(name)) for name in ("startIndex", "endIndex")}
    return {**support, "segment": {**segment, **places}}


def _in_characters(text: bytes, place: Any) -> Any:
    """Return a place in `text`; one beyond it is as it was, for the text before a piece of a stream is not known here."""
    if not isinstance(place, int) or place > len(text):
        return place
    return len(text[:place].decode("utf-8", "ignore"))
