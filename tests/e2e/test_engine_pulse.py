"""A real model process says over its pipes whether its engine gets on, and leaves in order when it is told to."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.worker.engine import ENGINE_NAMES, EngineName, why_unavailable
from tests.support.worker import Client, Worker, client_of, running

# llama.cpp takes for ever over the second token of this.
ENDLESS = "root ::= " + "a " * 60 + '\na ::= ("a"? "a"? "a"? "a"? "a"? "a"?)*'
CHAT = {"messages": [{"role": "user", "content": "Tell a long story."}], "max_tokens": 40}
ENGINES = [
    pytest.param(name, marks=pytest.mark.skipif(why_unavailable(name) is not None, reason=f"{name} is not installed"))
    for name in ENGINE_NAMES
    if name != "auto"
]


@dataclass
class Parent:
    """Speaks to a worker as the parent process does."""

    worker: Worker
    client: Client

    async def say(self, word: str) -> None:
        assert self.worker.process.stdin is not None
        self.worker.process.stdin.write(f"{word}\n")
        self.worker.process.stdin.flush()

    async def hear(self, event: str) -> dict[str, Any]:
        """Return the next report of this kind."""
        assert self.worker.process.stdout is not None
        while True:
            line = await asyncio.to_thread(self.worker.process.stdout.readline)
            assert line, "the worker ended"
            told: dict[str, Any] = json.loads(line)
            if told["event"] == event:
                return told

    async def silent_seconds(self) -> float:
        await self.say("alive?")
        return float((await self.hear("alive"))["silent_seconds"])

    async def look(self, times: int) -> list[float]:
        told = []
        for _ in range(times):
            told.append(await self.silent_seconds())
            await asyncio.sleep(0.3)
        return told


@asynccontextmanager
async def parent_of(model: Path, engine: EngineName, *options: str) -> AsyncIterator[Parent]:
    with running(model, "--engine", engine, *options, stdin=subprocess.PIPE) as worker:
        async with client_of(worker) as client:
            yield Parent(worker, client)


@pytest.mark.parametrize("engine", ENGINES)
async def test_an_engine_that_writes_or_rests_is_not_silent_for_long(chat_gguf: Path, engine: EngineName) -> None:
    async with parent_of(chat_gguf, engine, "--context-window", "256") as parent:
        resting = await parent.look(2)
        chatting = asyncio.create_task(parent.client.post("/v1/chat/completions", CHAT))
        working = await parent.look(3)
        status, _ = await chatting

    assert status == 200
    assert max(resting + working) < 5.0


@pytest.mark.parametrize("engine", ENGINES)
async def test_an_engine_that_reads_is_not_silent_for_long(embedding_gguf: Path, engine: EngineName) -> None:
    async with parent_of(embedding_gguf, engine, "--embedding") as parent:
        asking = asyncio.create_task(parent.client.post("/v1/embeddings", {"input": ["hello there " * 20] * 60}))
        working = await parent.look(3)
        status, _ = await asking

    assert status == 200
    assert max(working) < 5.0


@pytest.mark.parametrize("engine", ENGINES[:1])
async def test_an_engine_that_is_caught_in_a_grammar_is_silent_though_its_front_answers(
    chat_gguf: Path, engine: EngineName
) -> None:
    async with parent_of(chat_gguf, engine, "--context-window", "256") as parent:
        caught = asyncio.create_task(parent.client.post("/v1/chat/completions", CHAT | {"grammar": ENDLESS}))
        await parent.hear("busy")
        await asyncio.sleep(1.0)
        told = await parent.look(4)
        health = await parent.client.get("/health")
        caught.cancel()
        parent.worker.process.kill()

    assert health == 200
    assert told[-1] > told[1] > 0.0


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_model_that_is_told_to_leave_answers_what_it_has_and_ends(chat_gguf: Path, engine: EngineName) -> None:
    async with parent_of(chat_gguf, engine, "--context-window", "256", "--slots", "1") as parent:
        chatting = [asyncio.create_task(parent.client.post("/v1/chat/completions", CHAT)) for _ in range(3)]
        await parent.hear("busy")
        await asyncio.sleep(0.1)  # until all three are there
        await parent.say("leave")
        statuses = [status for status, _ in await asyncio.gather(*chatting)]
        await parent.hear("unloaded")
        code = await asyncio.to_thread(parent.worker.process.wait, 10)

    assert statuses == [200, 200, 200]
    assert code == 0
