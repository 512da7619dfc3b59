"""The middle of a text, filled in by a real model that has marks for it, and refused by one that has none."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.remade import make_filler
from tests.support.worker import Client, Worker, client_of, running

COMPLETIONS = "/v1/completions"
BEFORE, AFTER, MIDDLE = 4, 5, 6
WINDOW = 1024


@pytest.fixture(scope="module")
def filling_worker(chat_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    model = make_filler(
        chat_gguf, tmp_path_factory.mktemp("models") / "filler.gguf", before=BEFORE, after=AFTER, middle=MIDDLE
    )
    with running(model, "--context-window", str(WINDOW)) as worker:
        yield worker


@pytest.fixture
async def client(filling_worker: Worker) -> AsyncIterator[Client]:
    async with client_of(filling_worker) as made:
        yield made


def asked(**fields: Any) -> dict[str, Any]:
    return {"model": "any", "max_tokens": 6, "temperature": 0, "cache_prompt": False, **fields}


async def test_the_marks_of_the_model_stand_around_the_texts(client: Client) -> None:
    status, body = await client.post(COMPLETIONS, asked(prompt="def f(", suffix="return x"))

    tokens = {"def f(": [1604, 275, 24], "return x": [5406, 1792]}
    whole = [BEFORE, *tokens["def f("], AFTER, *tokens["return x"], MIDDLE]
    _, by_hand = await client.post(COMPLETIONS, asked(prompt=whole))
    assert status == 200, body
    assert body["usage"]["prompt_tokens"] == by_hand["usage"]["prompt_tokens"] == len(whole)
    assert body["choices"][0]["text"] == by_hand["choices"][0]["text"]


async def test_a_stream_tells_the_same(client: Client) -> None:
    _, plain = await client.post(COMPLETIONS, asked(prompt="def f(", suffix="return x"))

    events = [event async for event in client.stream(COMPLETIONS, asked(prompt="def f(", suffix="return x"))]

    assert "".join(event["choices"][0]["text"] for event in events) == plain["choices"][0]["text"]


async def test_a_text_over_the_window_is_refused_not_cut(client: Client) -> None:
    status, body = await client.post(COMPLETIONS, asked(prompt="word " * WINDOW, suffix="x"))

    assert (status, body["error"]["type"]) == (400, "exceed_context_size_error")


@pytest.mark.parametrize("prompt", [["a"], ["a", "b"], [1, 2]])
async def test_only_one_text_is_filled_in(client: Client, prompt: Any) -> None:
    status, body = await client.post(COMPLETIONS, asked(prompt=prompt, suffix="x"))

    assert (status, body["error"]["code"], body["error"]["param"]) == (400, "unsupported_parameter", "suffix")


async def test_a_model_without_marks_says_so(chat_gguf: Path) -> None:
    with running(chat_gguf, "--context-window", str(WINDOW)) as worker:
        async with client_of(worker) as other:
            status, body = await other.post(COMPLETIONS, asked(prompt="a", suffix="x"))

    assert (status, body["error"]["code"], body["error"]["param"]) == (400, "unsupported_parameter", "suffix")
