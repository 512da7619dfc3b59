"""A sound plain answer becomes the reply: put in order where the wire leaves it open, and its usage read.

Reading it, and what becomes of one that is not sound, is the business of `openai.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from gateway.call import Endpoint, Usage
from gateway.providers.base import Exchange, PlainReply
from gateway.wire import arrange_ranking, dump, in_order, is_in_order, read_image_usage, read_rank_usage, read_usage

_READ_USAGE: Mapping[Endpoint, Callable[[Any], Usage | None]] = MappingProxyType(
    {"images/generations": read_image_usage, "rerank": read_rank_usage}
)


def make_reply(payload: Mapping[str, Any], body: bytes, exchange: Exchange) -> PlainReply:
    """Return the reply that is `payload`, whose text is `body`; that is relayed as it is where it can be."""
    if exchange.endpoint == "embeddings" and not is_in_order(payload):
        body = dump(in_order(payload))
    elif exchange.endpoint == "rerank":
        body = dump(arrange_ranking(payload, exchange.body, exchange.model))
    usage = payload.get("usage")
    counted = _READ_USAGE.get(exchange.endpoint, read_usage)(usage)
    return PlainReply(body, counted, ("invalid_usage",) if usage is not None and counted is None else ())
