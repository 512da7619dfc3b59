"""Builders for what providers and the rooms above them are asked."""

from __future__ import annotations

import struct
from typing import Any

from gateway.call import Call, Caller, Endpoint, Record
from gateway.providers import Exchange, Reply
from gateway.routing import TimeoutSettings

MESSAGES = [{"role": "user", "content": "Hi"}]
SHORT_SECONDS = 0.15  # three looks of the sweeper
ANYONE = Caller("anyone")


def make_patience(**seconds: float) -> TimeoutSettings:
    """Return generous limits with those given, named without `_seconds`."""
    return TimeoutSettings(**{f"{name}_seconds": value for name, value in seconds.items()})


def make_exchange(
    *,
    endpoint: Endpoint = "chat/completions",
    body: dict[str, Any] | None = None,
    model: str = "upstream-model",
    settings: dict[str, Any] | None = None,
    patience: TimeoutSettings | None = None,
    stream: bool = False,
    wants_usage: bool = False,
) -> Exchange:
    """Return an exchange; a body that is not given is a minimal chat request that agrees with `stream`."""
    if body is None:
        body = {"model": "small", "messages": MESSAGES}
    if stream:
        body = {**body, "stream": True}
    if wants_usage:
        body = {**body, "stream_options": {"include_usage": True}}
    return Exchange(endpoint, {**(settings or {}), **body}, model, patience or TimeoutSettings(), stream, wants_usage)


def make_call(
    alias: str = "small",
    *,
    endpoint: Endpoint = "chat/completions",
    body: dict[str, Any] | None = None,
    stream: bool = False,
    caller: Caller = ANYONE,
) -> Call:
    body = {"model": alias, "messages": MESSAGES, **({"stream": True} if stream else {}), **(body or {})}
    return Call(endpoint, body, alias, stream, caller, Record("req_test", 0.0))


def numbers_of(reply: Reply) -> list[list[float]]:
    """Return the vectors of a reply to a request for embeddings, as numbers."""
    assert reply.vectors is not None
    return [list(struct.unpack(f"<{len(vector) // 4}f", vector)) for vector in reply.vectors]
