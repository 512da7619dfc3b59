"""Counters: never fewer tokens than are there, and cuts that fit, between characters as people see them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.tokens import Counter, EncodingCounter, Encodings, SearchingCounter
from gateway.tokens.graphemes import is_between
from gateway.tokens.stretches import USUAL

ENCODINGS = Encodings()
CL100K = ENCODINGS["cl100k_base"]
FRAGMENTS = ("plain words, ", "  \n\n", "Straße ", "漢字仮名。", "👨‍👩‍👧‍👦", "🇩🇪🇫🇷", "e\u0301", "\r\n", "हिन्दी", "aaaaaaaaaaaa", "<|endoftext|>", "\ud800")  # fmt: skip
TEXTS = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=12)), max_size=120).map("".join)


def exact(text: str) -> int:
    return CL100K.take_apart(text, gives_way=True).tokens


def by_words(text: str) -> int:
    return len(text.split())


COUNTERS: dict[str, Callable[[], Counter]] = {
    "encoding": lambda: EncodingCounter(CL100K),
    "margin": lambda: EncodingCounter(CL100K, 0.4),
    "process": lambda: SearchingCounter(exact),
    "words": lambda: SearchingCounter(by_words),
}


@pytest.mark.parametrize("kind", COUNTERS)
@given(text=TEXTS, tokens=st.integers(-1, 80))
@settings(max_examples=100, deadline=None)
def test_what_is_kept_of_a_text_begins_or_ends_it_and_fits_and_breaks_no_character(
    kind: str, text: str, tokens: int
) -> None:
    counter = COUNTERS[kind]()

    first, last = counter.first(text, tokens), counter.last(text, tokens)

    assert text.startswith(first)
    assert text.endswith(last)
    for kept, place in ((first, len(first)), (last, len(text) - len(last))):
        assert kept == "" or counter.count(kept) <= tokens
        assert place in (0, len(text)) or is_between(text, place, 0)


@pytest.mark.parametrize("kind", COUNTERS)
@pytest.mark.parametrize("size", [1000, 3 * USUAL])
def test_of_a_long_text_nearly_as_much_is_kept_as_fits(kind: str, size: int) -> None:
    text = ("It was the best of times, " * (size // 26 + 1))[:size]
    counter = COUNTERS[kind]()
    wanted = counter.count(text) // 3

    first, last = counter.first(text, wanted), counter.last(text, wanted)

    assert 0.9 * wanted <= counter.count(first) <= wanted
    assert 0.9 * wanted <= counter.count(last) <= wanted


@given(text=TEXTS)
@settings(max_examples=200, deadline=None)
def test_a_text_is_counted_as_it_is_taken_apart(text: str) -> None:
    counter = EncodingCounter(CL100K)

    assert counter.count(text) == exact(text)


@given(text=TEXTS)
@settings(max_examples=100, deadline=None)
def test_with_a_margin_more_is_counted_but_never_more_than_bytes(text: str) -> None:
    counter = EncodingCounter(CL100K, 0.4)

    counted = counter.count(text)

    size = len(text.encode("utf-8", "replace"))
    assert exact(text) <= counted <= max(size, exact(text))
    assert counted >= min(size, exact(text) * 1.4)


def test_a_process_is_asked_a_dozen_times_at_most_and_once_for_each_text() -> None:
    asked: list[str] = []

    def count(text: str) -> int:
        asked.append(text)
        return exact(text)

    counter = SearchingCounter(count)
    text = "plain words " * 1000 + "漢字仮名。" * 1000 + " " * 5000

    counter.first(text, 1500)
    counter.count(text)

    assert len(asked) <= 12
    assert len(set(asked)) == len(asked)


def test_what_the_library_remembers_of_many_texts_is_forgotten_on_the_way() -> None:
    counter = EncodingCounter(CL100K)

    for number in range(60):
        counter.count(" ".join(f"wörd{number}x{each}ünknown" for each in range(700)))

    loaded = CL100K._loaded
    assert loaded is not None
    assert loaded.core.cache_len < 60 * 700 // 2
