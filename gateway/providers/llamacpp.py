"""Models on this machine: each is an OpenAI-wire upstream behind a Unix socket, so only reaching it is special.

The model processes themselves are started in `processes/` and written in `worker/`.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import aiohttp

from gateway.errors import (
    LocalModelUnavailable,
    UpstreamError,
    UpstreamModelMissing,
    UpstreamOverloaded,
    UpstreamRejected,
    UpstreamUnavailable,
)
from gateway.providers.base import Exchange, PlainReply, Reply
from gateway.providers.llamacpp_crashes import Crashes, CrashNoting, Suspicion, print_of
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
from gateway.providers.llamacpp_tokens import TELL_SECONDS, TokenIds, ask_tokens
from gateway.providers.openai import OpenAIWire
from gateway.wire import SseScanner, dump, parse_object

RETRY_SECONDS = 1.0  # a model process is back after about a second, or not soon


@dataclass(frozen=True, slots=True)
class LocalModel:
    """Where one model process listens, and how to learn why it does not.

    `trouble()` returns a sentence while the model is loading, restarting or broken, and "" while it serves, be it that
    it has to be loaded first: then `state()` is `idle`, or `loading` once somebody has connected. A request may wait `max_wait` seconds for its turn, which is no
    sign that anything is wrong.
    """

    socket: Path
    trouble: Callable[[], str]
    is_embedding: bool = False
    max_wait: float = 0.0
    state: Callable[[], str] = lambda: "ready"


class _Lane(OpenAIWire):
    def __init__(self, name: str, socket: Path) -> None:
        super().__init__(name, "http://model/v1")
        self._pool = FrontPool(
            {"Content-Type": "application/json", "Accept-Encoding": "identity", "User-Agent": "gateway"},
            partial(_unix, str(socket)),
        )

    def make_scanner(self, exchange: Exchange) -> SseScanner:
        return LlamaCppScanner(exchange)

    def may_refuse(self, added: str, error: UpstreamRejected, exchange: Exchange) -> bool:
        return False  # the engines are known to understand what is added


class LlamaCpp:
    """The provider of `kind: llamacpp`: one lane for each model."""

    account = None  # each model is a process of its own

    def __init__(self, name: str, models: Mapping[str, LocalModel], crashes: Crashes | None = None) -> None:
        self.name = name
        self._models = models
        self._crashes = crashes or Crashes(time.monotonic)
        # llama.cpp's server leaves a connection unusable after a stream, so each one serves one request.
        self._lanes = {model: _Lane(name, local.socket) for model, local in models.items()}

    async def send(self, exchange: Exchange) -> Reply:
        local = self._models.get(exchange.model)
        if local is None:
            raise UpstreamModelMissing(f"There is no local model '{exchange.model}'.")
        refuse_unsupported(exchange, is_embedding=local.is_embedding)
        is_sound = not local.trouble()
        if exchange.most_waiting is not None and is_sound:
            _leave_to_others(exchange.model, local)
        dimensions = _size_asked_for(exchange)
        exchange.body = body = restrict(exchange.body, exchange.endpoint)
        if exchange.endpoint == "completions" and body.get("max_tokens") is None:
            body["max_tokens"] = DEFAULT_COMPLETION_TOKENS
        if local.max_wait > 0.0:
            at_work = partial(_at_work, local.socket)
            patience = QueuePatience(exchange.patience, local.max_wait, local.state, at_work)
            exchange.may_wait, exchange.patience = True, patience
        was_at_work = partial(_was_at_work, local.socket, exchange) if is_sound else _was_not_there
        suspicion = Suspicion(self._crashes, print_of(body, exchange.caller), was_at_work)
        begin_exchange(exchange, alone=suspicion.alone)
        try:
            reply = await self._lanes[exchange.model].send(exchange)
        except UpstreamRejected as error:
            explain_tokens(exchange, error)
            raise
        except (UpstreamUnavailable, UpstreamOverloaded) as error:
            raise _explain(error, exchange, local, suspicion) from error
        if not isinstance(reply, PlainReply):
            return CrashNoting(reply, suspicion)
        suspicion.answered()
        return reply if exchange.stream else _tidy(exchange, reply, dimensions)

    async def take_apart(
        self, model: str, text: str, *, most: int | None = None, seconds: float = TELL_SECONDS
    ) -> TokenIds | None:
        """Return the first `most` tokens of a text, None where the model does not tell them within so many seconds."""
        local = self._models.get(model)
        return None if local is None else await ask_tokens(local.socket, text, most, seconds)

    async def is_ready(self, model: str) -> bool:
        local = self._models.get(model)
        return local is not None and not local.trouble()

    async def close(self) -> None:
        for lane in self._lanes.values():
            await lane.close()


def _explain(error: UpstreamError, exchange: Exchange, local: LocalModel, suspicion: Suspicion) -> UpstreamError:
    """Return what the failure of a process means; raises what else it is."""
    if error.upstream_status is not None and error.upstream_status != 503:
        explain_failure(error)
        return error
    if error.upstream_status is None:
        suspicion.note()
    trouble = local.trouble() or "its process ended and is being restarted."
    return LocalModelUnavailable(
        f"The local model '{exchange.model}' is not available: {trouble}", retry_after=RETRY_SECONDS
    )


def _size_asked_for(exchange: Exchange) -> int | None:
    """Return the `dimensions` of a request for embeddings; whether the vectors have them is then not asked elsewhere."""
    asked: int | None = exchange.body.get("dimensions") if exchange.endpoint == "embeddings" else None
    if asked is not None:
        exchange.dimensions = None
    return asked


def _tidy(exchange: Exchange, reply: Reply, dimensions: int | None) -> Reply:
    """Bring a plain reply to the OpenAI wire where llama.cpp's differs."""
    if dimensions is not None and reply.vectors is not None:
        check_dimensions(dimensions, reply.vectors)
    if exchange.endpoint == "completions" and exchange.body.get("logprobs") is not None:
        return PlainReply(dump(tidy_completion(parse_object(reply.body))), reply.usage)
    return reply


def _leave_to_others(model: str, local: LocalModel) -> None:
    """Raise LocalModelUnavailable while the model is not loaded, and see to it that it will be."""
    state = local.state()
    if state == "idle":
        _wake(local.socket)
    if state != "ready":
        raise LocalModelUnavailable(
            f"The local model '{model}' is being loaded.", code="local_model_not_loaded", retry_after=RETRY_SECONDS
        )


def _was_at_work(path: Path, exchange: Exchange) -> bool | None:
    """Tell whether a process that is gone was working on this request alone, by the file that its front kept.

    None where it was not working on it.
    """
    at_work = _at_work(path)
    return len(at_work) == 1 if exchange.ticket in at_work else None


def _at_work(path: Path) -> Sequence[str]:
    """Return the requests that the process at the socket `path` wrote down as being answered."""
    try:
        return path.with_suffix(".work").read_text(encoding="utf-8").split()
    except OSError:
        return ()


def _was_not_there() -> None:
    """Tell that there was no process that could have ended."""


def _wake(path: Path) -> None:
    """Connect, by which a model that is not loaded is; what comes of it shows when it is asked."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection, suppress(OSError):
        connection.settimeout(0)
        connection.connect(str(path))


def _unix(path: str) -> aiohttp.BaseConnector:
    return aiohttp.UnixConnector(path, force_close=True, limit=0)
