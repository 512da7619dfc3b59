"""`x-gateway-truncation`: which words it may have at which endpoint; wherever nothing is cut, it is refused by name."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from tests.support.app import Answer, RunningGateway
from tests.support.upstream import ScriptedUpstream

HEADER = "x-gateway-truncation"
MESSAGES = [{"role": "user", "content": "Hi"}]
BODIES: dict[str, dict[str, Any]] = {
    "chat/completions": {"model": "small", "messages": MESSAGES},
    "completions": {"model": "small", "prompt": "Hi"},
    "embeddings": {"model": "embedding", "input": "Hi"},
    "images/generations": {"model": "small", "prompt": "a cat"},
    "rerank": {"model": "small", "query": "cats", "documents": ["a cat", "a dog"]},
}


async def ask(gateway: RunningGateway, path: str, body: dict[str, Any], word: str) -> Answer:
    return await gateway.ask(
        "POST",
        f"/v1/{path}",
        data=io.BytesIO(json.dumps(body).encode()),
        headers={"Content-Type": "application/json", HEADER: word},
    )


@pytest.mark.parametrize("word", ["refuse", "end", "none", ""])
@pytest.mark.parametrize("endpoint", ["images/generations", "rerank"])
async def test_it_is_refused_where_nothing_is_cut(
    gateway: RunningGateway, upstream: ScriptedUpstream, endpoint: str, word: str
) -> None:
    answer = await ask(gateway, endpoint, BODIES[endpoint], word)

    assert answer.status == 400
    assert (answer.error["param"], answer.error["type"]) == (HEADER, "invalid_request_error")
    assert answer.error["message"] == "Nothing is cut at this endpoint."
    assert upstream.requests == []


@pytest.mark.parametrize(
    ("endpoint", "word"),
    [
        ("chat/completions", "mean_pool"),
        ("chat/completions", "sideways"),
        ("completions", "none"),
        ("embeddings", "drop_oldest"),
        ("embeddings", "refuse"),
    ],
)
@pytest.mark.parametrize("counts", [False, True], ids=["asked", "counted"])
async def test_a_word_of_another_endpoint_is_refused_and_those_that_it_may_have_are_told(
    gateway: RunningGateway, upstream: ScriptedUpstream, endpoint: str, word: str, counts: bool
) -> None:
    answer = await ask(gateway, "tokens/count" if counts else endpoint, BODIES[endpoint], word)

    assert answer.status == 400
    assert answer.error["param"] == HEADER
    assert ("mean_pool" if endpoint == "embeddings" else "drop_oldest") in answer.error["message"]
    assert upstream.requests == []


@pytest.mark.parametrize("counts", [False, True], ids=["asked", "counted"])
@pytest.mark.parametrize("endpoint", ["chat/completions", "completions", "embeddings"])
async def test_capitals_and_spaces_around_it_do_not_matter(
    gateway: RunningGateway, endpoint: str, counts: bool
) -> None:
    word = " MEAN_POOL " if endpoint == "embeddings" else "\tRefuse "

    answer = await ask(gateway, "tokens/count" if counts else endpoint, BODIES[endpoint], word)

    assert answer.status == 200, answer.body
