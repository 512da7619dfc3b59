"""The OpenAI body around vectors: one input after the other out of a request, and the answer from float32 bytes.

No number becomes a Python float on the way out: base64 is the bytes themselves, and digits are written from where they
lie. Where the vectors come from is no matter here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any

import orjson
import pybase64

from gateway.call import Usage
from gateway.wire.requests import MAX_INPUTS

_BLOCK_BYTES = 128 * 1024
_BLOCK_VECTORS = 128  # short ones cost more for being one than for their numbers


def split_inputs(given: Any) -> list[str | list[int]]:
    """Return the single inputs of a checked request's `input`, in their order: texts or lists of token ids."""
    if isinstance(given, str):
        return [given]
    return list(given) if isinstance(given[0], str | list) else [given]


@dataclass(frozen=True, slots=True)
class Written:
    """The body of an answer in blocks, made as they are asked for; `length` is that of all, None where nobody knows yet."""

    blocks: Iterator[bytes]
    length: int | None


def write_answer(vectors: Sequence[bytes], *, model: str, usage: Usage, encoding: str | None = None) -> Written:
    """Return the body of the answer with these vectors, which are of one size and at most MAX_INPUTS.

    But for the `encoding` base64 there are digits: the fewest that are the same float32 again. A block is at most about
    128 KiB long, unless a vector is: what has just been encoded is still in the processor's cache when it is sent.
    """
    tail = b'}],"model":%b,"usage":%b}' % (orjson.dumps(model), orjson.dumps(_tell(usage)))
    if encoding != "base64":
        return Written(_blocks(vectors, _heads(""), _in_digits(vectors), tail), None)
    heads, tail = _heads('"'), b'"' + tail
    size = 4 * ((len(vectors[0]) + 2) // 3)
    length = sum(map(len, heads[: len(vectors)])) + len(vectors) * size + len(tail)
    return Written(_blocks(vectors, heads, map(pybase64.b64encode, vectors), tail), length)


def _blocks(vectors: Sequence[bytes], heads: Sequence[bytes], encoded: Iterator[bytes], tail: bytes) -> Iterator[bytes]:
    step = max(1, min(_BLOCK_VECTORS, _BLOCK_BYTES // (2 * len(vectors[0]))))
    for start in range(0, len(vectors), step):
        end = min(start + step, len(vectors))
        pieces = chain.from_iterable(zip(heads[start:end], encoded, strict=False))  # `encoded` goes on behind it
        yield b"".join(pieces) if end < len(vectors) else b"".join((*pieces, tail))


@cache
def _heads(quote: str) -> tuple[bytes, ...]:
    """Return what stands before each vector, the end of the one before it included."""
    first = '{"object":"list","data":['
    return tuple(
        f'{quote + "}," if index else first}{{"object":"embedding","index":{index},"embedding":{quote}'.encode()
        for index in range(MAX_INPUTS)
    )


def _in_digits(vectors: Sequence[bytes]) -> Iterator[bytes]:
    import numpy as np  # many processes never write digits, and it takes a tenth of a second

    written: dict[bytes, bytes] = {}
    for vector in vectors:
        text = written.get(vector)
        if text is None:
            text = orjson.dumps(np.frombuffer(vector, np.float32), option=orjson.OPT_SERIALIZE_NUMPY)
            written[vector] = text
        yield text


def _tell(usage: Usage) -> dict[str, Any]:
    told: dict[str, Any] = {"prompt_tokens": usage.prompt_tokens, "total_tokens": usage.prompt_tokens}
    if usage.cached_tokens > 0:
        told["prompt_tokens_details"] = {"cached_tokens": usage.cached_tokens}
    return told
