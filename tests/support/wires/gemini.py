"""Gemini's wire, `POST /v1beta/models/{model}:generateContent` and `:streamGenerateContent?alt=sse`.

Written from its reference: parts of text, thought and functionCall, candidates, usageMetadata, google.rpc errors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qs

# ruff: noqa: TID252  # mypy takes tests/support for a top-level folder, so its packages name each other like this
from ..upstream import Answer, SeenRequest, Step, encode_event
from .base import Asked, break_step, check_common, event_answer, json_answer
from .scenes import Failure, Kind, Scene

_PATH = re.compile(r"/v1beta/models/([^/:]+):(generateContent|streamGenerateContent)")
_FIELDS = frozenset(
    (
        *("contents", "tools", "toolConfig", "safetySettings", "systemInstruction", "generationConfig"),
        *("cachedContent", "serviceTier", "store", "labels"),
    )
)
_PARTS = frozenset({"text", "inlineData", "fileData", "functionCall", "functionResponse"})
_STOPS = MappingProxyType({"stop": "STOP", "length": "MAX_TOKENS", "calls": "STOP", "filter": "SAFETY"})
_FAILURES: Mapping[Kind, tuple[int, str, str]] = MappingProxyType(
    {
        "bad request": (400, "INVALID_ARGUMENT", "temperature: must be in the range [0.0, 2.0]"),
        "context too long": (
            400,
            "INVALID_ARGUMENT",
            "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
        ),
        "refused key": (400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key."),
        "unknown model": (
            404,
            "NOT_FOUND",
            "models/{model} is not found for API version v1beta, or is not supported for generateContent.",
        ),
        "request too large": (400, "INVALID_ARGUMENT", "Request payload size exceeds the limit: 20971520 bytes."),
        "rate limited": (429, "RESOURCE_EXHAUSTED", "You exceeded your current quota."),
        "server error": (500, "INTERNAL", "An internal error has occurred."),
        "overloaded": (503, "UNAVAILABLE", "The model is overloaded. Please try again later."),
    }
)


class Gemini:
    name = "gemini"
    model = "gemini-2.5-flash"
    root = "/v1beta"

    def find_mistakes(self, request: SeenRequest) -> Iterator[str]:
        asked_key = (parse_qs(request.query).get("key") or [""])[0]
        yield from check_common(request, request.headers.get("x-goog-api-key", asked_key))
        if _PATH.fullmatch(request.path) is None:
            yield f"the path is {request.path}"
        elif _is_stream(request) and parse_qs(request.query).get("alt") != ["sse"]:
            yield f"a stream is asked for without alt=sse: {request.query!r}"
        fields = {_camel(name): value for name, value in request.fields.items()}
        yield from (f'Unknown name "{name}": Cannot find field.' for name in sorted(fields.keys() - _FIELDS))
        contents = fields.get("contents") or []
        if not contents:
            yield "contents is not specified"
        for place, content in enumerate(contents):
            if content.get("role") not in ("user", "model", "function"):
                yield f"contents[{place}].role is {content.get('role')!r}"
            yield from _find_part_mistakes(f"contents[{place}]", content.get("parts") or [])
            answered = contents[place + 1] if place + 1 < len(contents) else {}
            if _names(content, "functionCall") != _names(answered, "functionResponse"):
                yield "the function response parts must be equal to the function call parts of the function call turn"
        if "systemInstruction" in fields:
            yield from _find_part_mistakes("systemInstruction", fields["systemInstruction"].get("parts") or [])

    def read(self, request: SeenRequest) -> Asked:
        fields = {_camel(name): value for name, value in request.fields.items()}
        parts = [_camel_keys(part) for content in fields["contents"] for part in content["parts"]]
        pictures = [_camel_keys(part["inlineData"]) for part in parts if "inlineData" in part]
        settings = _camel_keys(fields.get("generationConfig") or {})
        declared = [
            function for tool in fields.get("tools") or [] for function in _camel_keys(tool)["functionDeclarations"]
        ]
        return Asked(
            model=_model(request),
            stream=_is_stream(request),
            system="".join(part["text"] for part in (fields.get("systemInstruction") or {}).get("parts", [])),
            text="".join(part["text"] for part in parts if "text" in part),
            images=tuple((picture["mimeType"], picture["data"]) for picture in pictures),
            tools=tuple(function["name"] for function in declared),
            max_tokens=settings.get("maxOutputTokens"),
            temperature=settings.get("temperature"),
        )

    def refuse(self, failure: Failure, request: SeenRequest) -> Answer:
        code, status, sentence = _FAILURES[failure.kind]
        error: dict[str, Any] = {
            "code": code,
            "message": failure.message or sentence.format(model=_model(request)),
            "status": status,
        }
        if failure.kind == "refused key":
            about = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
            error["details"] = [{**about, "domain": "googleapis.com"}]
        if failure.retry_after is not None:  # said in the body alone, without a header
            error["details"] = [
                {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{failure.retry_after}s"}
            ]
        return json_answer({"error": error}, code)

    def perform(self, scene: Scene, request: SeenRequest) -> Answer:
        if _is_stream(request):
            return event_answer(_stream(scene, request))
        return json_answer(_piece(scene, request, _parts(scene), _STOPS[scene.why]))


def _camel(name: str) -> str:
    """Return the name as the reference spells it: the upstream takes snake_case as well."""
    return re.sub(r"_([a-z])", lambda found: found[1].upper(), name)


def _camel_keys(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {_camel(name): value for name, value in fields.items()}


def _is_stream(request: SeenRequest) -> bool:
    return request.path.endswith(":streamGenerateContent")


def _model(request: SeenRequest) -> str:
    found = _PATH.fullmatch(request.path)
    return "" if found is None else found[1]


def _find_part_mistakes(place: str, parts: list[dict[str, Any]]) -> Iterator[str]:
    if not parts:
        yield f"{place}.parts must not be empty"
    for part in parts:
        if len(_camel_keys(part).keys() & _PARTS) != 1:
            yield f"{place}.parts: must have one initialized field: {sorted(part)}"


def _names(content: Mapping[str, Any], kind: str) -> list[str]:
    return [part[kind]["name"] for part in map(_camel_keys, content.get("parts") or []) if kind in part]


def _parts(scene: Scene) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    if scene.thoughts:
        parts.append({"text": "".join(scene.thoughts), "thought": True})
    if scene.pieces:
        parts.append({"text": scene.text})
    return parts + _call_parts(scene)


def _call_parts(scene: Scene) -> list[dict[str, Any]]:
    return [{"functionCall": {"name": call.name, "args": dict(call.arguments)}} for call in scene.calls]


def _piece(scene: Scene, request: SeenRequest, parts: list[dict[str, Any]], stop: str = "") -> dict[str, Any]:
    """Return one answer, or one event of a stream; `stop` "" is left out."""
    candidate: dict[str, Any] = {"index": 0}
    if parts:  # a candidate that was filtered has no content at all
        candidate["content"] = {"role": "model", "parts": parts}
    if stop:
        candidate["finishReason"] = stop
    return {
        "candidates": [candidate],
        "usageMetadata": _usage(scene),
        "modelVersion": _model(request),
        "responseId": f"scripted{request.index}",
    }


def _usage(scene: Scene) -> dict[str, Any]:
    tokens = scene.tokens  # thoughts are counted beside the candidates on this wire
    usage: dict[str, Any] = {
        "promptTokenCount": tokens.prompt,
        "candidatesTokenCount": tokens.completion - tokens.reasoning,
        "totalTokenCount": tokens.prompt + tokens.completion,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": tokens.prompt}],
    }
    if tokens.cached:
        usage["cachedContentTokenCount"] = tokens.cached
    if tokens.reasoning:
        usage["thoughtsTokenCount"] = tokens.reasoning
    return usage


def _stream(scene: Scene, request: SeenRequest) -> Iterator[Step]:
    groups = [[{"text": piece, "thought": True}] for piece in scene.thoughts]
    groups += [[{"text": piece}] for piece in scene.played]
    if scene.breaks is not None:
        yield from (encode_event(_piece(scene, request, parts)) for parts in groups)
        broken = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}
        yield break_step(scene.breaks, encode_event(broken))
        return
    if scene.calls:
        groups.append(_call_parts(scene))
    for place, parts in enumerate(groups or [[]]):
        stop = _STOPS[scene.why] if place >= len(groups) - 1 else ""
        yield encode_event(_piece(scene, request, parts, stop))
