"""Answers are built from float32 bytes: whatever the encoding, they come back to the bit."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.call import Usage
from gateway.wire import read_vectors, split_inputs, write_answer

NUMBERS = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=3, max_size=3)
SEVERAL = st.lists(NUMBERS.map(lambda numbers: struct.pack("<3f", *numbers)), min_size=1, max_size=5)
ENCODINGS = pytest.mark.parametrize("encoding", [None, "float", "base64"])


def built(*vectors: bytes, usage: Usage | None = None, encoding: str | None = None) -> dict[str, Any]:
    """Return an answer as a strict reader of JSON sees it."""
    written = write_answer(vectors, model='vendor/"e"-ü', usage=usage or Usage(7), encoding=encoding)
    body = b"".join(written.blocks)
    assert written.length in (None, len(body))
    answer: dict[str, Any] = json.loads(body)
    return answer


@ENCODINGS
@given(vectors=SEVERAL)
def test_an_answer_has_the_vectors_to_the_bit(encoding: str | None, vectors: list[bytes]) -> None:
    read = read_vectors(built(*vectors, encoding=encoding), {"input": ["a"] * len(vectors)})

    assert read == tuple(vectors)


@ENCODINGS
def test_the_smallest_and_the_largest_numbers_come_back(encoding: str | None) -> None:
    vector = struct.pack("<6f", 1e-45, -1.1754943508222875e-38, 3.4028234663852886e38, -0.0, 16777216.0, 0.1)

    assert read_vectors(built(vector, encoding=encoding), {"input": "a"}) == (vector,)


def test_an_answer_has_the_shape_that_openai_gives_it() -> None:
    one, two = struct.pack("<2f", 0.1, -2.0), struct.pack("<2f", 1.0, 0.5)

    answer = built(one, two, one)

    assert answer == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.1, -2.0]},
            {"object": "embedding", "index": 1, "embedding": [1.0, 0.5]},
            {"object": "embedding", "index": 2, "embedding": [0.1, -2.0]},
        ],
        "model": 'vendor/"e"-ü',
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    }


def test_base64_is_the_bytes_themselves() -> None:
    vector = struct.pack("<2f", 0.1, -2.0)

    (item,) = built(vector, encoding="base64")["data"]

    assert base64.b64decode(item["embedding"]) == vector


def test_remembered_tokens_are_told_when_there_are_any() -> None:
    usage = built(b"\0\0\0\0", usage=Usage(9, 0, 4))["usage"]

    assert usage == {"prompt_tokens": 9, "total_tokens": 9, "prompt_tokens_details": {"cached_tokens": 4}}


@pytest.mark.parametrize("encoding", ["float", "base64"])
@pytest.mark.parametrize("count", [1, 7, 64, 2048])
@pytest.mark.parametrize("numbers", [1, 2, 1536, 40_000])
def test_a_large_answer_is_made_in_blocks(encoding: str, count: int, numbers: int) -> None:
    vectors = [struct.pack("<f", place + 0.5) * numbers for place in range(min(count, 400_000 // numbers))]

    written = write_answer(vectors, model="m", usage=Usage(1), encoding=encoding)
    blocks = list(written.blocks)

    body = b"".join(blocks)
    assert written.length == (len(body) if encoding == "base64" else None)
    assert read_vectors(json.loads(body), {"input": ["a"] * len(vectors)}) == tuple(vectors)
    assert all(len(block) < 256 * 1024 or numbers == 40_000 for block in blocks)
    assert len(blocks) >= len(body) // (256 * 1024 if numbers < 40_000 else 600 * 1024)
    assert all(
        block.count(b'"index"') <= 128 for block in blocks
    )  # of short vectors each costs as much as many numbers


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("a", ["a"]),
        (["a"], ["a"]),
        (["b", "a", "b"], ["b", "a", "b"]),
        ([3, 1, 2], [[3, 1, 2]]),
        ([[3, 1], [2]], [[3, 1], [2]]),
    ],
)
def test_inputs_are_split_in_their_order(given: Any, expected: list[Any]) -> None:
    assert split_inputs(given) == expected
