"""What an answer with embeddings must hold: the vectors that were asked for, in their order, and numbers in them.

Vectors are many thousand numbers, so none is looked at by itself. What becomes of a wrong answer is decided in
`providers/`.
"""

from __future__ import annotations

import array
import binascii
import math
from collections.abc import Mapping
from typing import Any

_NUMBERS = frozenset({float, int})
_FLOAT32_BYTES = 4
_OF_NUMBERS = b"0123456789.,+-eE \t\r\n"
_ONLY_NUMBERS = b'"embedding":[]'.translate(None, _OF_NUMBERS)  # what is left of a vector without what numbers are of


def find_flaw(reply: Mapping[str, Any], request: Mapping[str, Any], body: bytes) -> str | None:
    """Return what is wrong with the answer to this request, in words that end a sentence; None where nothing is.

    `body` is the text of `reply`. Base64 is taken where numbers were asked for, and numbers where base64 was: the SDKs
    read both.
    """
    items = reply.get("data")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        return "no list of embeddings"
    asked = count_inputs(request.get("input"))
    if len(items) != asked:
        return f"{len(items)} embeddings for {asked} inputs"
    if not (is_in_order(reply) or _are_places(_places(items))):
        return "no embedding or several for one input"
    is_usual = body.translate(None, _OF_NUMBERS).count(_ONLY_NUMBERS) == asked
    sizes = {_size_of(item.get("embedding"), is_usual=is_usual) for item in items}
    if 0 in sizes:
        return "an embedding that is no vector of numbers"
    wanted = request.get("dimensions")
    if len(sizes) > 1 or (wanted is not None and wanted not in sizes):
        return "embeddings of another length"
    return None


def is_in_order(reply: Mapping[str, Any]) -> bool:
    """Tell whether the embeddings of an answer, which are objects, stand as their inputs did."""
    places = _places(reply["data"])
    return places == list(range(len(places)))


def in_order(reply: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answer, which has no flaw, with its embeddings in the order of their inputs."""
    items = reply["data"]
    placed = dict(zip(_places(items), items, strict=True))
    return {**reply, "data": [placed[place] for place in range(len(items))]}


def count_inputs(given: Any) -> int:
    """Return how many vectors an `input`, or completions a `prompt`, asks for: a text or a list of token ids is one."""
    return len(given) if isinstance(given, list) and given and not isinstance(given[0], int) else 1


def _places(items: list[dict[str, Any]]) -> list[Any]:
    """Return each item's index; what has none is where it stands."""
    places = [item.get("index") for item in items]
    return places if None not in places else [at if place is None else place for at, place in enumerate(places)]


def _are_places(places: list[Any]) -> bool:
    return _NUMBERS.issuperset(map(type, places)) and sorted(places) == list(range(len(places)))


def _size_of(vector: Any, *, is_usual: bool) -> int:
    """Return how many finite numbers there are in it, 0 for anything else; JSON itself has no infinite ones.

    `is_usual` says that the answer's text was seen to have only numbers in lists, six times faster than by their types.
    """
    if isinstance(vector, list):
        return len(vector) if is_usual or _NUMBERS.issuperset(map(type, vector)) else 0
    return _size_of_base64(vector) if isinstance(vector, str) else 0


def _size_of_base64(vector: str) -> int:
    try:
        raw = binascii.a2b_base64(vector, strict_mode=True)
    except ValueError:  # binascii.Error, and what is not ASCII
        return 0
    if len(raw) % _FLOAT32_BYTES:
        return 0
    highest = raw[3::4]  # the sign and most of the exponent, which is all ones in infinity and NaN
    if (b"\x7f" in highest or b"\xff" in highest) and not math.isfinite(sum(array.array("f", raw))):
        return 0
    return len(raw) // _FLOAT32_BYTES
