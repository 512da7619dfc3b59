"""Texts taken apart into the tokens of an encoding, whose vocabulary travels in a package: nothing is downloaded.

Nothing is loaded before it is needed: a vocabulary costs memory and tens of milliseconds. Which model has which encoding
is in `choosing.py`, what is done with the counts in `inputs.py`.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from array import array
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Literal, get_args

from gateway.tokens.stretches import stretches

if TYPE_CHECKING:
    import splintr

EncodingName = Literal["cl100k_base", "o200k_base", "llama3", "qwen3", "deepseek_v3", "mistral_v3"]
MOST_THREADS = 1
HELD = (
    4096  # characters that are taken apart with other Python threads kept waiting, at most; a millisecond at the worst
)
MOST_KEPT = 256  # words of callers that the library remembers
_STEP = 64  # tokens
_IN_NO_VOCABULARY = "xzyqqvk"
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_WITHIN_CHARACTERS = bytes(range(0x80, 0xC0))  # the bytes of UTF-8 that begin no character


@dataclass(frozen=True, slots=True)
class _Loaded:
    core: splintr.AnyTokenizer
    special: re.Pattern[str]

    def ids_of(self, text: str) -> array[int]:
        """Return the tokens of a text, while no other thread runs Python."""
        return array("I", self.core.encode_ordinary(text))

    def ids_given_way(self, text: str) -> array[int]:
        """Return the tokens of a text without special ones, while other threads run Python."""
        # The only one of the library's functions that lets go of the interpreter; it takes special tokens for such.
        ids = array("I")
        ids.frombytes(self.core.encode_batch_flat([text])[0])
        return ids


class _Stretch:
    """A part of a text, and its tokens."""

    __slots__ = ("_core", "_marks", "characters", "ids")

    def __init__(self, characters: int, ids: array[int], core: splintr.AnyTokenizer) -> None:
        self.characters = characters
        self.ids = ids
        self._core = core
        self._marks: list[int] | None = None  # how many characters begin before each _STEP-th token

    def end_of(self, tokens: int) -> int:
        """Return how many characters are whole within the first so many tokens, fewer than all."""
        if self._marks is None:
            begun = (self._begun(start, start + _STEP) for start in range(0, len(self.ids), _STEP))
            self._marks = list(accumulate(begun, initial=0))
        step = tokens // _STEP
        begun_before = self._marks[step] + self._begun(step * _STEP, tokens)
        is_whole = self._core.decode_token_bytes(self.ids[tokens])[0] not in _WITHIN_CHARACTERS
        return begun_before if is_whole else begun_before - 1

    def _begun(self, start: int, end: int) -> int:
        return len(self._core.decode_bytes(self.ids[start:end].tolist()).translate(None, _WITHIN_CHARACTERS))


class Taken:
    """A text taken apart; `tokens` is how many it has, or a few more where it has a run of many thousand characters."""

    __slots__ = ("_ends", "_first_characters", "_stretches", "tokens")

    def __init__(self, text: str, loaded: _Loaded, *, gives_way: bool) -> None:
        self._stretches: list[_Stretch] = []
        broken = self._add(text, loaded) if gives_way else self._add_held(text, loaded)
        # The library keeps what it finds in no vocabulary, without a limit in bytes; to clear that takes half a millisecond.
        if loaded.core.cache_len > MOST_KEPT or (loaded.core.cache_len and len(text) > HELD):
            loaded.core.clear_cache()
        self._first_characters = list(accumulate((each.characters for each in self._stretches), initial=0))
        self._ends = list(accumulate(len(each.ids) for each in self._stretches))
        self.tokens = self._ends[-1] + broken

    def end_of(self, tokens: int) -> int:
        """Return how many characters are whole within the first so many tokens."""
        place = bisect_right(self._ends, tokens)
        if place == len(self._ends):
            return self._first_characters[-1]
        stretch = self._stretches[place]
        return self._first_characters[place] + stretch.end_of(tokens - (self._ends[place] - len(stretch.ids)))

    def _add(self, text: str, loaded: _Loaded) -> int:
        broken = 0
        for stretch, is_broken in stretches(text):
            broken += is_broken
            if loaded.special.search(stretch):
                broken += self._add_held(stretch, loaded, give_way=_give_way)
            else:
                self._stretches.append(_Stretch(len(stretch), loaded.ids_given_way(stretch), loaded.core))
        return broken

    def _add_held(self, text: str, loaded: _Loaded, give_way: Callable[[], None] = lambda: None) -> int:
        broken = 0
        for stretch, is_broken in stretches(text, HELD):
            broken += is_broken
            self._stretches.append(_Stretch(len(stretch), loaded.ids_of(stretch), loaded.core))
            give_way()
        return broken


def _give_way() -> None:
    """Let another thread run Python; one that waits for its turn is woken too slowly for a sleep of no time at all."""
    time.sleep(0.00005)


class Encoding:
    """One encoding, loaded when it is first used; any thread may call."""

    def __init__(self, name: EncodingName) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loaded: _Loaded | None = None

    @property
    def is_loaded(self) -> bool:
        return self._loaded is not None

    def take_apart(self, text: str, *, gives_way: bool = False) -> Taken:
        """Return the tokens of a text, where words that stand for special tokens are text like any other.

        A thread beside the event loop `gives_way` to it, which costs some 50 microseconds. Surrogates that stand alone,
        which no upstream is sent, are taken for U+FFFD.
        """
        loaded = self._loaded or self._load()
        try:
            return Taken(text, loaded, gives_way=gives_way)
        except UnicodeEncodeError:
            return Taken(_LONE_SURROGATE.sub("\ufffd", text), loaded, gives_way=gives_way)

    def _load(self) -> _Loaded:
        with self._lock:
            if self._loaded is None:
                import splintr

                core = splintr.Tokenizer.from_pretrained(self._name)
                core.encode_batch_flat([_IN_NO_VOCABULARY])  # the first such word takes up to a tenth of a second
                special = "|".join(map(re.escape, sorted(core.special_tokens())))
                self._loaded = _Loaded(core, re.compile(special))
            return self._loaded


class Encodings:
    """The encodings of a process; who takes a long text apart in a thread waits for one of the `turns`.

    There is nothing to win by more threads than processors, and the event loop needs one (design.md).
    """

    def __init__(self) -> None:
        self.turns = asyncio.Semaphore(MOST_THREADS)
        self._all: dict[EncodingName, Encoding] = {name: Encoding(name) for name in get_args(EncodingName)}

    def __getitem__(self, name: EncodingName) -> Encoding:
        return self._all[name]
