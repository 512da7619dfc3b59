"""A real model that ranks, alone and behind the gateway; and models that do not."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.support.command import Gateway, serving
from tests.support.remade import make_reranker
from tests.support.worker import Client, Worker, client_of, command, running

RERANK = "/v1/rerank"
DOCUMENTS = ["a dog", "a cat sat", "the sky is blue"]
YAML = 'providers: {{local: {{kind: llamacpp, models: {{ranker: {{path: "{path}", rerank: true}}}}}}}}'


@pytest.fixture(scope="module")
def ranker(embedding_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_reranker(embedding_gguf, tmp_path_factory.mktemp("models") / "ranker.gguf")


@pytest.fixture(scope="module")
def ranking_worker(ranker: Path) -> Iterator[Worker]:
    with running(ranker, "--rerank") as worker:
        yield worker


@pytest.fixture
async def client(ranking_worker: Worker) -> AsyncIterator[Client]:
    async with client_of(ranking_worker) as made:
        yield made


@pytest.fixture(scope="module")
def gateway(ranker: Path) -> Iterator[Gateway]:
    with TemporaryDirectory() as directory, serving(YAML.format(path=ranker), Path(directory)) as made:
        made.wait_for(lambda: made.events("model_ready"))
        yield made


def post(gateway: Gateway, path: str, **fields: Any) -> tuple[int, Any]:
    body = json.dumps({"model": "local/ranker", **fields}).encode()
    request = urllib.request.Request(f"{gateway.api_url}/{path}", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


async def scores(client: Client, documents: list[str]) -> dict[str, float]:
    status, body = await client.post(RERANK, {"query": "a cat", "documents": documents})
    assert status == 200, body
    return {documents[result["index"]]: result["relevance_score"] for result in body["results"]}


async def test_a_score_belongs_to_its_document_wherever_it_stands(client: Client) -> None:
    one_way = await scores(client, DOCUMENTS)
    other_way = await scores(client, DOCUMENTS[::-1])

    assert one_way == pytest.approx(other_way, abs=1e-5)
    assert len(set(one_way.values())) == 3


async def test_many_documents_are_ranked_as_few_are(client: Client) -> None:
    documents = [f"a cat and {number} dogs" for number in range(40)]
    expected: dict[str, float] = {}
    for start in range(0, 40, 10):
        expected |= await scores(client, documents[start : start + 10])

    status, body = await client.post(RERANK, {"query": "a cat", "documents": documents, "top_n": 20})

    found = {documents[result["index"]]: result["relevance_score"] for result in body["results"]}
    best = sorted(expected, key=lambda text: -expected[text])[:20]
    assert status == 200
    assert list(found) == best
    assert found == pytest.approx({text: expected[text] for text in best}, abs=1e-5)


async def test_the_head_of_the_model_makes_the_score(client: Client, embedding_gguf: Path, tmp_path: Path) -> None:
    opposite = make_reranker(embedding_gguf, tmp_path / "opposite.gguf", factor=-2.0)
    with running(opposite, "--rerank") as worker:
        async with client_of(worker) as other:
            turned = await scores(other, DOCUMENTS)

    assert turned == pytest.approx({text: -2 * score for text, score in (await scores(client, DOCUMENTS)).items()})


async def test_a_document_over_the_window_is_refused(client: Client) -> None:
    status, body = await client.post(RERANK, {"query": "a cat", "documents": ["a", "dog " * 600]})

    assert (status, body["error"]["type"]) == (400, "exceed_context_size_error")


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/completions", "/v1/chat/completions"])
async def test_it_does_nothing_else(client: Client, path: str) -> None:
    status, body = await client.post(
        path, {"input": "a", "prompt": "a", "messages": [{"role": "user", "content": "a"}]}
    )

    assert (status, body["error"]["type"]) == (501, "not_supported_error")


@pytest.mark.parametrize("name", ["chat_gguf", "embedding_gguf"])
def test_a_model_without_a_head_is_not_started_as_a_reranker(
    request: pytest.FixtureRequest, tmp_path: Path, name: str
) -> None:
    model = request.getfixturevalue(name)

    ended = subprocess.run(
        command(model, tmp_path / "m.sock", "--rerank"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode == 65
    assert json.loads(ended.stdout) == {
        "event": "failed",
        "reason": f"{model.name}: the model is no reranker",
        "matter": "it is no reranker",
    }


def test_the_gateway_gives_the_best_with_their_documents(gateway: Gateway) -> None:
    status, body = post(
        gateway,
        "rerank",
        query="a cat",
        documents=[{"text": DOCUMENTS[0]}, *DOCUMENTS[1:]],
        top_n=2,
        return_documents=True,
    )

    assert status == 200, body
    assert (body["object"], len(body["results"])) == ("list", 2)
    assert body["results"][0]["relevance_score"] > body["results"][1]["relevance_score"]
    assert all(each["document"] == {"text": DOCUMENTS[each["index"]]} for each in body["results"])
    assert body["usage"]["prompt_tokens"] == body["usage"]["total_tokens"] > 6


def test_a_document_over_the_window_is_the_callers_mistake(gateway: Gateway) -> None:
    status, body = post(gateway, "rerank", query="a cat", documents=["dog " * 600])

    assert (status, body["error"]["code"], body["error"]["param"]) == (400, "context_length_exceeded", "documents")


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("embeddings", {"input": "a"}),
        ("completions", {"prompt": "a"}),
        ("chat/completions", {"messages": [{"role": "user", "content": "a"}]}),
    ],
)
def test_a_reranker_is_asked_for_nothing_else(gateway: Gateway, path: str, fields: dict[str, Any]) -> None:
    status, body = post(gateway, path, **fields)

    assert (status, body["error"]["code"], body["error"]["param"]) == (400, "unsupported_model", "model")
