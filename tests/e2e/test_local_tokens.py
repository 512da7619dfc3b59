"""Texts by the real model's own tokens: what is cut outside of its process gives the vectors that it gives itself."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway.providers import LlamaCpp, LocalModel
from gateway.tokens import Fitted, ModelTokenizer, Policy, fit_input
from gateway.wire import pool
from gateway.worker import EngineName, why_unavailable
from tests.support.worker import Client, Worker, client_of, running

WINDOW = 512
LONG = "The quick brown fox jumps over the lazy dog; 漢字 and naïve café, 12345! " * 60
ENGINES: tuple[EngineName, ...] = ("xllamacpp", "llama-cpp-python")


@pytest.fixture(scope="module", params=ENGINES)
def cutting(request: pytest.FixtureRequest, embedding_gguf: Path) -> Iterator[Worker]:
    if (reason := why_unavailable(request.param)) is not None:
        pytest.skip(reason)
    with running(embedding_gguf, "--embedding", "--too-long", "cut", "--engine", request.param) as worker:
        yield worker


@pytest.fixture
async def client(cutting: Worker) -> AsyncIterator[Client]:
    async with client_of(cutting) as client:
        yield client


async def embed(client: Client, *given: Any) -> list[list[float]]:
    status, body = await client.post("/v1/embeddings", {"model": "any", "input": list(given)})
    assert status == 200, body
    return [item["embedding"] for item in body["data"]]


async def fit(worker: Worker, given: str | list[int], policy: Policy) -> Fitted:
    provider = LlamaCpp("local", {"m": LocalModel(worker.socket, lambda: "", is_embedding=True)})

    async def ask(text: str, most: int | None) -> Any:
        return await provider.take_apart("m", text, most=most)

    return await fit_input(given, WINDOW, policy, ModelTokenizer(ask))


async def test_what_is_cut_by_ids_has_the_vector_of_what_the_model_cuts_itself(cutting: Worker, client: Client) -> None:
    fitted = await fit(cutting, LONG, "end")

    ours, its_own = await embed(client, fitted.pieces[0].given, LONG)
    _, body = await client.post("/v1/embeddings", {"model": "any", "input": LONG})
    assert ours == pytest.approx(its_own, abs=1e-6)
    assert fitted.pieces[0].tokens == WINDOW
    assert fitted.over == body["usage"]["truncated_tokens"]


async def test_the_parts_of_a_text_each_fit_and_are_all_of_it(cutting: Worker, client: Client) -> None:
    fitted = await fit(cutting, LONG, "mean_pool")

    status, body = await client.post(
        "/v1/embeddings", {"model": "any", "input": [each.given for each in fitted.pieces]}
    )
    assert status == 200
    assert "truncated_tokens" not in body["usage"]
    assert body["usage"]["prompt_tokens"] == sum(piece.tokens for piece in fitted.pieces)
    assert sum(piece.tokens - 2 for piece in fitted.pieces) == fitted.over + WINDOW - 2


async def test_ids_without_the_models_marks_get_them(cutting: Worker, client: Client) -> None:
    taken = (await client.post("/tokenize", {"content": "a short text"}))[1]
    bare, dressed = taken["ids"], [*taken["before"], *taken["ids"], *taken["after"]]

    vectors = await embed(client, "a short text", bare, dressed)

    assert (taken["before"], taken["after"], taken["window"]) == ([101], [102], WINDOW)
    assert vectors[1] == vectors[2] == pytest.approx(vectors[0], abs=1e-6)


async def test_a_text_under_the_window_in_tokens_goes_as_it_is(cutting: Worker) -> None:
    text = "information " * 100

    fitted = await fit(cutting, text, "end")

    assert (fitted.pieces[0].given, fitted.over) == (text, 0)


async def test_pooled_parts_are_near_what_they_are_about(cutting: Worker, client: Client) -> None:
    fitted = await fit(cutting, LONG, "mean_pool")
    other = (await embed(client, "Quarterly tax reports for limited companies."))[0]
    vectors = await embed(client, *(piece.given for piece in fitted.pieces))

    pooled = _numbers(pool([_packed(vector) for vector in vectors], [piece.tokens for piece in fitted.pieces]))

    alike = partial(_product, pooled)
    assert alike(pooled) == pytest.approx(1.0, abs=1e-5)
    assert alike(vectors[0]) > 0.9 > 0.5 > alike(other)


def _packed(vector: list[float]) -> bytes:
    return struct.pack(f"<{len(vector)}f", *vector)


def _numbers(vector: bytes) -> list[float]:
    return list(struct.unpack(f"<{len(vector) // 4}f", vector))


def _product(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))
