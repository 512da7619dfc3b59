"""Vectors are read once, into float32, and only if they are the ones that were asked for."""

from __future__ import annotations

import base64
import math
import struct
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire import read_vectors

TWO = {"input": ["a", "b"]}
FLOATS = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=20)


def packed(*numbers: float) -> bytes:
    return struct.pack(f"<{len(numbers)}f", *numbers)


def coded(*numbers: float) -> str:
    return base64.b64encode(packed(*numbers)).decode()


def answer(*vectors: Any, places: list[Any] | None = None) -> dict[str, Any]:
    """Return an answer as it comes off the wire."""
    found = range(len(vectors)) if places is None else places
    items = [{"index": at, "embedding": vector} for at, vector in zip(found, vectors, strict=True)]
    return {"object": "list", "data": items}


@given(FLOATS)
def test_digits_and_base64_are_the_same_bytes(numbers: list[float]) -> None:
    digits = orjson.loads(orjson.dumps(answer(numbers)))

    read = [read_vectors(each, {"input": "a"}) for each in (digits, answer(coded(*numbers)))]

    assert read == [(packed(*numbers),)] * 2


def test_whole_numbers_are_numbers_too() -> None:
    assert read_vectors(answer([1, 0.5], [0, -2]), TWO) == (packed(1, 0.5), packed(0, -2))


@pytest.mark.parametrize("places", [[1, 0], [1.0, 0.0]])
def test_vectors_come_in_the_order_of_their_inputs(places: list[Any]) -> None:
    assert read_vectors(answer([2.0], [1.0], places=places), TWO) == (packed(1.0), packed(2.0))


@pytest.mark.parametrize("places", [[None, None], [0, None], [None, 1]])
def test_a_vector_without_a_place_is_where_it_stands(places: list[Any]) -> None:
    assert read_vectors(answer([1.0], coded(2.0), places=places), TWO) == (packed(1.0), packed(2.0))


@pytest.mark.parametrize(
    "asked", ["a", ["a"], [1, 2, 3], [[1, 2, 3]]], ids=["text", "texts", "token ids", "lists of token ids"]
)
def test_one_vector_answers_one_input_in_any_form(asked: Any) -> None:
    assert read_vectors(answer([1.0]), {"input": asked}) == (packed(1.0),)


FLAWS: dict[str, tuple[dict[str, Any], str]] = {
    "no data": ({}, "no list of embeddings"),
    "null": ({"data": None}, "no list of embeddings"),
    "no objects": ({"data": [[1.0], [2.0]]}, "no list of embeddings"),
    "one of two": (answer([1.0]), "1 embeddings for 2 inputs"),
    "three of two": (answer([1.0], [2.0], [3.0]), "3 embeddings for 2 inputs"),
    "one place twice": (answer([1.0], [2.0], places=[0, 0]), "no embedding or several for one input"),
    "a place beyond": (answer([1.0], [2.0], places=[0, 2]), "no embedding or several for one input"),
    "a place before": (answer([1.0], [2.0], places=[-1, 0]), "no embedding or several for one input"),
    "half a place": (answer([1.0], [2.0], places=[0, 0.5]), "no embedding or several for one input"),
    "a place in words": (answer([1.0], [2.0], places=["0", "1"]), "no embedding or several for one input"),
    "two lengths": (answer([1.0], [2.0, 3.0]), "embeddings of another length"),
    "two lengths in two forms": (answer([1.0], coded(2.0, 3.0)), "embeddings of another length"),
}


@pytest.mark.parametrize("name", FLAWS)
def test_what_is_wrong_with_a_list_is_told(name: str) -> None:
    reply, flaw = FLAWS[name]

    assert read_vectors(reply, TWO) == flaw


NO_VECTORS: dict[str, Any] = {
    "nothing": None,
    "an empty list": [],
    "an object": {"0": 1.0},
    "a number": 1.0,
    "a word in it": [0.5, "0.5"],
    "null in it": [0.5, None],
    "a list in it": [[0.5]],
    "true in it": [0.5, True],
    "false in it": [0.5, False],
    "NaN": [0.5, math.nan],
    "infinity": [0.5, math.inf],
    "too large for float32": [0.5, 1e300],
    "too low for float32": [0.5, -3.5e38],
    "an integer too large for any float": [0.5, 10**400],
    "empty base64": "",
    "a sentence": "no vector at all",
    "base64 without its end": coded(1.0, 2.0)[:-1],
    "base64 cut within a number": base64.b64encode(packed(1.0)[:3]).decode(),
    "base64 with a break": coded(1.0, 2.0, 3.0)[:4] + "\n" + coded(1.0, 2.0, 3.0)[4:],
    "base64 with letters behind it": coded(1.0) + "AAAA",
    "base64 of another alphabet": "__8_PwAA__8=",
    "letters beyond ASCII": "ÄÄÄÄ",
    "base64 of NaN": coded(1.0, math.nan),
    "base64 of infinity": coded(1.0, -math.inf),
}


@pytest.mark.parametrize("name", NO_VECTORS)
def test_what_is_no_vector_of_numbers_is_none(name: str) -> None:
    bad = NO_VECTORS[name]

    found = read_vectors(answer([0.5, 0.5], bad), TWO)

    assert found == "an embedding that is no vector of numbers"


@given(
    st.lists(st.one_of(st.floats(width=32), st.integers(), st.booleans(), st.none(), st.text(max_size=2)), max_size=6)
)
def test_nothing_but_finite_numbers_ever_passes(vector: list[Any]) -> None:
    found = read_vectors(answer(vector), {"input": "a"})

    sound = bool(vector) and all(type(number) in (int, float) and abs(number) < 3.4e38 for number in vector)
    assert isinstance(found, tuple) == sound


@given(st.binary(min_size=1, max_size=24))
def test_nothing_but_finite_numbers_ever_passes_as_base64(raw: bytes) -> None:
    found = read_vectors(answer(base64.b64encode(raw).decode()), {"input": "a"})

    sound = len(raw) % 4 == 0 and all(map(math.isfinite, struct.unpack(f"<{len(raw) // 4}f", raw)))
    assert found == ((raw,) if sound else "an embedding that is no vector of numbers")
