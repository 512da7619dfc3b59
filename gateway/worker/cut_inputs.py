"""Cuts inputs of embeddings to the model's window, by its own tokens, where the settings want that; the answer says so.

Stands between the front and an engine that takes texts apart at `/tokenize`. Whoever does not want it gets llama.cpp's
own refusal instead.
"""

from __future__ import annotations

from typing import Any

import orjson

from gateway.worker.engine import Answer, Body, LoadedModel
from gateway.worker.told import Told, body_of

EMBEDDINGS, TOKENIZE = "/v1/embeddings", "/tokenize"
TRUNCATED = "truncated_tokens"  # of `usage`: how many tokens of all inputs the model did not read
_SPECIAL_TOKENS = 2  # what a model puts around a text
_OK = 200


class CutInputs:
    """Asks `model`, whose window has `window` tokens for each input, with inputs that fit into it."""

    def __init__(self, model: LoadedModel, window: int) -> None:
        self._model = model
        self._window = window

    async def ask(self, path: str, body: Body) -> Answer:
        given = body.get("input")
        if path != EMBEDDINGS or not given or not isinstance(given, str | list):
            return await self._model.ask(path, body)
        is_one = isinstance(given, str) or isinstance(given[0], int)
        fitted: list[Any] = []
        cut = 0
        for text in [given] if is_one else given:
            kept, lost = await self._fit(text)
            fitted.append(kept)
            cut += lost
        if not cut:
            return await self._model.ask(path, body)
        return await _telling(await self._model.ask(path, {**body, "input": fitted}), cut)

    async def close(self) -> None:
        await self._model.close()

    async def _fit(self, text: Any) -> tuple[Any, int]:
        """Return what of one input fits, and how many tokens that leaves out."""
        if isinstance(text, list):
            return self._cut(text)
        # No token is shorter than a byte, so most texts are seen to fit without being taken apart.
        if not isinstance(text, str) or len(text.encode("utf-8", "replace")) + _SPECIAL_TOKENS <= self._window:
            return text, 0
        kept, lost = self._cut(await self._tokens_of(text))
        return (kept, lost) if lost else (text, 0)

    def _cut(self, tokens: list[Any]) -> tuple[list[Any], int]:
        lost = len(tokens) - self._window
        # The last token is the one that models end each text with.
        return ([*tokens[: self._window - 1], tokens[-1]], lost) if lost > 0 else (tokens, 0)

    async def _tokens_of(self, text: str) -> list[int]:
        """Return the tokens of a text; none where the engine does not tell them, which then refuses what is too long."""
        answer = await self._model.ask(TOKENIZE, {"content": text, "add_special": True})
        body = await body_of(answer)
        tokens = orjson.loads(body).get("tokens") if answer.status == _OK else None
        return tokens if isinstance(tokens, list) else []


async def _telling(answer: Answer, cut: int) -> Answer:
    """Return the answer with the number of tokens that were left out in its usage."""
    body = await body_of(answer)
    if answer.status == _OK:
        payload = orjson.loads(body)
        body = orjson.dumps({**payload, "usage": {**payload.get("usage", {}), TRUNCATED: cut}})
    return Told(body, answer.status, answer.content_type)
