"""Anthropic's wire, `POST /v1/messages`: written from its reference, right in every field that clients read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

# ruff: noqa: TID252  # mypy takes tests/support for a top-level folder, so its packages name each other like this
from ..upstream import Answer, SeenRequest, Step, encode
from .base import Asked, break_step, check_common, event_answer, json_answer, slices
from .scenes import Failure, Kind, Scene

_FIELDS = frozenset(
    (
        *("container", "context_management", "inference_geo", "max_tokens", "mcp_servers", "messages", "metadata"),
        *("model", "output_config", "output_format", "service_tier", "stop_sequences", "stream", "system"),
        *("temperature", "thinking", "tool_choice", "tools", "top_k", "top_p"),
    )
)
_BLOCKS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "text": ("text",),
        "image": ("source",),
        "document": ("source",),
        "tool_use": ("id", "name", "input"),
        "tool_result": ("tool_use_id",),
        "thinking": ("thinking", "signature"),
        "redacted_thinking": ("data",),
    }
)
_STOPS = MappingProxyType({"stop": "end_turn", "length": "max_tokens", "calls": "tool_use", "filter": "refusal"})
_FAILURES: Mapping[Kind, tuple[int, str, str]] = MappingProxyType(
    {
        "bad request": (400, "invalid_request_error", "temperature: range: 0..1"),
        "context too long": (400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
        "refused key": (401, "authentication_error", "invalid x-api-key"),
        "unknown model": (404, "not_found_error", "model: {model}"),
        "request too large": (413, "request_too_large", "Request exceeds the maximum size"),
        "rate limited": (429, "rate_limit_error", "This request would exceed your organization's rate limit."),
        "server error": (500, "api_error", "Internal server error"),
        "overloaded": (529, "overloaded_error", "Overloaded"),
    }
)


class Anthropic:
    name = "anthropic"
    model = "claude-sonnet-4-5"
    root = ""

    def find_mistakes(self, request: SeenRequest) -> Iterator[str]:
        yield from check_common(request, request.headers.get("x-api-key"))
        if request.path != "/v1/messages":
            yield f"the path is {request.path}"
        if not request.headers.get("anthropic-version"):
            yield "anthropic-version: header is required"
        fields = request.fields
        yield from (f"{name}: Field required" for name in ("model", "max_tokens", "messages") if name not in fields)
        yield from (f"{name}: Extra inputs are not permitted" for name in sorted(fields.keys() - _FIELDS))
        if type(fields.get("max_tokens")) is not int or fields["max_tokens"] < 1:
            yield "max_tokens: Input should be greater than or equal to 1"
        thinking = fields.get("thinking") or {}
        if thinking.get("type") == "enabled" and not 1024 <= thinking["budget_tokens"] < fields["max_tokens"]:
            yield "max_tokens: must be greater than thinking.budget_tokens, which is at least 1024"
        yield from _find_message_mistakes(fields.get("messages") or [])
        for tool in fields.get("tools") or []:
            if tool.get("type") in (None, "custom") and tool.get("input_schema", {}).get("type") != "object":
                yield f"tools.{tool.get('name')}.input_schema: must be an object"

    def read(self, request: SeenRequest) -> Asked:
        fields = request.fields
        blocks = [block for message in fields["messages"] for block in _blocks(message["content"])]
        sources = [block["source"] for block in blocks if block["type"] == "image"]
        return Asked(
            model=fields["model"],
            stream=fields.get("stream") is True,
            system="".join(block["text"] for block in _blocks(fields.get("system") or "")),
            text="".join(block["text"] for block in blocks if block["type"] == "text"),
            images=tuple((source["media_type"], source["data"]) for source in sources),
            tools=tuple(tool["name"] for tool in fields.get("tools") or []),
            max_tokens=fields["max_tokens"],
            temperature=fields.get("temperature"),
        )

    def refuse(self, failure: Failure, request: SeenRequest) -> Answer:
        status, kind, sentence = _FAILURES[failure.kind]
        message = failure.message or sentence.format(model=request.model)
        return json_answer(_error(kind, message), status, failure.retry_after)

    def perform(self, scene: Scene, request: SeenRequest) -> Answer:
        forced = _forced_tool(request.fields)
        if request.stream:
            return event_answer(_stream(scene, request, forced))
        content: list[dict[str, Any]] = []
        if scene.thoughts:
            content.append({"type": "thinking", "thinking": "".join(scene.thoughts), "signature": "c2lnbmVk"})
        if scene.pieces:
            content.append(_forced_call(forced, scene) if forced else {"type": "text", "text": scene.text})
        content += [
            {"type": "tool_use", "id": call.id, "name": call.name, "input": dict(call.arguments)}
            for call in scene.calls
        ]
        return json_answer(
            _message(scene, request) | {"content": content, "stop_reason": _stop(scene, forced), "usage": _usage(scene)}
        )


def _error(kind: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_scripted"}


def _blocks(content: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def _find_message_mistakes(messages: list[dict[str, Any]]) -> Iterator[str]:
    if not messages:
        yield "messages: at least one message is required"
    for place, message in enumerate(messages):
        if message.get("role") not in ("user", "assistant"):
            yield f"messages.{place}.role: is {message.get('role')!r}"
        blocks = _blocks(message.get("content") or [])
        if not blocks:
            yield f"messages.{place}.content: is empty"
        for block in blocks:
            missing = [name for name in _BLOCKS.get(block.get("type", ""), ("a known type",)) if name not in block]
            if missing:
                yield f"messages.{place}.content: {block.get('type')!r} is missing {missing}"
            if block.get("type") == "text" and not block.get("text"):
                yield f"messages.{place}: text content blocks must be non-empty"
    for place, message in enumerate(messages):
        called = _ids(message, "tool_use", "id")
        if called != _ids(messages[place + 1] if place + 1 < len(messages) else {}, "tool_result", "tool_use_id"):
            yield f"messages.{place}: `tool_use` ids need `tool_result` blocks immediately after: {sorted(called)}"


def _ids(message: Mapping[str, Any], kind: str, name: str) -> set[str]:
    return {block[name] for block in _blocks(message.get("content") or []) if block.get("type") == kind}


def _forced_tool(fields: Mapping[str, Any]) -> str:
    """Return the tool that must be called, "" without one: how answers by a schema are had from older models."""
    choice = fields.get("tool_choice") or {}
    return str(choice.get("name", "")) if choice.get("type") == "tool" else ""


def _forced_call(name: str, scene: Scene) -> dict[str, Any]:
    return {"type": "tool_use", "id": "toolu_forced", "name": name, "input": json.loads(scene.text)}


def _stop(scene: Scene, forced: str) -> str:
    return "tool_use" if forced and scene.why == "stop" else _STOPS[scene.why]


def _message(scene: Scene, request: SeenRequest) -> dict[str, Any]:
    return {
        "id": f"msg_scripted{request.index}",
        "type": "message",
        "role": "assistant",
        "model": request.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def _usage(scene: Scene) -> dict[str, Any]:
    tokens = scene.tokens  # what was read from the cache is not among the input tokens on this wire
    return {
        "input_tokens": tokens.prompt - tokens.cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": tokens.cached,
        "output_tokens": tokens.completion,
        "service_tier": "standard",
    }


def _event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: ".encode() + encode({"type": kind, **fields}) + b"\n\n"


def _stream(scene: Scene, request: SeenRequest, forced: str) -> Iterator[Step]:
    begun = _message(scene, request) | {"usage": _usage(scene) | {"output_tokens": 1}}
    yield _event("message_start", message=begun)
    yield _event("ping")
    for place, (start, deltas) in enumerate(_stream_blocks(scene, forced)):
        yield _event("content_block_start", index=place, content_block=start)
        yield from (_event("content_block_delta", index=place, delta=delta) for delta in deltas)
        if scene.breaks is not None and start["type"] != "thinking":
            broken = _event("error", error={"type": "overloaded_error", "message": "Overloaded"})
            yield break_step(scene.breaks, broken)
            return
        yield _event("content_block_stop", index=place)
    delta = {"stop_reason": _stop(scene, forced), "stop_sequence": None}
    yield _event("message_delta", delta=delta, usage={"output_tokens": scene.tokens.completion})
    yield _event("message_stop")


def _stream_blocks(scene: Scene, forced: str) -> Iterator[tuple[dict[str, Any], Iterable[dict[str, Any]]]]:
    """Give each block's start with its deltas."""
    if scene.thoughts:
        thoughts = [{"type": "thinking_delta", "thinking": piece} for piece in scene.thoughts]
        signed = {"type": "signature_delta", "signature": "c2lnbmVk"}
        yield {"type": "thinking", "thinking": "", "signature": ""}, [*thoughts, signed]
    if forced and scene.pieces:
        yield _forced_call(forced, scene) | {"input": {}}, _json_deltas(scene.text)
    elif scene.pieces:
        yield {"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in scene.played]
    for call in scene.calls:
        yield {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}, _json_deltas(call.text)


def _json_deltas(text: str) -> list[dict[str, Any]]:
    return [{"type": "input_json_delta", "partial_json": piece} for piece in ("", *slices(text))]
