"""A plain answer becomes the reply: put in order where the wire leaves it open, vectors unpacked, its usage read.

Fetching it is the business of `openai.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from gateway.call import Endpoint, Flaw, Usage
from gateway.errors import UpstreamProtocolError, UpstreamWrongSize
from gateway.providers.base import Exchange, PlainReply
from gateway.providers.whole import flaw_of
from gateway.wire import (
    FLOAT_BYTES,
    arrange_ranking,
    dump,
    read_image_usage,
    read_rank_usage,
    read_usage,
    read_vectors,
)

_READ_USAGE: Mapping[Endpoint, Callable[[Any], Usage | None]] = MappingProxyType(
    {"images/generations": read_image_usage, "rerank": read_rank_usage}
)


def make_reply(payload: Mapping[str, Any], body: bytes, exchange: Exchange) -> PlainReply:
    """Return the reply that is `payload`, whose text is `body`; that is relayed as it is where it can be.

    Raises UpstreamProtocolError for an answer that is not sound.
    """
    usage = payload.get("usage")
    counted = _READ_USAGE.get(exchange.endpoint, read_usage)(usage)
    flaws: tuple[Flaw, ...] = ("invalid_usage",) if usage is not None and counted is None else ()
    if exchange.endpoint == "embeddings":
        model = payload.get("model")
        vectors = unpack_vectors(payload, exchange)
        return PlainReply(b"", counted, flaws, vectors, model if isinstance(model, str) else "")
    flaw = flaw_of(payload, exchange)
    if flaw is not None:
        raise _unsound(flaw)
    if exchange.endpoint == "rerank":
        body = dump(arrange_ranking(payload, exchange.body, exchange.model))
    return PlainReply(body, counted, flaws)


def unpack_vectors(payload: Mapping[str, Any], exchange: Exchange) -> tuple[bytes, ...]:
    """Return the vectors of an answer: float32, little-endian, in the order of the inputs.

    Raises UpstreamWrongSize where they have not as many numbers as is expected, UpstreamProtocolError where they are
    wrong in another way.
    """
    vectors = read_vectors(payload, exchange.body)
    if isinstance(vectors, str):
        raise _unsound(vectors)
    expected = exchange.body.get("dimensions") or exchange.dimensions
    size = len(vectors[0]) // FLOAT_BYTES
    if expected is not None and size != expected:
        raise UpstreamWrongSize(f"The upstream's answer has embeddings of {size} numbers instead of {expected}.")
    return vectors


def _unsound(flaw: str) -> UpstreamProtocolError:
    return UpstreamProtocolError(f"The upstream's answer has {flaw}.", code="upstream_bad_response")
