"""What a model makes of texts and of token ids: it tells its tokens, and ids get the special ones that it wants.

Stands between the front and an engine that takes texts apart at `/tokenize`; there it tells the `ids` of a text, the first
`most` of them where that is said, how many they are in `total`, the special tokens that stand `before` and `after` each
text, and the `window`.
"""

from __future__ import annotations

from itertools import takewhile
from typing import Any, NamedTuple

import orjson

from gateway.worker.engine import Answer, Body, LoadedModel
from gateway.worker.told import Told, body_of, refuse

EMBEDDINGS, TOKENIZE = "/v1/embeddings", "/tokenize"
_OK = 200


class Marks(NamedTuple):
    """The special tokens around each text."""

    before: list[int]
    after: list[int]


class OwnTokens:
    """Asks `model`, whose window has `window` tokens for each input."""

    def __init__(self, model: LoadedModel, window: int) -> None:
        self._model = model
        self._window = window
        self._marks: Marks | None = None

    async def ask(self, path: str, body: Body) -> Answer:
        if path == TOKENIZE:
            return await self._take_apart(body.get("content"), body.get("most"))
        given = body.get("input")
        if path != EMBEDDINGS or not isinstance(given, list) or not any(map(_is_ids, [given, *given])):
            return await self._model.ask(path, body)
        marks = await self._find_marks()
        if marks is None:
            return await self._model.ask(path, body)
        dressed = _dress(given, marks) if _is_ids(given) else [_dress(each, marks) for each in given]
        return await self._model.ask(path, {**body, "input": dressed})

    async def close(self) -> None:
        await self._model.close()

    async def _take_apart(self, text: Any, most: Any) -> Answer:
        if not isinstance(text, str):
            return refuse(400, 400, "invalid_request_error", "Field 'content': must be text", "content")
        marks = await self._find_marks()
        ids = await self._tokens_of(text)
        if marks is None or ids is None:
            return refuse(501, 501, "not_supported_error", "This model does not tell its tokens.")
        bare = ids[len(marks.before) : len(ids) - len(marks.after)]
        told = {"before": marks.before, "after": marks.after, "total": len(bare), "window": self._window}
        return Told(orjson.dumps({**told, "ids": bare[:most] if isinstance(most, int) else bare}))

    async def _find_marks(self) -> Marks | None:
        """Return the special tokens, None where the engine does not tell them."""
        if self._marks is None:
            nothing, letter = await self._tokens_of(""), await self._tokens_of("a")
            if nothing is None or letter is None:
                return None
            same = takewhile(lambda pair: pair[0] == pair[1], zip(nothing, letter, strict=False))
            before = [token for token, _ in same]
            self._marks = Marks(before, nothing[len(before) :])
        return self._marks

    async def _tokens_of(self, text: str) -> list[int] | None:
        """Return the tokens of a text with the special ones, as the engine reads it when it embeds."""
        answer = await self._model.ask(TOKENIZE, {"content": text, "add_special": True})
        body = await body_of(answer)
        tokens = orjson.loads(body).get("tokens") if answer.status == _OK else None
        return tokens if isinstance(tokens, list) else None


def _is_ids(given: Any) -> bool:
    return isinstance(given, list) and bool(given) and all(type(token) is int for token in given)


def _dress(given: Any, marks: Marks) -> Any:
    """Return token ids with the special ones around, unless they have them; anything else as it is."""
    if not _is_ids(given):
        return given
    end = len(given) - len(marks.after)
    if given[: len(marks.before)] == marks.before and given[max(end, len(marks.before)) :] == marks.after:
        return given
    return [*marks.before, *given, *marks.after]
