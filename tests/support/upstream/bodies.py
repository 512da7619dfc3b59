"""The JSON objects of the OpenAI wire as pure functions, right in every field; written from the contract alone."""

from __future__ import annotations

import json
from typing import Any

CREATED = 1_700_000_000  # any second will do; a fixed one makes bodies comparable

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "service_unavailable_error",
}


def encode(content: Any) -> bytes:
    """Return compact JSON, characters beyond ASCII as UTF-8."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def encode_event(content: Any) -> bytes:
    """Return one server-sent event with this JSON."""
    return b"data: " + encode(content) + b"\n\n"


def make_usage(prompt_tokens: int = 9, completion_tokens: int = 12) -> dict[str, int]:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def make_error(
    status: int = 500, message: str = "", *, kind: str | None = None, code: str | None = None, param: str | None = None
) -> dict[str, Any]:
    """Return OpenAI's error envelope; what is not given follows from the status."""
    default_kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {
        "error": {
            "message": message or f"The scripted upstream answers {status}.",
            "type": kind or default_kind,
            "param": param,
            "code": code,
        }
    }


def make_completion(identity: dict[str, Any], choices: list[dict[str, Any]], usage: Any) -> dict[str, Any]:
    """Return a plain answer; `usage` None leaves the key out."""
    return {**identity, "choices": choices, **({} if usage is None else {"usage": usage})}


def make_delta(index: int, delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def make_model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": CREATED, "owned_by": "scripted"}


def make_model_list(names: tuple[str, ...]) -> dict[str, Any]:
    return {"object": "list", "data": [make_model(name) for name in names]}
