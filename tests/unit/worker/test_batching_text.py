"""Bytes become text only when they are certain: characters are whole and stop strings are never told."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.worker.batching.text import TextGate

ALPHABET = st.text(alphabet="ab é🌟", max_size=30)


def told(pieces: list[bytes], stops: list[str]) -> tuple[str, bool]:
    """Return all the text that a gate lets through, and whether it was stopped."""
    gate = TextGate(stops)
    text = ""
    for piece in pieces:
        text += gate.add(piece)
        if gate.stopped:
            return text, True
    text += gate.finish()
    return text, gate.stopped


def cut(raw: bytes, sizes: list[int]) -> list[bytes]:
    pieces = []
    for size in sizes:
        pieces.append(raw[:size])
        raw = raw[size:]
    return [*pieces, raw]


@given(ALPHABET, st.lists(st.integers(1, 3), max_size=60))
def test_text_cut_anywhere_comes_out_whole(text: str, sizes: list[int]) -> None:
    assert told(cut(text.encode(), sizes), []) == (text, False)


@given(ALPHABET, st.lists(st.text(alphabet="ab é🌟", min_size=1, max_size=4), max_size=3), st.lists(st.integers(1, 3)))
def test_the_answer_ends_before_the_first_stop_string(text: str, stops: list[str], sizes: list[int]) -> None:
    places = [place for place in map(text.find, stops) if place >= 0]

    found, is_stopped = told(cut(text.encode(), sizes), stops)

    assert is_stopped == bool(places)
    assert text.startswith(found)
    if not places:
        assert found == text
    else:
        assert not any(stop in found for stop in stops)


@given(ALPHABET, st.lists(st.text(alphabet="ab é🌟", min_size=1, max_size=4), min_size=1, max_size=3))
def test_one_character_at_a_time_ends_at_the_very_first_stop_string(text: str, stops: list[str]) -> None:
    """With whole characters the stop string that ends first is met first; where it begins is the end."""
    ends = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]

    found, is_stopped = told([character.encode() for character in text], stops)

    assert is_stopped == bool(ends)
    if ends:
        first = min(end for end, _ in ends)
        assert found == text[: min(begin for end, begin in ends if end == first)]


def test_what_may_begin_a_stop_string_is_held_back() -> None:
    gate = TextGate(["END"])

    assert [gate.add(b"the E"), gate.add(b"N"), gate.add(b"T")] == ["the ", "", "ENT"]


def test_half_a_character_at_the_end_is_told_as_unreadable() -> None:
    assert told(["🌟".encode()[:2]], []) == ("\ufffd", False)


def test_after_a_stop_string_nothing_is_told() -> None:
    gate = TextGate(["."])

    assert [gate.add(b"one. two"), gate.add(b" three"), gate.finish()] == ["one", "", ""]


def test_what_is_held_back_is_counted_in_bytes() -> None:
    gate = TextGate(["\u00e4x"])

    told = [(gate.add(piece), gate.held) for piece in (b"a", b"\xc3", b"\xa4", b"b")]

    assert told == [("a", 0), ("", 1), ("", 2), ("\u00e4b", 0)]
