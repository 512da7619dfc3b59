"""Inputs over a model's window: what is sent fits, and says truly how much did not."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.tokens import Counting, Encodings, Fitted, HostedTokenizer, ModelTokenizer, Piece, Policy, fit_input

ENCODINGS = Encodings()
EXACT = HostedTokenizer(ENCODINGS, Counting("cl100k_base", 0.0))
FOREIGN = HostedTokenizer(ENCODINGS, Counting("cl100k_base", 0.4))
FRAGMENTS = ("plain words, ", "  \n\n", "Straße ", "漢字仮名。", "👨‍👩‍👧‍👦", "🇩🇪🇫🇷", "e\u0301", "\r\n", "हिन्दी", "aaaaaaaaaaaa", "0123456789", "!?!?", "\u3000")  # fmt: skip
TEXTS = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=12)), max_size=120).map("".join)
WINDOWS = st.integers(4, 64)


def count(text: str) -> int:
    return ENCODINGS["cl100k_base"].take_apart(text, gives_way=True).tokens


def texts_of(fitted: Fitted) -> list[str]:
    return [piece.given for piece in fitted.pieces if isinstance(piece.given, str)]


@given(text=TEXTS, window=WINDOWS)
@settings(max_examples=200, deadline=None)
async def test_what_is_kept_of_a_text_begins_it_and_fits(text: str, window: int) -> None:
    fitted = await fit_input(text, window, "end", EXACT)

    (kept,) = texts_of(fitted)
    assert text.startswith(kept)
    assert count(kept) <= fitted.pieces[0].tokens <= window
    assert fitted.over == max(0, count(text) - window)
    assert (kept == text) == (fitted.over == 0)


@given(text=TEXTS, window=WINDOWS)
@settings(max_examples=200, deadline=None)
async def test_the_parts_of_a_text_are_the_text_and_each_fits(text: str, window: int) -> None:
    fitted = await fit_input(text, window, "mean_pool", EXACT)

    assert "".join(texts_of(fitted)) == text
    for piece in fitted.pieces:
        assert count(str(piece.given)) <= piece.tokens <= window


@given(text=TEXTS, window=st.integers(8, 64))
@settings(deadline=None)
async def test_with_a_margin_a_part_may_have_so_many_more_tokens_and_fits(text: str, window: int) -> None:
    fitted = await fit_input(text, window, "mean_pool", FOREIGN)

    assert "".join(texts_of(fitted)) == text
    assert all(count(part) * 1.4 < window + 1 or len(part.encode()) <= window for part in texts_of(fitted))


@given(text=TEXTS, window=WINDOWS)
@settings(deadline=None)
async def test_what_was_fitted_once_fits_again_as_it_is(text: str, window: int) -> None:
    first = await fit_input(text, window, "end", EXACT)

    again = await fit_input(first.pieces[0].given, window, "end", EXACT)

    assert (again.pieces[0].given, again.over) == (first.pieces[0].given, 0)


async def test_a_text_with_few_enough_bytes_is_not_taken_apart() -> None:
    encodings = Encodings()

    fitted = await fit_input("é" * 50, 100, "end", HostedTokenizer(encodings, Counting("cl100k_base", 0.0)))

    assert fitted == Fitted((Piece("é" * 50, 100),), 0)
    assert not encodings["cl100k_base"].is_loaded


@pytest.mark.parametrize("text", ["a" * 300_000, " " * 300_000, "我" * 100_000, "word " * 60_000])
@pytest.mark.parametrize("policy", ["end", "mean_pool"])
async def test_long_texts_are_divided_within_the_window(text: str, policy: Policy) -> None:
    fitted = await fit_input(text, 2048, policy, EXACT)

    assert text.startswith("".join(texts_of(fitted)))
    assert all(count(part) <= 2048 for part in texts_of(fitted))
    assert len(fitted.pieces) == 1 or "".join(texts_of(fitted)) == text


@given(ids=st.lists(st.integers(0, 100_000), min_size=1, max_size=300), window=WINDOWS)
async def test_lists_of_token_ids_are_sliced(ids: list[int], window: int) -> None:
    parts = await fit_input(ids, window, "mean_pool", EXACT)
    kept = await fit_input(ids, window, "end", EXACT)

    assert [token for piece in parts.pieces for token in piece.given] == ids
    assert all(len(piece.given) == piece.tokens <= window for piece in parts.pieces)
    assert kept == Fitted((parts.pieces[0],), max(0, len(ids) - window))


@pytest.mark.parametrize("window", [1, 3])
async def test_a_window_for_no_character_leaves_the_input_to_the_model(window: int) -> None:
    assert (await fit_input("a long text", window, "end", EXACT)).pieces[0].given == "a long text"


@dataclass
class Words:
    """A model whose tokens are characters, with its marks around a text."""

    before: list[int] = field(default_factory=lambda: [101])
    after: list[int] = field(default_factory=lambda: [102])
    ids: list[int] = field(default_factory=list)

    total: int = 0
    window: int = 1000

    async def ask(self, text: str, most: int | None) -> Words:
        ids = [ord(sign) for sign in text]
        return Words(self.before, self.after, ids[:most], len(ids), self.window)


@given(text=st.text(min_size=1), window=st.integers(6, 20))
async def test_a_local_model_gets_its_own_tokens_with_its_marks_around_each_part(text: str, window: int) -> None:
    fitted = await fit_input(text, window, "mean_pool", ModelTokenizer(Words().ask))

    if len(text) + 2 <= window:
        assert [piece.given for piece in fitted.pieces] == [text]
        return
    parts = [piece.given for piece in fitted.pieces if isinstance(piece.given, list)]
    assert all(part[0] == 101 and part[-1] == 102 and len(part) <= window for part in parts)
    assert "".join(chr(token) for part in parts for token in part[1:-1]) == text
    assert fitted.over == len(text) + 2 - window


@pytest.mark.parametrize("given_ids", [list(range(1, 21)), [101, *range(1, 21), 102]])
async def test_ids_for_a_local_model_are_cut_between_its_marks(given_ids: list[int]) -> None:
    fitted = await fit_input(given_ids, 12, "end", ModelTokenizer(Words().ask))

    assert fitted == Fitted((Piece([101, *range(1, 11), 102], 12),), 10)


async def test_a_model_that_cannot_tell_its_tokens_gets_the_whole_text() -> None:
    async def ask(text: str, most: int | None) -> None:
        return None

    fitted = await fit_input("a long text", 8, "end", ModelTokenizer(ask))

    assert fitted.pieces[0].given == "a long text"
    assert fitted.over == 0


async def test_a_window_that_the_model_knows_to_be_smaller_holds() -> None:
    fitted = await fit_input("a long text", 10, "end", ModelTokenizer(Words(window=7).ask))

    assert fitted == Fitted((Piece([101, *map(ord, "a lon"), 102], 7),), 6)
