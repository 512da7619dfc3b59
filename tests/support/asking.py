"""Asking a gateway that runs as a process of its own, without a client in between."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from .command import Gateway
from .contract import assert_error_obeys_contract, parse_sse

HI: list[Any] = [{"role": "user", "content": "Say hello."}]
CHAT: dict[str, Any] = {"model": "small", "messages": HI, "max_tokens": 8, "temperature": 0}
TEXT: dict[str, Any] = {"model": "small", "prompt": "The cat", "max_tokens": 6, "temperature": 0}
SECONDS = 60


def post(gateway: Gateway, path: str, body: dict[str, Any], **headers: str) -> tuple[int, bytes]:
    """Post JSON; underscores in the names of `headers` stand for hyphens."""
    told = {"Content-Type": "application/json", **{name.replace("_", "-"): word for name, word in headers.items()}}
    request = urllib.request.Request(f"{gateway.api_url}/{path}", json.dumps(body).encode(), told)
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def ask(gateway: Gateway, path: str, body: dict[str, Any]) -> Any:
    status, answer = post(gateway, path, body)
    assert status == 200, answer
    return json.loads(answer)


def refusal(gateway: Gateway, path: str, body: dict[str, Any], **headers: str) -> dict[str, Any]:
    status, answer = post(gateway, path, body, **headers)
    assert status == 400, answer
    return assert_error_obeys_contract(json.loads(answer))


def stream(gateway: Gateway, path: str, body: dict[str, Any]) -> list[str]:
    status, answer = post(gateway, path, {**body, "stream": True})
    assert status == 200, answer
    return parse_sse(answer)


def chunks(events: list[str]) -> list[Any]:
    return [json.loads(event) for event in events if event != "[DONE]"]
