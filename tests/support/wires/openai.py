"""OpenAI's wire for scenes: an adapter over the scripted OpenAI server's own answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

# ruff: noqa: TID252  # mypy takes tests/support for a top-level folder, so its packages name each other like this
from ..upstream import (
    Answer,
    Chat,
    Cut,
    Ending,
    ErrorEvent,
    Inserted,
    SeenRequest,
    Status,
    ToolCall,
    make_error,
    make_usage,
)
from .base import Asked, check_common, split_data_uri
from .scenes import Break, Failure, Kind, Scene

_STOPS = MappingProxyType({"stop": "stop", "length": "length", "calls": "tool_calls", "filter": "content_filter"})
_FAILURES: Mapping[Kind, tuple[int, str, str | None, str | None, str]] = MappingProxyType(
    {  # status, type, code, param, message
        "bad request": (400, "invalid_request_error", None, "temperature", "Invalid 'temperature': must be at most 2."),
        "context too long": (
            400,
            "invalid_request_error",
            "context_length_exceeded",
            "messages",
            "This model's maximum context length is 128000 tokens. However, your messages resulted in 130000 tokens.",
        ),
        "refused key": (401, "invalid_request_error", "invalid_api_key", None, "Incorrect API key provided."),
        "unknown model": (404, "invalid_request_error", "model_not_found", None, "The model '{model}' does not exist."),
        "request too large": (413, "invalid_request_error", None, None, "Request too large."),
        "rate limited": (429, "requests", "rate_limit_exceeded", None, "Rate limit reached for requests."),
        "server error": (500, "server_error", None, None, "The server had an error processing your request."),
        "overloaded": (503, "service_unavailable_error", None, None, "The engine is currently overloaded."),
    }
)


class OpenAI:
    name = "openai"
    model = "gpt-4o-mini"
    root = "/v1"

    def find_mistakes(self, request: SeenRequest) -> Iterator[str]:
        yield from check_common(request, request.headers.get("Authorization", "").removeprefix("Bearer "))
        if request.path != "/v1/chat/completions":
            yield f"the path is {request.path}"
        yield from (
            f"Missing required parameter: '{name}'." for name in ("model", "messages") if name not in request.fields
        )

    def read(self, request: SeenRequest) -> Asked:
        fields = request.fields
        by_role = {role: [m for m in fields["messages"] if m["role"] == role] for role in ("system", "user")}
        parts = [part for message in by_role["user"] for part in _parts(message["content"])]
        return Asked(
            model=request.model,
            stream=request.stream,
            system="".join(part["text"] for message in by_role["system"] for part in _parts(message["content"])),
            text="".join(part["text"] for part in parts if part["type"] == "text"),
            images=tuple(split_data_uri(part["image_url"]["url"]) for part in parts if part["type"] == "image_url"),
            tools=tuple(tool["function"]["name"] for tool in fields.get("tools") or []),
            max_tokens=fields.get("max_completion_tokens", fields.get("max_tokens")),
            temperature=fields.get("temperature"),
        )

    def refuse(self, failure: Failure, request: SeenRequest) -> Answer:
        status, kind, code, param, sentence = _FAILURES[failure.kind]
        message = failure.message or sentence.format(model=request.model)
        refusal = Status(status, None, failure.retry_after, message, kind, code, param)
        return refusal.answer(request)

    def perform(self, scene: Scene, request: SeenRequest) -> Answer:
        # A filtered answer has a text all the same, an empty one; calls alone have none.
        chat = Chat(
            content=None if scene.calls and not scene.pieces else scene.pieces,
            tool_calls=tuple(ToolCall(call.name, call.text, call.id) for call in scene.calls),
            reasoning="".join(scene.thoughts) or None,
            finish_reason=_STOPS[scene.why],
            usage=_usage(scene),
        )
        if scene.breaks is None or not request.stream:
            return chat.answer(request)
        role_and_pieces = 1 + len(scene.played)
        if scene.breaks is Break.ERROR:
            overloaded = make_error(503, "The engine is currently overloaded.", code="server_is_overloaded")
            return ErrorEvent(role_and_pieces, chat, overloaded).answer(request)
        if scene.breaks is Break.SILENT:
            return Inserted(chat, b"", role_and_pieces, last=True).answer(request)
        assert isinstance(scene.breaks.value, Ending)
        return Cut(chat, role_and_pieces, scene.breaks.value).answer(request)


def _parts(content: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def _usage(scene: Scene) -> dict[str, Any]:
    tokens = scene.tokens
    return {
        **make_usage(tokens.prompt, tokens.completion),
        "prompt_tokens_details": {"cached_tokens": tokens.cached},
        "completion_tokens_details": {"reasoning_tokens": tokens.reasoning},
    }
