"""What an answer with embeddings must hold: the vectors that were asked for, in their order, and numbers in them.

They are read once, into float32 as it lies in memory, little-endian; whoever needs them after that has bytes. Vectors are
many thousand numbers, so none is looked at by itself. What becomes of a wrong answer is decided in `providers/`.
"""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Mapping
from typing import Any

import pybase64

FLOAT_BYTES = 4

_NUMBERS = frozenset({float, int})
_NO_VECTOR = "an embedding that is no vector of numbers"
_ONE, _NOUGHT = b"\0\0\x80\x3f", b"\0\0\0\0"


def read_vectors(reply: Mapping[str, Any], request: Mapping[str, Any]) -> tuple[bytes, ...] | str:
    """Return the vectors of the answer to this request in the order of its inputs: float32, little-endian, of one size.

    Where there are none to be had, return what is wrong with the answer in words that end a sentence. Base64 is taken
    where numbers were asked for, and numbers where base64 was; whether their size is the right one is not asked here.
    """
    items = reply.get("data")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        return "no list of embeddings"
    asked = count_inputs(request.get("input"))
    if len(items) != asked:
        return f"{len(items)} embeddings for {asked} inputs"
    places = [item.get("index") for item in items]
    if places != list(range(asked)):
        ordered = _put_in_order(items, places)
        if ordered is None:
            return "no embedding or several for one input"
        items = ordered
    vectors = tuple(_pack(item.get("embedding")) for item in items)
    sizes = set(map(len, vectors))
    if 0 in sizes:
        return _NO_VECTOR
    return vectors if len(sizes) == 1 else "embeddings of another length"


def count_inputs(given: Any) -> int:
    """Return how many vectors an `input`, or completions a `prompt`, asks for: a text or a list of token ids is one."""
    return len(given) if isinstance(given, list) and given and not isinstance(given[0], int) else 1


def _put_in_order(items: list[dict[str, Any]], told: list[Any]) -> list[dict[str, Any]] | None:
    """Return the items in the order of their indexes, what has none being where it stands; None if that is no order."""
    places = [at if place is None else place for at, place in enumerate(told)]
    if not _NUMBERS.issuperset(map(type, places)):
        return None
    placed = dict(zip(places, items, strict=True))
    every = range(len(items))
    return [placed[at] for at in every] if len(placed) == len(items) and all(at in placed for at in every) else None


def _pack(vector: Any) -> bytes:
    """Return the numbers as float32, nothing for anything that is not a vector of finite ones."""
    try:
        if isinstance(vector, str):
            packed = pybase64.b64decode(vector, validate=True)
        elif isinstance(vector, list):
            packed = _pack_numbers(vector)
        else:
            return b""
    except (TypeError, ValueError, OverflowError):  # no base64, no numbers, an integer of four hundred digits
        return b""
    return packed if len(packed) % FLOAT_BYTES == 0 and _is_finite(packed) else b""


def _pack_numbers(vector: list[Any]) -> bytes:
    numbers = array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    packed = numbers.tobytes()
    # An array takes true and false for numbers. Their types are looked at only where one may be among them.
    if (_ONE in packed or _NOUGHT in packed) and not _NUMBERS.issuperset(map(type, vector)):
        raise TypeError
    return packed


def _is_finite(packed: bytes) -> bool:
    highest = packed[3::4]  # the sign and most of the exponent, which is all ones in infinity and NaN
    if b"\x7f" not in highest and b"\xff" not in highest:
        return True
    numbers = array("f", packed)
    if sys.byteorder == "big":
        numbers.byteswap()
    return math.isfinite(sum(numbers))  # of float32 no sum of doubles runs over
