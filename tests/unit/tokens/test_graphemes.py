"""Texts are not cut within what people see as one character."""

from __future__ import annotations

import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.tokens import Counting, Encodings, HostedTokenizer, fit_input
from gateway.tokens.graphemes import is_between

EXACT = HostedTokenizer(Encodings(), Counting("cl100k_base", 0.0))
FRAGMENTS = ("plain words, ", "  \n\n", "Straße ", "漢字仮名。", "👨‍👩‍👧‍👦", "🇩🇪🇫🇷", "e\u0301", "\r\n", "हिन्दी", "ไทยน้ำ", "👍🏽", "한국어", "\u1112\u1161\u11ab", "বাংলা")  # fmt: skip
# Marks, joiners, jamo, flags, the scripts of India and emoji, where characters are joined.
JOINING = st.one_of(
    st.characters(categories=["Mn", "Mc", "Me", "Cf", "Sk"]),
    st.characters(min_codepoint=0x1100, max_codepoint=0x11FF),
    st.characters(min_codepoint=0xAC00, max_codepoint=0xAC20),
    st.characters(min_codepoint=0x1F1E6, max_codepoint=0x1F1FF),
    st.characters(min_codepoint=0x900, max_codepoint=0xD7F),
    st.sampled_from("\u200d👩💻❤\ufe0f🏽\r\nab"),
)
TEXTS = st.lists(st.one_of(st.sampled_from(FRAGMENTS), JOINING, st.characters()), max_size=60).map("".join)


@pytest.mark.parametrize(
    "parts",
    [
        ["a", "b", " ", "c"],
        ["a", "\r\n", "\n", "b"],
        ["e\u0301", "\u0061\u0308\u0323", "x"],
        ["漢", "字", "が", "か\u3099"],
        ["👨‍👩‍👧‍👦", "👍🏽", "❤️", "x"],
        ["🇩🇪", "🇫🇷", "🇯🇵", "x"],
        ["हि", "न्दी", " ", "पा", "ठ"],
        ["น้ำ", "ท", "ย"],
        ["한", "국", " ", "\u1112\u1161\u11ab", " ", "\u1100\u1161"],
        ["ﾊﾞ", "ﾋ"],
    ],
)
def test_known_texts_may_be_cut_exactly_between_their_characters(parts: list[str]) -> None:
    text = "".join(parts)
    ends = [len("".join(parts[:index])) for index in range(1, len(parts))]

    assert [place for place in range(1, len(text)) if is_between(text, place, 0)] == ends


@given(text=TEXTS)
@settings(max_examples=500, deadline=None)
def test_no_place_is_within_a_character_as_unicode_sees_it(text: str) -> None:
    regex = pytest.importorskip("regex")
    ends = {found.end() for found in regex.finditer(r"\X", text)}

    places = {place for place in range(1, len(text)) if is_between(text, place, 0)}

    assert places <= ends


@given(text=st.lists(st.sampled_from(FRAGMENTS), max_size=120).map("".join), window=st.integers(40, 120))
@settings(max_examples=100, deadline=None)
async def test_no_part_of_an_input_begins_within_a_character(text: str, window: int) -> None:
    fitted = await fit_input(text, window, "mean_pool", EXACT)

    parts = [str(piece.given) for piece in fitted.pieces]
    assert "".join(parts) == text
    for before, part in pairwise(parts):
        assert unicodedata.category(part[0]) not in ("Mn", "Mc", "Me", "Cf")
        assert not before.endswith("\u200d")
        assert (before[-1], part[0]) != ("\r", "\n")
