"""POST /v1/tokens/count: what a request would come to at each deployment of its name; nothing is sent anywhere.

The request is what would be posted to the endpoint that answers it. Counting itself is in `dispatch/`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

from gateway.cache import FIELD
from gateway.call import Caller, Endpoint
from gateway.dispatch import TokenCount, TokenCounts
from gateway.errors import InvalidRequest
from gateway.http.answers import json_response
from gateway.http.body import read_call
from gateway.routing import EMBEDDING_TRUNCATIONS, TRUNCATION_HEADER, check_truncation
from gateway.wire import check_chat, check_completion, check_embedding, refuse_steering

_OWN = frozenset({FIELD})  # of embeddings
_KINDS: Mapping[str, Endpoint] = {"messages": "chat/completions", "prompt": "completions", "input": "embeddings"}
_CHECKS = {"chat/completions": check_chat, "completions": check_completion, "embeddings": check_embedding}


class TokenRoutes:
    def __init__(self, counts: TokenCounts) -> None:
        self._counts = counts

    async def count(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        truncation = request.headers.get(TRUNCATION_HEADER, "")
        # What is meant is known when the body has been read: until then, by what is said of it.
        is_embedding = truncation.strip().lower() in EMBEDDING_TRUNCATIONS
        meant: Endpoint = "embeddings" if is_embedding else "chat/completions"
        call = await read_call(request, caller, meant, check_countable, own=_OWN)
        call.endpoint = endpoint_of(call.body)
        call.stream = call.record.stream = False
        if truncation:
            check_truncation(truncation, call.endpoint)
        return json_response(describe_counts(*await self._counts.count(call)))


def check_countable(body: dict[str, Any]) -> None:
    """Raise InvalidRequest, its `param` naming the field, unless `body` is a request whose tokens can be counted.

    That it is one is decided by its field `messages`, `prompt` or `input`, the first that is there.
    """
    endpoint = endpoint_of(body)
    refuse_steering(body.keys() - _OWN if endpoint == "embeddings" else body.keys())
    _CHECKS[endpoint](body)


def endpoint_of(body: Mapping[str, Any]) -> Endpoint:
    """Return the endpoint that a request is for; raises InvalidRequest where its body does not tell."""
    for field, endpoint in _KINDS.items():
        if body.get(field) is not None:
            return endpoint
    raise InvalidRequest(
        "Missing required parameter: 'messages', or 'prompt' of a completion, or 'input' of embeddings.",
        param="messages",
        code="missing_required_parameter",
    )


def describe_counts(alias: str, counts: Sequence[TokenCount]) -> dict[str, Any]:
    """Return the body of the answer."""
    return {"object": "token_count", "model": alias, "deployments": counts}
