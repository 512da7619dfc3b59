"""The tokens that a local model tells, and that nothing is raised where it does not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gateway.providers import LlamaCpp, LocalModel, TakesApart, TokenIds

TOLD = {"before": [101], "ids": [7, 8], "after": [102], "total": 9, "window": 512}


@asynccontextmanager
async def front(socket: Path, answer: Any, status: int = 200) -> AsyncIterator[list[Any]]:
    """Serve a front that says one thing; gives what it was asked."""
    asked: list[Any] = []

    async def tell(request: web.Request) -> web.Response:
        asked.append(await request.json())
        if answer is None:
            await asyncio.Event().wait()
        return web.Response(body=answer if isinstance(answer, bytes) else json.dumps(answer).encode(), status=status)

    application = web.Application(client_max_size=1 << 25)
    application.router.add_post("/tokenize", tell)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.UnixSite(runner, str(socket)).start()
    try:
        yield asked
    finally:
        await runner.cleanup()


def make_provider(socket: Path) -> LlamaCpp:
    return LlamaCpp("local", {"tiny": LocalModel(socket, lambda: "", is_embedding=True)})


async def test_a_model_is_asked_for_its_tokens_over_its_socket(tmp_path: Path) -> None:
    async with front(tmp_path / "s", TOLD) as asked:
        taken = await make_provider(tmp_path / "s").take_apart("tiny", "a text", most=2)

    assert taken == TokenIds([101], [7, 8], [102], 9, 512)
    assert asked == [{"content": "a text", "most": 2}]


async def test_a_text_of_megabytes_is_taken(tmp_path: Path) -> None:
    async with front(tmp_path / "s", TOLD) as asked:
        await make_provider(tmp_path / "s").take_apart("tiny", "a" * 3_000_000)

    assert len(asked[0]["content"]) == 3_000_000


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ({"error": {}}, 501),
        ({"tokens": [1]}, 200),
        (b"no JSON", 200),
        ([], 200),
        ({**TOLD, "ids": None}, 200),
        (None, 200),
    ],
    ids=["refused", "another engine", "no JSON", "no object", "no ids", "no answer"],
)
async def test_a_model_that_does_not_tell_is_none(tmp_path: Path, answer: Any, status: int) -> None:
    async with front(tmp_path / "s", answer, status):
        assert await make_provider(tmp_path / "s").take_apart("tiny", "a", seconds=0.2) is None


@pytest.mark.parametrize("model", ["tiny", "unknown"])
async def test_nobody_there_is_none(tmp_path: Path, model: str) -> None:
    assert await make_provider(tmp_path / "nobody").take_apart(model, "a") is None


def test_the_provider_of_local_models_is_known_to_take_texts_apart(tmp_path: Path) -> None:
    assert isinstance(make_provider(tmp_path / "s"), TakesApart)
