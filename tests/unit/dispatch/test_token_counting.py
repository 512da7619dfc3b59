"""Tokens of calls at models on this machine: told by a process that is loaded, else by the nearest encoding."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gateway.app import make_provider
from gateway.call import Call, Endpoint, Record
from gateway.config import parse, resolve
from gateway.dispatch import TokenCount, TokenCounts, Tokenizers
from gateway.routing import RouteTable
from gateway.rundir import ModelState, ModelStatus, model_socket, model_status, write_status
from gateway.tokens import Encodings
from tests.support.deployments import ANYONE

CONFIG = """
providers:
  local: {kind: llamacpp, models: {tiny: {path: /nowhere.gguf, context_window: 100}}}
models:
  mine: {deployments: [local/tiny]}
"""
CHAT = {"model": "mine", "messages": [{"role": "user", "content": "one two three four"}]}
LONG = {"model": "mine", "messages": [{"role": "user", "content": "word " * 60}, *CHAT["messages"]]}


class ModelProcess:
    """Takes words for tokens and puts one before and one behind each text; it fails where it `is_broken`.

    Where `breaks_after` is said, it answers so many questions before.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.is_broken = False
        self.breaks_after: int | None = None

    async def tokenize(self, request: web.Request) -> web.Response:
        text = (await request.json())["content"]
        self.asked.append(text)
        if self.is_broken or (self.breaks_after is not None and len(self.asked) > self.breaks_after):
            return web.json_response({}, status=500)
        told = {"before": [1], "after": [2], "ids": [], "total": len(text.split()), "window": 50}
        return web.json_response(told)


@pytest.fixture
async def process(tmp_path: Path) -> AsyncIterator[ModelProcess]:
    process = ModelProcess()
    application = web.Application()
    application.router.add_post("/tokenize", process.tokenize)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.UnixSite(runner, str(model_socket(tmp_path, "local", "tiny"))).start()
    yield process
    await runner.cleanup()


async def count(run_dir: Path, body: dict[str, Any], endpoint: Endpoint = "chat/completions") -> TokenCount:
    config = resolve(parse(CONFIG, "gateway.yaml", environ={}))
    providers = {name: make_provider(name, entry, run_dir) for name, entry in config.providers.items()}
    encodings = Encodings()
    loaded = partial(Tokenizers(encodings).loaded, run_dir)
    counts = TokenCounts(RouteTable(config.plan, providers), encodings, loaded)

    alias, (found,) = await counts.count(
        Call(endpoint, body, "mine", stream=False, caller=ANYONE, record=Record("", 0.0))
    )

    assert alias == "mine"
    return found


def be(run_dir: Path, state: ModelState) -> None:
    write_status(model_status(run_dir, "local", "tiny"), ModelStatus(state))


async def test_a_loaded_model_tells_its_own_tokens_and_window(process: ModelProcess, tmp_path: Path) -> None:
    be(tmp_path, "ready")

    told = await count(tmp_path, CHAT)

    assert (told.encoding, told.margin) == ("model's own", 0.0)
    assert (told.context_window, told.fits) == (50, True)
    assert 6 <= told.tokens["total"] <= 15
    assert "one two three four" in process.asked


async def test_what_fits_a_loaded_model_is_found_by_its_own_count(process: ModelProcess, tmp_path: Path) -> None:
    be(tmp_path, "ready")

    told = await count(tmp_path, LONG)

    assert (told.fits, told.policy) == (False, "drop_oldest")
    assert told.would_drop is not None
    assert told.would_drop > 60


@pytest.mark.parametrize("state", ["idle", "loading", "failed"])
async def test_a_model_that_is_not_loaded_is_left_alone(
    process: ModelProcess, tmp_path: Path, state: ModelState
) -> None:
    be(tmp_path, state)

    told = await count(tmp_path, CHAT)

    assert (told.encoding, told.margin, told.context_window) == ("cl100k_base", 0.4, 100)
    assert process.asked == []


async def test_a_model_that_does_not_tell_is_counted_by_the_nearest_encoding(
    process: ModelProcess, tmp_path: Path
) -> None:
    be(tmp_path, "ready")
    process.is_broken = True

    told = await count(tmp_path, CHAT)

    assert (told.encoding, told.context_window) == ("cl100k_base", 100)


@pytest.mark.parametrize("answers", [1, 2])
async def test_a_model_that_goes_while_it_counts_is_replaced_by_the_nearest_encoding(
    process: ModelProcess, tmp_path: Path, answers: int
) -> None:
    be(tmp_path, "ready")
    process.breaks_after = answers

    told = await count(tmp_path, LONG)

    assert (told.encoding, told.context_window, told.fits) == ("cl100k_base", 100, False)


async def test_inputs_that_a_model_stops_counting_are_counted_by_the_nearest_encoding(
    process: ModelProcess, tmp_path: Path
) -> None:
    be(tmp_path, "ready")
    process.breaks_after = 2  # its window, and the first input

    told = await count(tmp_path, {"model": "mine", "input": ["one two", "three " * 60]}, "embeddings")

    assert (told.encoding, told.context_window, told.tokens["inputs"][0]) == ("cl100k_base", 100, 2)


async def test_inputs_have_the_tokens_that_the_model_puts_around_them(process: ModelProcess, tmp_path: Path) -> None:
    be(tmp_path, "ready")

    texts = await count(tmp_path, {"model": "mine", "input": ["one two", "one " * 60]}, "embeddings")
    ids = await count(tmp_path, {"model": "mine", "input": [[7, 8, 9], [1, 7, 2], [7] * 60]}, "embeddings")

    assert texts.tokens == {"inputs": [4, 62], "total": 66}
    assert ids.tokens == {"inputs": [5, 3, 62], "total": 70}
    assert (texts.input_limit, texts.fits, texts.would_drop, texts.policy) == (50, False, None, "none")
