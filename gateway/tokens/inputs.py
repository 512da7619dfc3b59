"""What of an embedding's input fits into a model's window, and what becomes of the rest.

Nothing is taken apart where that cannot matter: a text has no more tokens than bytes, so what has few enough bytes is left
as it is. Which model is asked, and what the callers are told, is decided in `dispatch/`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Literal, Protocol

from gateway.tokens.choosing import Counting
from gateway.tokens.dividing import LEAST_TOKENS, divide
from gateway.tokens.encodings import HELD, Encodings

Input = str | list[int]
Policy = Literal["end", "mean_pool"]
MOST_SPECIAL = 2  # what local models put around a text, at most


@dataclass(frozen=True, slots=True)
class Piece:
    """An input, or a part of one, that fits; `tokens` is how many it has at most, those that the model adds included."""

    given: Input
    tokens: int


@dataclass(frozen=True, slots=True)
class Fitted:
    """What is sent of one input: `pieces` in their order, by which many tokens the input was `over` the window.

    There is one piece where it fits, where its end was cut off, and where nobody can tell how long it is.
    """

    pieces: tuple[Piece, ...]
    over: int


class Tokenizer(Protocol):
    """How one model counts; `special` is how many tokens it puts around each input at most."""

    special: int

    async def fit_text(self, text: str, window: int, policy: Policy) -> Fitted:
        """Return what fits of a text that has more bytes than the window tokens."""
        ...

    async def fit_ids(self, ids: list[int], window: int, policy: Policy) -> Fitted:
        """Return what fits of a list of token ids that may be longer than the window."""
        ...

    async def count(self, text: str) -> int:
        """Return how many tokens a text has at most."""
        ...

    async def window(self) -> int | None:
        """Return how many tokens the model takes by its own word, None where it does not say."""
        ...


async def fit_input(given: Input, window: int, policy: Policy, tokenizer: Tokenizer) -> Fitted:
    """Return what fits of an input into `window` tokens: its beginning (`end`), or all of it in parts (`mean_pool`).

    A window of less than four tokens besides the special ones is as good as none: the model is left to say so. Raises
    what asking the model for its tokens raises.
    """
    size = (len(given.encode("utf-8", "replace")) if isinstance(given, str) else len(given)) + tokenizer.special
    if size <= window or window < LEAST_TOKENS + tokenizer.special:
        return Fitted((Piece(given, size),), 0)
    if isinstance(given, str):
        return await tokenizer.fit_text(given, window, policy)
    return await tokenizer.fit_ids(given, window, policy)


class HostedTokenizer:
    """Counts in this process, for a model that is asked over the network and takes texts as they are.

    With a margin, a text is taken to have so many more tokens than are counted.
    """

    special = 0

    def __init__(self, encodings: Encodings, counting: Counting) -> None:
        self._encoding = encodings[counting.encoding]
        self._turns = encodings.turns
        self._margin = counting.margin

    async def fit_text(self, text: str, window: int, policy: Policy) -> Fitted:
        if len(text) <= HELD and self._encoding.is_loaded:
            return self._fit(text, window, policy, gives_way=False)
        async with self._turns:
            return await asyncio.to_thread(self._fit, text, window, policy, gives_way=True)

    async def fit_ids(self, ids: list[int], window: int, policy: Policy) -> Fitted:
        return Fitted(_first(_slices(ids, window), policy), max(0, len(ids) - window))

    async def count(self, text: str) -> int:
        if len(text) <= HELD and self._encoding.is_loaded:
            return self._with_margin(self._encoding.take_apart(text).tokens)
        async with self._turns:
            counted = await asyncio.to_thread(self._encoding.take_apart, text, gives_way=True)
        return self._with_margin(counted.tokens)

    async def window(self) -> int | None:
        return None

    def _fit(self, text: str, window: int, policy: Policy, *, gives_way: bool) -> Fitted:
        take_apart = partial(self._encoding.take_apart, gives_way=gives_way)
        counted = take_apart(text)
        total = self._with_margin(counted.tokens)
        most = math.floor(window / (1.0 + self._margin))
        if total <= window or most < LEAST_TOKENS:
            return Fitted((Piece(text, total),), 0)
        parts = divide(text, counted, take_apart, most)
        return Fitted(
            _first((Piece(part, self._with_margin(tokens)) for part, tokens in parts), policy), total - window
        )

    def _with_margin(self, tokens: int) -> int:
        return math.floor(tokens * (1.0 + self._margin))


class TakenApart(Protocol):
    """A text by the model's own tokens, `total` in all, and what it puts before and behind each text.

    `ids` are as many of them as were asked for. The model takes `window` tokens, those around a text included.
    """

    @property
    def before(self) -> Sequence[int]: ...
    @property
    def ids(self) -> Sequence[int]: ...
    @property
    def after(self) -> Sequence[int]: ...
    @property
    def total(self) -> int: ...
    @property
    def window(self) -> int: ...


class Ask(Protocol):
    """Asks a model for the first `most` tokens of a text, all where that is None; it says None where it cannot tell."""

    def __call__(self, text: str, most: int | None) -> Awaitable[TakenApart | None]: ...


class ModelTokenizer:
    """Asks the model itself, which takes token ids as well as texts; its own window holds where that is smaller.

    What is cut goes to it as token ids with the special ones around, so that nothing is taken apart twice.
    """

    special = MOST_SPECIAL

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def fit_text(self, text: str, window: int, policy: Policy) -> Fitted:
        taken = await self._ask(text, window if policy == "end" else None)
        if taken is None:
            return Fitted((Piece(text, len(text.encode("utf-8", "replace"))),), 0)
        window = min(window, taken.window)
        total = len(taken.before) + taken.total + len(taken.after)
        if total <= window:
            return Fitted((Piece(text, total),), 0)
        return Fitted(_first(_dressed(taken.ids, taken, window), policy), total - window)

    async def fit_ids(self, ids: list[int], window: int, policy: Policy) -> Fitted:
        """Return what fits of ids from outside, which may have the special ones around them already."""
        taken = await self._ask("", None)
        if taken is None:
            return Fitted((Piece(ids, len(ids)),), 0)
        window = min(window, taken.window)
        before, after = len(taken.before), len(taken.after)
        is_dressed = ids[:before] == list(taken.before) and ids[len(ids) - after :] == list(taken.after)
        bare = ids[before : len(ids) - after] if is_dressed else ids
        total = before + len(bare) + after
        return Fitted(_first(_dressed(bare, taken, window), policy), max(0, total - window))

    async def count(self, text: str) -> int:
        told = await self.tell(text)
        return len(text.encode("utf-8", "replace")) if told is None else told

    async def tell(self, text: str) -> int | None:
        """Return how many tokens a text has by the model's word, None where it does not say."""
        taken = await self._ask(text, 0)
        return None if taken is None else len(taken.before) + taken.total + len(taken.after)

    async def window(self) -> int | None:
        taken = await self._ask("", None)
        return None if taken is None else taken.window


def _dressed(ids: Sequence[int], around: TakenApart, window: int) -> Iterable[Piece]:
    before, after = list(around.before), list(around.after)
    for piece in _slices(ids, window - len(before) - len(after)):
        whole = [*before, *piece.given, *after]
        yield Piece(whole, len(whole))


def _slices(ids: Sequence[int], most: int) -> Iterable[Piece]:
    for start in range(0, len(ids), most):
        part = list(ids[start : start + most])
        yield Piece(part, len(part))


def _first(pieces: Iterable[Piece], policy: Policy) -> tuple[Piece, ...]:
    return tuple(islice(pieces, 1) if policy == "end" else pieces)
