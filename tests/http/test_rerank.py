"""POST /v1/rerank."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.app import RunningGateway, make_config, running
from tests.support.upstream import Body, Malformed, ScriptedUpstream, Status

ASKED: dict[str, Any] = {"model": "small", "query": "cats", "documents": ["a dog", {"text": "a cat"}, "a car"]}
USAGE = {"prompt_tokens": 9, "total_tokens": 9}


def ranking(*scores: float, **more: Any) -> Body:
    results = [{"index": index, "relevance_score": score} for index, score in enumerate(scores)]
    return Body(json.dumps({"model": "model", "object": "list", "usage": USAGE, "results": results, **more}).encode())


async def test_documents_are_ranked_the_best_first(gateway: RunningGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(ranking(0.1, 0.9, -2.5))

    answer = await gateway.post("rerank", ASKED)

    assert answer.status == 200
    assert answer.json == {
        "model": "model",
        "object": "list",
        "usage": USAGE,
        "results": [
            {"index": 1, "relevance_score": 0.9},
            {"index": 0, "relevance_score": 0.1},
            {"index": 2, "relevance_score": -2.5},
        ],
    }


async def test_the_request_travels_on_as_it_is(gateway: RunningGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(ranking(0.1, 0.9, -2.5))

    await gateway.post("rerank", {**ASKED, "top_n": 2, "max_tokens_per_doc": 64, "stream": True})

    assert upstream.requests[0].path == "/v1/rerank"
    assert upstream.requests[0].json == {**ASKED, "model": "model", "top_n": 2, "max_tokens_per_doc": 64}


async def test_the_first_n_come_with_their_documents_when_asked(
    gateway: RunningGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(ranking(0.1, 0.9, 0.5))

    answer = await gateway.post("rerank", {**ASKED, "top_n": 2, "return_documents": True})

    assert answer.json["results"] == [
        {"index": 1, "relevance_score": 0.9, "document": {"text": "a cat"}},
        {"index": 2, "relevance_score": 0.5, "document": {"text": "a car"}},
    ]


async def test_it_is_logged_and_counted_with_its_usage(upstream: ScriptedUpstream) -> None:
    upstream.script(ranking(0.1, 0.9, 0.5))

    async with running(make_config(upstream)) as gateway:
        await gateway.post("rerank", ASKED)
        figures = await gateway.figures()

    line = gateway.lines()[0]
    assert (line["endpoint"], line["stream"], line["prompt_tokens"]) == ("/v1/rerank", False, 9)
    assert figures["gateway_requests_total", "/v1/rerank", "200", "small"] == 1


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"query": None}, "query"),
        ({"documents": []}, "documents"),
        ({"documents": ["a", 3]}, "documents[1]"),
        ({"documents": [{"title": "a"}]}, "documents[0].text"),
        ({"top_n": 0}, "top_n"),
    ],
)
async def test_a_mistake_names_its_field(
    gateway: RunningGateway, upstream: ScriptedUpstream, fields: dict[str, Any], param: str
) -> None:
    answer = await gateway.post("rerank", {**ASKED, **fields})

    assert answer.status == 400
    assert (answer.error["type"], answer.error["param"]) == ("invalid_request_error", param)
    assert upstream.requests == []


@pytest.mark.parametrize(
    "behaviour",
    [
        Malformed(),
        Body(b"[]"),
        Body(b"{}"),
        ranking(0.1, 0.9),
        ranking(0.1, 0.9, 0.5, 0.6),
        ranking(0.1, 0.9, 0.5, results=[{"index": 0, "relevance_score": 1}] * 3),
        Body(ranking(0.1, 0.9, 7.5).content.replace(b"7.5", b"1e999")),
    ],
    ids=["half an object", "a list", "nothing", "too few", "too many", "one thrice", "infinity"],
)
async def test_a_wrong_answer_is_the_upstreams_failure(
    gateway: RunningGateway, upstream: ScriptedUpstream, behaviour: Body
) -> None:
    upstream.script(behaviour)

    answer = await gateway.post("rerank", ASKED)

    assert answer.status == 502
    assert answer.error["code"] == "upstream_bad_response"


@pytest.mark.parametrize("status", [404, 405])
async def test_an_upstream_that_cannot_rank_is_told_as_that(
    gateway: RunningGateway, upstream: ScriptedUpstream, status: int
) -> None:
    upstream.script(Status(status, body={"detail": "Not Found"}))

    answer = await gateway.post("rerank", ASKED)

    assert answer.status == 404
    assert (answer.error["code"], answer.error["param"]) == ("endpoint_not_supported", "model")


async def test_a_deployment_that_cannot_rank_leaves_it_to_one_that_can(upstream: ScriptedUpstream) -> None:
    upstream.script(ranking(0.1, 0.9, 0.5))

    async with ScriptedUpstream() as other, running(make_config(other, upstream)) as gateway:
        other.script(Status(404, body="404 page not found"))
        answer = await gateway.post("rerank", ASKED)

    assert answer.status == 200
    assert len(other.requests) == 1


async def test_a_lane_without_reranking_says_so() -> None:
    provider = {"kind": "litellm", "prefix": "anthropic", "api_key": "k"}
    text = json.dumps({"providers": {"up": provider}, "models": {"small": {"deployments": ["up/claude"]}}})

    async with running(text) as gateway:
        answer = await gateway.post("rerank", ASKED)

    assert answer.status == 404
    assert (answer.error["code"], answer.error["param"]) == ("endpoint_not_supported", "model")


async def test_a_failing_deployment_is_followed_by_another(upstream: ScriptedUpstream) -> None:
    upstream.script(ranking(0.1, 0.9, 0.5))

    async with ScriptedUpstream() as other, running(make_config(other, upstream)) as gateway:
        other.script(Status(500))
        answer = await gateway.post("rerank", ASKED)

    assert answer.status == 200


async def test_a_key_is_asked_for(upstream: ScriptedUpstream) -> None:
    keys = [{"name": "me", "key": "sk-gw-0123456789abcdef"}]

    async with running(make_config(upstream, keys=keys)) as gateway:
        answer = await gateway.post("rerank", ASKED)

    assert answer.status == 401
