"""The OpenAI body around vectors: one input after the other out of a request, and the answer from float32 bytes.

No number becomes a Python float on the way out: base64 is the bytes themselves, and digits are written from where they
lie. Where the vectors come from is no matter here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import orjson
import pybase64

from gateway.call import Usage


def split_inputs(given: Any) -> list[str | list[int]]:
    """Return the single inputs of a checked request's `input`, in their order: texts or lists of token ids."""
    if isinstance(given, str):
        return [given]
    return list(given) if isinstance(given[0], str | list) else [given]


def answer_pieces(
    vectors: Sequence[bytes], *, model: str, usage: Usage, encoding: str | None = None
) -> Iterator[bytes]:
    """Yield the body of the answer in pieces, two for each vector, so that a large one can be built in steps.

    But for the `encoding` base64 there are digits: the fewest that are the same float32 again. No piece is copied on the
    way to being joined: many vectors are half a megabyte.
    """
    is_text = encoding == "base64"
    quote = b'"' if is_text else b""
    first = b'{"object":"list","data":[{"object":"embedding","index":%d,"embedding":' + quote
    later = quote + b'},{"object":"embedding","index":%d,"embedding":' + quote
    for index, text in enumerate(map(pybase64.b64encode, vectors) if is_text else _in_digits(vectors)):
        yield (later if index else first) % index
        yield text
    yield b'%b}],"model":%b,"usage":%b}' % (quote, orjson.dumps(model), orjson.dumps(_tell(usage)))


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
