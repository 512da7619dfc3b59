"""What upstreams give for embeddings, and what callers get of it: the same numbers in any form, of the expected size."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from tests.support.app import RunningGateway, running
from tests.support.embedding import expected, vectors_of
from tests.support.upstream import (
    Embeddings,
    ScriptedUpstream,
    Status,
    put_nan_in_base64,
    reverse_order,
)

Start = Callable[..., AbstractAsyncContextManager[RunningGateway]]
TEXTS = ["one", "zwei", "三"]
UNSIZED = Status(400, param="dimensions", code="unsupported_parameter", message="Unknown parameter: 'dimensions'.")


@pytest.fixture
async def other() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as second:
        yield second


@pytest.fixture
def start(upstream: ScriptedUpstream, other: ScriptedUpstream) -> Start:
    """Return what runs a gateway whose alias `vectors` asks `upstream`, then `other`, for a model of one name."""

    def begin(**written: Any) -> AbstractAsyncContextManager[RunningGateway]:
        providers = {
            name: {"kind": "openai", "base_url": each.base_url}
            for name, each in {"first": upstream, "second": other}.items()
        }
        deployments = [{"provider": name, "model": "e", **written} for name in providers]
        models = {"vectors": {"deployments": deployments}}
        return running(json.dumps({"providers": providers, "models": models, "embeddings": {"cache": None}}))

    return begin


def sizes(upstream: ScriptedUpstream) -> list[int | None]:
    """Return the `dimensions` that each request asked for."""
    return [request.json.get("dimensions") for request in upstream.requests]


@pytest.mark.parametrize("given", ["float", "base64"])
@pytest.mark.parametrize("wanted", [None, "float", "base64"])
async def test_callers_get_the_form_they_want_of_any_that_comes(
    start: Start, upstream: ScriptedUpstream, given: str, wanted: str | None
) -> None:
    upstream.script(Embeddings(force=given, spoil=reverse_order))

    async with start() as gateway:
        answer = await gateway.post("embeddings", {"model": "vectors", "input": TEXTS, "encoding_format": wanted})

    is_coded = [isinstance(item["embedding"], str) for item in answer.json["data"]]
    assert is_coded == [wanted == "base64"] * 3
    assert vectors_of(answer) == expected(*TEXTS)
    assert answer.json["usage"] == {"prompt_tokens": 3, "total_tokens": 3}


async def test_an_upstream_without_base64_is_found_out_once(start: Start, upstream: ScriptedUpstream) -> None:
    upstream.script(Status(400, message="base64 encoding is not currently supported"))

    async with start() as gateway:
        answers = [await gateway.post("embeddings", {"model": "vectors", "input": text}) for text in TEXTS]

    assert [answer.status for answer in answers] == [200, 200, 200]
    assert [request.json.get("encoding_format") for request in upstream.requests] == ["base64", None, None, None]


async def test_a_model_is_asked_for_the_size_that_is_expected(
    start: Start, upstream: ScriptedUpstream, other: ScriptedUpstream
) -> None:
    async with start(dimensions=4) as gateway:
        answer = await gateway.post("embeddings", {"model": "vectors", "input": "one"})

    assert vectors_of(answer) == expected("one", size=4)
    assert (sizes(upstream), sizes(other)) == ([None, 4], [])


@pytest.mark.parametrize("second", [UNSIZED, Embeddings(spoil=lambda items: [{**items[0], "embedding": [0.5] * 8}])])
async def test_where_it_has_not_that_size_the_next_deployment_is_asked(
    start: Start, upstream: ScriptedUpstream, other: ScriptedUpstream, second: Any
) -> None:
    upstream.script(Embeddings(), second)
    other.script(Embeddings(size=4))

    async with start(dimensions=4) as gateway:
        answer = await gateway.post("embeddings", {"model": "vectors", "input": "one"})

    assert vectors_of(answer) == expected("one", size=4)
    assert (sizes(upstream), sizes(other)) == ([None, 4], [None])


async def test_where_nobody_has_that_size_it_is_not_the_callers_fault(
    start: Start, upstream: ScriptedUpstream, other: ScriptedUpstream
) -> None:
    for each in (upstream, other):
        each.script(Embeddings(), UNSIZED)

    async with start(dimensions=4) as gateway:
        answer = await gateway.post("embeddings", {"model": "vectors", "input": "one"})

    assert (answer.status, answer.error["code"]) == (502, "upstream_bad_response")
    assert "of 8 numbers instead of 4" in answer.error["message"]
    assert (sizes(upstream), sizes(other)) == ([None, 4], [None, 4])


async def test_a_size_that_the_caller_names_and_the_model_refuses_is_told(
    start: Start, upstream: ScriptedUpstream, other: ScriptedUpstream
) -> None:
    upstream.script(UNSIZED)

    async with start() as gateway:
        answer = await gateway.post("embeddings", {"model": "vectors", "input": "one", "dimensions": 4})

    assert (answer.status, answer.error["param"]) == (400, "dimensions")
    assert (sizes(upstream), sizes(other)) == ([4], [])


async def test_wrong_vectors_are_asked_for_elsewhere(
    start: Start, upstream: ScriptedUpstream, other: ScriptedUpstream
) -> None:
    upstream.script(Embeddings(spoil=put_nan_in_base64))

    async with start() as gateway:
        answer = await gateway.post("embeddings", {"model": "vectors", "input": TEXTS})

    assert vectors_of(answer) == expected(*TEXTS)
    assert len(other.requests) == 1
