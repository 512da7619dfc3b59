"""Models on this machine: each is an OpenAI-wire upstream behind a Unix socket, so only reaching it is special.

The model processes themselves are started by `processes.py` and written in `worker/`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import aiohttp

from gateway.errors import LocalModelUnavailable, UpstreamModelMissing, UpstreamOverloaded, UpstreamUnavailable
from gateway.providers.base import Exchange, Reply
from gateway.providers.openai import OpenAIWire

RETRY_SECONDS = 1.0  # a model process is back after about a second, or not soon


@dataclass(frozen=True, slots=True)
class LocalModel:
    """Where one model process listens, and how to learn why it does not.

    `trouble()` returns a sentence while the model is loading, restarting or broken, and "" while it serves.
    """

    socket: Path
    trouble: Callable[[], str]


class LlamaCpp:
    """The provider of `kind: llamacpp`: one lane for each model."""

    def __init__(self, name: str, models: Mapping[str, LocalModel]) -> None:
        self.name = name
        self._models = models
        # llama.cpp's server leaves a connection unusable after a stream, so each one serves one request.
        self._lanes = {
            model: OpenAIWire(name, "http://model/v1", connect=partial(_unix, str(local.socket)))
            for model, local in models.items()
        }

    async def send(self, exchange: Exchange) -> Reply:
        lane = self._lanes.get(exchange.model)
        if lane is None:
            raise UpstreamModelMissing(f"There is no local model '{exchange.model}'.")
        try:
            return await lane.send(exchange)
        except (UpstreamUnavailable, UpstreamOverloaded) as error:
            if error.upstream_status == 500:
                raise
            trouble = self._models[exchange.model].trouble() or "its process is restarting."
            raise LocalModelUnavailable(
                f"The local model '{exchange.model}' is not available: {trouble}", retry_after=RETRY_SECONDS
            ) from error

    async def is_ready(self, model: str) -> bool:
        local = self._models.get(model)
        return local is not None and not local.trouble()

    async def close(self) -> None:
        for lane in self._lanes.values():
            await lane.close()


def _unix(path: str) -> aiohttp.BaseConnector:
    return aiohttp.UnixConnector(path, force_close=True, limit=0)
