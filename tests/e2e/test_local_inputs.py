"""Inputs of embeddings that are over the window of the real model, where the settings want them cut."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.worker import Client, Worker, client_of, running

EMBEDDINGS = "/v1/embeddings"
WINDOW = 512


@pytest.fixture(scope="module")
def cutting_worker(embedding_gguf: Path) -> Iterator[Worker]:
    with running(embedding_gguf, "--embedding", "--too-long", "cut") as worker:
        yield worker


@pytest.fixture
async def embedder(cutting_worker: Worker) -> AsyncIterator[Client]:
    async with client_of(cutting_worker) as client:
        yield client


async def embed(client: Client, given: Any) -> Any:
    status, body = await client.post(EMBEDDINGS, {"model": "any", "input": given})
    assert status == 200, body
    return body


async def test_a_long_text_is_embedded_by_its_beginning_and_the_answer_says_so(embedder: Client) -> None:
    body = await embed(embedder, "word " * 600)

    beginning = await embed(embedder, "word " * (WINDOW - 2))
    assert body["usage"] == {"prompt_tokens": WINDOW, "total_tokens": WINDOW, "truncated_tokens": 90}
    assert body["data"][0]["embedding"] == pytest.approx(beginning["data"][0]["embedding"], abs=1e-4)


async def test_others_beside_it_are_left_as_they_are(embedder: Client) -> None:
    alone = await embed(embedder, "a short one")

    body = await embed(embedder, ["word " * 600, "a short one", "word " * 601])

    assert [item["index"] for item in body["data"]] == [0, 1, 2]
    assert body["data"][1]["embedding"] == pytest.approx(alone["data"][0]["embedding"], abs=1e-4)
    assert body["usage"]["truncated_tokens"] == 181


async def test_nothing_is_said_where_nothing_is_cut(embedder: Client) -> None:
    body = await embed(embedder, ["word " * (WINDOW - 2)])

    assert body["usage"] == {"prompt_tokens": WINDOW, "total_tokens": WINDOW}


async def test_token_ids_are_cut_too_with_the_models_marks_around_them(embedder: Client) -> None:
    body = await embed(embedder, [1037] * 700)

    assert body["usage"]["prompt_tokens"] == WINDOW
    assert body["usage"]["truncated_tokens"] == 190


async def test_many_inputs_come_back_in_order_with_all_their_tokens(embedder: Client) -> None:
    texts = [f"text number {number}" for number in range(40)]
    alone = [await embed(embedder, text) for text in (texts[0], texts[17], texts[39])]

    body = await embed(embedder, [*texts, "word " * 600])

    vectors = [item["embedding"] for item in body["data"]]
    assert [item["index"] for item in body["data"]] == list(range(41))
    assert [vectors[0], vectors[17], vectors[39]] == [answer["data"][0]["embedding"] for answer in alone]
    assert body["usage"]["prompt_tokens"] > 40 * 4 + WINDOW
    assert body["usage"]["truncated_tokens"] == 90
