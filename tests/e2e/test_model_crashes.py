"""Two real models, callers on both, and the process of one of them ends, hangs or has no memory: the other never shows it."""

from __future__ import annotations

import asyncio
import json
import resource
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from tests.support.command import Gateway, serving

YAML = """
providers:
  local:
    kind: llamacpp
    models:
      left: {{path: "{path}", context_window: 1024, parallel: 2}}
      right: {{path: "{path}", context_window: 1024, parallel: 2}}
models:
  left: {{deployments: [local/left]}}
  right: {{deployments: [local/right]}}
"""
DONE = "data: [DONE]\n\n"
TOLD = {(200, "upstream_stream_interrupted"), (503, "local_model_unavailable")}


@dataclass
class Heard:
    """What the callers of one model got: whole streams, and each failure by its status and code."""

    whole: int = 0
    failures: list[tuple[int, str]] = field(default_factory=list)


@dataclass
class House:
    gateway: Gateway
    session: aiohttp.ClientSession
    heard: dict[str, Heard]
    callers: list[asyncio.Task[None]]

    async def call_on(self, model: str) -> None:
        """Ask for one stream after the other; who is sent away comes back when it was told to."""
        heard = self.heard[model]
        while True:
            status, text, wait = await self._ask(model)
            if status == 200 and text.endswith(DONE) and '"error"' not in text:
                heard.whole += 1
            else:
                heard.failures.append((status, _code(text)))
                await asyncio.sleep(wait)

    async def _ask(self, model: str) -> tuple[int, str, float]:
        body: dict[str, Any] = {
            "model": model,
            "messages": [{"role": "user", "content": "Tell a long story."}],
            "max_tokens": 60,
            "ignore_eos": True,
            "stream": True,
        }
        async with self.session.post(f"{self.gateway.api_url}/chat/completions", json=body) as reply:
            text = await reply.text()
            assert reply.status == 200 or "Retry-After" in reply.headers
            return reply.status, text, float(reply.headers.get("Retry-After", "0"))

    def process_of(self, model: str) -> psutil.Process:
        children = psutil.Process(self.gateway.pid).children()
        (found,) = [one for one in children if f"--name={model}" in one.cmdline()]
        return found

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(90):
            while not condition():
                for caller in self.callers:
                    if caller.done():
                        caller.result()
                await asyncio.sleep(0.05)

    def restarts(self, model: str) -> float:
        page = self.gateway.get("/metrics")[1].decode()
        name = f'gateway_local_worker_restarts_total{{deployment="local/{model}"}} '
        (line,) = [line for line in page.splitlines() if line.startswith(name)]
        return float(line.removeprefix(name))


def _code(text: str) -> str:
    """Return the code of the error that an answer is, or that a stream ends with."""
    event = text.removesuffix(DONE).rpartition("data: ")[2] if text.startswith(("data: ", ":")) else text
    return str(json.loads(event)["error"]["code"])


@asynccontextmanager
async def house(directory: Path, model: Path) -> AsyncIterator[House]:
    """Serve two models with two callers each, who ask again and again, once each of them had an answer."""
    with serving(YAML.format(path=model), directory) as gateway:
        gateway.wait_for(lambda: len(gateway.events("model_ready")) == 2)
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=100)) as session:
            made = House(gateway, session, {"left": Heard(), "right": Heard()}, [])
            made.callers += [asyncio.create_task(made.call_on(name)) for name in ("left", "right") * 2]
            try:
                await made.until(lambda: all(heard.whole for heard in made.heard.values()))
                yield made
            finally:
                for caller in made.callers:
                    caller.cancel()
                    with suppress(asyncio.CancelledError):
                        await caller


def crash(victim: psutil.Process) -> None:
    victim.send_signal(signal.SIGSEGV)


def abort(victim: psutil.Process) -> None:
    victim.send_signal(signal.SIGABRT)


def hang(victim: psutil.Process) -> None:
    victim.send_signal(signal.SIGSTOP)


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (crash, "its process ended (killed by SIGSEGV)."),
        (abort, "its process ended (killed by SIGABRT)."),
        (hang, "its process did not answer any more."),
    ],
)
async def test_who_calls_a_model_that_ends_is_told_and_who_calls_the_other_never_notices(
    tmp_path: Path, chat_gguf: Path, harm: Callable[[psutil.Process], None], reason: str
) -> None:
    async with house(tmp_path, chat_gguf) as it:
        other = it.process_of("right").pid

        harm(it.process_of("left"))
        await it.until(lambda: it.gateway.events("model_ended"))
        await it.until(lambda: len(it.gateway.events("model_ready")) == 3)
        left, right = it.heard["left"].whole, it.heard["right"].whole
        await it.until(lambda: it.heard["left"].whole > left + 1 and it.heard["right"].whole > right + 1)

        assert [line["reason"] for line in it.gateway.events("model_ended")] == [reason]
        assert it.heard["right"].failures == []
        assert it.process_of("right").pid == other
        assert 1 <= len(it.heard["left"].failures) <= 8
        assert set(it.heard["left"].failures) <= TOLD
        assert (it.restarts("left"), it.restarts("right")) == (1.0, 0.0)


async def test_a_model_without_memory_costs_its_own_callers_alone(tmp_path: Path, chat_gguf: Path) -> None:
    async with house(tmp_path, chat_gguf) as it:
        other, victim = it.process_of("right").pid, it.process_of("left")

        victim.rlimit(resource.RLIMIT_DATA, (1 << 20, 1 << 20))
        await it.until(lambda: it.gateway.events("model_ended"))
        await it.until(lambda: len(it.gateway.events("model_ready")) == 3)
        left, right = it.heard["left"].whole, it.heard["right"].whole
        await it.until(lambda: it.heard["left"].whole > left + 1 and it.heard["right"].whole > right + 1)

        assert it.heard["right"].failures == []
        assert it.process_of("right").pid == other
        assert it.heard["left"].failures
        assert set(it.heard["left"].failures) <= TOLD
        assert (it.restarts("left"), it.restarts("right")) == (1.0, 0.0)
