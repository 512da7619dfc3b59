"""Bodies that are read to their end before anybody sees them: how large they may be, and what they must hold.

What becomes of one that is wrong is decided in `plain.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import aiohttp
import orjson

from gateway.call import Endpoint
from gateway.errors import UpstreamTooLarge
from gateway.providers.base import Exchange
from gateway.wire import find_ranking_flaw, has_images

_KIB, _MIB = 1024, 1024 * 1024
# What an upstream that never stops costs of memory. Sixteen thousand tokens with twenty logprobs each are 24 MiB; an
# image may be 33 MB in base64; 2,048 vectors of 3,072 numbers are as much, and about twice that in digits.
MOST_BYTES: Mapping[Endpoint, int] = MappingProxyType(
    {
        "chat/completions": 24 * _MIB,
        "completions": 24 * _MIB,
        "embeddings": 64 * _MIB,
        "images/generations": 64 * _MIB,
        "rerank": 24 * _MIB,  # with the documents, if they come back
    }
)
_BYTES_OF_ANY_VECTORS, _BYTES_OF_ONE_VECTOR = 4 * _MIB, 256 * _KIB
MAX_ERROR_BYTES = 64 * 1024


def most_bytes(exchange: Exchange) -> int:
    """Return how large a good answer may be; whoever asks for few vectors need not hold many in memory."""
    limit = MOST_BYTES[exchange.endpoint]
    if exchange.endpoint != "embeddings":
        return limit
    asked = exchange.body.get("input")
    vectors = len(asked) if isinstance(asked, list) else 1
    return min(limit, _BYTES_OF_ANY_VECTORS + vectors * _BYTES_OF_ONE_VECTOR)


async def read_reply(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """Return the whole body; raises UpstreamTooLarge when it has more than `limit` bytes.

    What is too large is thrown away piece by piece, never put together.
    """
    content = response.content
    if content.is_eof() and content.total_bytes <= limit:
        return await response.read()
    announced = response.content_length
    pieces: list[bytes] = []
    if (announced is None or announced <= limit) and await _read(response, limit, pieces):
        return b"".join(pieces)
    response.close()
    raise UpstreamTooLarge("The upstream's answer is too large.")


async def read_beginning(
    response: aiohttp.ClientResponse, limit: int = MAX_ERROR_BYTES, pieces: list[bytes] | None = None
) -> bytes:
    """Return the body, cut somewhere after `limit` bytes; the connection is closed if there was more.

    `pieces` has what came so far, for whoever does not wait to the end.
    """
    pieces = [] if pieces is None else pieces
    if not await _read(response, limit, pieces):
        response.close()
    return b"".join(pieces)


def read_object(body: bytes) -> dict[str, Any] | None:
    """Return the JSON object that `body` is, None for anything else."""
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return payload if isinstance(payload, dict) else None


def flaw_of(payload: Mapping[str, Any], exchange: Exchange) -> str | None:
    """Return what is wrong with a plain answer that has no vectors, None where nothing is."""
    if exchange.endpoint == "rerank":
        return find_ranking_flaw(payload, exchange.body)
    is_answer = has_images(payload) if exchange.endpoint == "images/generations" else payload.get("choices")
    return None if is_answer else "nothing in it"


async def _read(response: aiohttp.ClientResponse, limit: int, pieces: list[bytes]) -> bool:
    """Add the pieces up to the first that is beyond `limit`; return whether that was all: then the response is free."""
    size = 0
    while piece := await response.content.readany():
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            return False
    response.release()
    return True
