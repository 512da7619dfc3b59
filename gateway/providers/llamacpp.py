"""Models on this machine: each is an OpenAI-wire upstream behind a Unix socket, so only reaching it is special.

The model processes themselves are started in `processes/` and written in `worker/`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import aiohttp

from gateway.errors import (
    LocalModelUnavailable,
    UpstreamModelMissing,
    UpstreamOverloaded,
    UpstreamRejected,
    UpstreamUnavailable,
)
from gateway.providers.base import Exchange, PlainReply, Reply
from gateway.providers.llamacpp_dialect import (
    DEFAULT_COMPLETION_TOKENS,
    LlamaCppScanner,
    check_dimensions,
    explain_failure,
    explain_tokens,
    refuse_unsupported,
    tidy_completion,
)
from gateway.providers.llamacpp_fields import restrict
from gateway.providers.llamacpp_pool import FrontPool, QueuePatience, begin_exchange
from gateway.providers.openai import OpenAIWire
from gateway.wire import SseScanner, dump, parse_object

RETRY_SECONDS = 1.0  # a model process is back after about a second, or not soon


@dataclass(frozen=True, slots=True)
class LocalModel:
    """Where one model process listens, and how to learn why it does not.

    `trouble()` returns a sentence while the model is loading, restarting or broken, and "" while it serves. A request may
    wait `max_wait` seconds for its turn, which is no sign that anything is wrong.
    """

    socket: Path
    trouble: Callable[[], str]
    is_embedding: bool = False
    max_wait: float = 0.0


class _Lane(OpenAIWire):
    def __init__(self, name: str, socket: Path) -> None:
        super().__init__(name, "http://model/v1")
        self._pool = FrontPool(
            {"Content-Type": "application/json", "Accept-Encoding": "identity", "User-Agent": "gateway"},
            partial(_unix, str(socket)),
        )

    def make_scanner(self, exchange: Exchange) -> SseScanner:
        return LlamaCppScanner(exchange)


class LlamaCpp:
    """The provider of `kind: llamacpp`: one lane for each model."""

    account = None  # each model is a process of its own

    def __init__(self, name: str, models: Mapping[str, LocalModel]) -> None:
        self.name = name
        self._models = models
        # llama.cpp's server leaves a connection unusable after a stream, so each one serves one request.
        self._lanes = {model: _Lane(name, local.socket) for model, local in models.items()}

    async def send(self, exchange: Exchange) -> Reply:
        local = self._models.get(exchange.model)
        if local is None:
            raise UpstreamModelMissing(f"There is no local model '{exchange.model}'.")
        refuse_unsupported(exchange, is_embedding=local.is_embedding)
        dimensions = exchange.body.get("dimensions")
        exchange.body = body = restrict(exchange.body)
        if exchange.endpoint == "completions" and body.get("max_tokens") is None:
            body["max_tokens"] = DEFAULT_COMPLETION_TOKENS
        if local.max_wait > 0.0:
            exchange.may_wait, exchange.patience = True, QueuePatience(exchange.patience, local.max_wait)
        begin_exchange(exchange)
        try:
            reply = await self._lanes[exchange.model].send(exchange)
        except UpstreamRejected as error:
            explain_tokens(exchange, error)
            raise
        except (UpstreamUnavailable, UpstreamOverloaded) as error:
            if error.upstream_status is not None and error.upstream_status != 503:
                explain_failure(error)
                raise
            trouble = local.trouble() or "its process ended and is being restarted."
            raise LocalModelUnavailable(
                f"The local model '{exchange.model}' is not available: {trouble}", retry_after=RETRY_SECONDS
            ) from error
        return reply if exchange.stream else _tidy(exchange, reply, dimensions)

    async def is_ready(self, model: str) -> bool:
        local = self._models.get(model)
        return local is not None and not local.trouble()

    async def close(self) -> None:
        for lane in self._lanes.values():
            await lane.close()


def _tidy(exchange: Exchange, reply: Reply, dimensions: int | None) -> Reply:
    """Bring a plain reply to the OpenAI wire where llama.cpp's differs."""
    if dimensions is not None:
        check_dimensions(dimensions, parse_object(reply.body))
    if exchange.endpoint == "completions" and exchange.body.get("logprobs") is not None:
        return PlainReply(dump(tidy_completion(parse_object(reply.body))), reply.usage)
    return reply


def _unix(path: str) -> aiohttp.BaseConnector:
    return aiohttp.UnixConnector(path, force_close=True, limit=0)
