"""Reranking on the wire that Jina and Cohere share: the shape of a request, and what an answer must hold.

Texts are the caller's, so of them only their kinds are looked at. What becomes of a wrong answer is decided in
`providers/`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Required

from pydantic import ConfigDict, Discriminator, Field, Tag, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from gateway.call import Usage
from gateway.wire.mistakes import explain
from gateway.wire.usage import read_usage

MAX_DOCUMENTS = 2048

_open = with_config(ConfigDict(extra="allow", strict=True))


def _kind(value: Any) -> str | None:
    if isinstance(value, str):
        return "~string"
    return "~object" if isinstance(value, dict) else None


@_open
class Document(TypedDict, total=False):
    text: Required[str]


@_open
class Rerank(TypedDict, total=False):
    model: Required[Annotated[str, Field(min_length=1)]]
    query: Required[Annotated[str, Field(min_length=1)]]
    documents: Required[
        Annotated[
            list[
                Annotated[
                    Annotated[str, Tag("~string")] | Annotated[Document, Tag("~object")],
                    Discriminator(_kind),
                ]
            ],
            Field(min_length=1, max_length=MAX_DOCUMENTS, fail_fast=True),
        ]
    ]
    top_n: Annotated[int, Field(ge=1, le=2**31 - 1)] | None
    return_documents: bool | None
    user: str | None


_rerank = TypeAdapter(Rerank).validator


def check_rerank(body: dict[str, Any]) -> None:
    """Raise InvalidRequest, its `param` naming the field, unless `body` is a rerank request."""
    try:
        _rerank.validate_python(body)
    except ValidationError as error:
        raise explain(error.errors(include_url=False)[0]) from None


def find_ranking_flaw(reply: Mapping[str, Any], request: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the answer to this request, in words that end a sentence; None where nothing is."""
    results = _results(reply)
    if not isinstance(results, list) or not all(isinstance(result, dict) for result in results):
        return "no list of results"
    documents = len(request["documents"])
    least = min(request.get("top_n") or documents, documents)
    if not least <= len(results) <= documents:
        return f"{len(results)} results for {least} documents"
    places = [result.get("index") for result in results]
    if not all(type(place) is int and 0 <= place < documents for place in places) or len(set(places)) < len(places):
        return "a result for no document or several for one"
    if not all(_is_score(result.get("relevance_score")) for result in results):
        return "a relevance_score that is no number"
    return None


def arrange_ranking(reply: Mapping[str, Any], request: Mapping[str, Any], model: str) -> dict[str, Any]:
    """Return the answer, which has no flaw, in the one form there is here: the best first, and no more than were asked for.

    `model` is told where the upstream did not. Documents are the caller's own, as objects, and there if it asked for them.
    """
    best = sorted(_results(reply), key=lambda result: (-result["relevance_score"], result["index"]))
    results = []
    for result in best[: request.get("top_n")]:
        told = {"index": result["index"], "relevance_score": result["relevance_score"]}
        if request.get("return_documents"):
            document = request["documents"][result["index"]]
            told["document"] = {"text": document} if isinstance(document, str) else document
        results.append(told)
    kept = {name: value for name, value in reply.items() if name not in ("data", "results")}
    usage = reply.get("usage") if read_rank_usage(reply.get("usage")) is not None else None
    named = {"object": "list", "model": reply.get("model") or model, "usage": usage}
    return {**kept, **named, "results": results}


def read_rank_usage(reported: Any) -> Usage | None:
    """Return the `usage` of an answer, where some tell the sum only; None when it is absent or makes no sense."""
    if isinstance(reported, dict) and "prompt_tokens" not in reported:
        return read_usage({"prompt_tokens": reported.get("total_tokens")})
    return read_usage(reported)


def _results(reply: Mapping[str, Any]) -> Any:
    return reply["results"] if "results" in reply else reply.get("data")


def _is_score(value: Any) -> bool:
    return type(value) in (float, int) and math.isfinite(value)
