"""Fills in the middle for completions with a `suffix`, by the marks that the model was trained with.

Stands between the front and llama.cpp's server. That has an endpoint of its own for this, but in another wire, and it
cuts long texts in silence: it is asked for the marks only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from gateway.worker.engine import Answer, Body, LoadedModel
from gateway.worker.told import body_of, refuse

COMPLETIONS, INFILL, TOKENIZE = "/v1/completions", "/infill", "/tokenize"
_BEFORE, _AFTER = "zebra", "yacht"  # no mark has these in its name
_OK = 200


class Marks(NamedTuple):
    """Token ids: what stands before the text, the suffix and the middle, and what every prompt begins with."""

    before: int
    after: int
    middle: int
    beginning: tuple[int, ...]


class FillIn:
    """Asks `model`; a `suffix` becomes part of the prompt."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = model
        self._marks: Marks | None = None

    async def ask(self, path: str, body: Body) -> Answer:
        suffix = body.get("suffix")
        if path != COMPLETIONS or not suffix:
            return await self._model.ask(path, body)
        prompt = body.get("prompt")
        if not isinstance(prompt, str):
            return _refusal("'suffix' needs one prompt that is text.")
        marks = self._marks = self._marks or await self._find_marks()
        if marks is None:
            return _refusal("'suffix' is not supported by this model: it was not trained to fill in the middle.")
        text, end = await self._tokens_of(prompt), await self._tokens_of(suffix)
        tokens = [*marks.beginning, marks.before, *text, marks.after, *end, marks.middle]
        return await self._model.ask(path, {**body, "prompt": tokens, "suffix": None})

    async def close(self) -> None:
        await self._model.close()

    async def _find_marks(self) -> Marks | None:
        """Return the marks as they stand in a prompt that llama.cpp makes; None where it makes none."""
        told = await self._tell(INFILL, {"input_prefix": _BEFORE, "input_suffix": _AFTER, "n_predict": 1})
        start, _, rest = str(told.get("prompt", "")).partition(_BEFORE)
        between, found, last = rest.partition(_AFTER)
        marks = [await self._tokens_of(text, parse_special=True) for text in (start, between, last)]
        if not found or not marks[0] or [len(ids) for ids in marks[1:]] != [1, 1]:
            return None
        beginning = await self._tokens_of("", add_special=True)
        return Marks(marks[0][-1], marks[1][0], marks[2][0], tuple(beginning))  # names of files may stand before all

    async def _tokens_of(self, text: str, **how: bool) -> list[int]:
        said = {"add_special": False, "parse_special": False, **how}
        tokens = (await self._tell(TOKENIZE, {"content": text, **said})).get("tokens", [])
        return list(tokens)

    async def _tell(self, path: str, body: Body) -> Mapping[str, Any]:
        answer = await self._model.ask(path, body)
        told = orjson.loads(await body_of(answer))
        return told if answer.status == _OK and isinstance(told, dict) else {}


def _refusal(message: str) -> Answer:
    return refuse(400, "unsupported_parameter", "invalid_request_error", message, "suffix")
