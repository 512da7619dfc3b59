"""A model process that hangs is found out, whether it loads, works or rests, and one that only takes long is left alone."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.processes.activity import activity_of
from gateway.processes.supervision import Child
from gateway.processes.vigil import MOST_STRIKES, Limits, Vigil

# Answers each question with the next of its arguments, and with the last one again and again.
SCRIPT = """
import json, sys
silent = sys.argv[1:]
print(json.dumps({"event": "ready", "step_tokens": 256}), flush=True)
for line in sys.stdin:
    assert line == "alive?\\n"
    print(json.dumps({"event": "alive", "silent_seconds": float(silent[0])}), flush=True)
    silent = silent[1:] or silent
"""
# Is silent for ten seconds longer at each question, and at work for so many seconds of its processor meanwhile.
SILENT = """
import json, sys, time
print(json.dumps({"event": "ready", "step_tokens": 8192}), flush=True)
for number, line in enumerate(sys.stdin):
    until = time.process_time() + float(sys.argv[1])
    while time.process_time() < until:
        pass
    print(json.dumps({"event": "alive", "silent_seconds": 10.0 * number}), flush=True)
"""
GIBIBYTE = 1 << 30
LONG = "1000"
ON_LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems do not say")


class Watched:
    """A process under watch; each look takes `pause` seconds and is counted."""

    def __init__(self, pause: float) -> None:
        self.looks = 0
        self._pause = pause
        self.vigil: Vigil | None = None

    async def sleep(self, _seconds: float) -> None:
        self.looks += 1
        await asyncio.sleep(self._pause)

    def take(self, event: Mapping[str, Any]) -> None:
        assert self.vigil is not None
        {"ready": self.vigil.note_ready, "alive": self.vigil.note_answer}[event["event"]](event)


@asynccontextmanager
async def watching(
    code: str, *arguments: str, pause: float = 0.05, limits: Limits | None = None
) -> AsyncIterator[tuple[Watched, Child, asyncio.Task[str]]]:
    watched = Watched(pause)
    child = await Child.start((sys.executable, "-S", "-c", code, *arguments), os.environ, watched.take)
    vigil = watched.vigil = Vigil(child, limits or Limits(0), watched.sleep)
    keeping = asyncio.create_task(vigil.keep())
    try:
        yield watched, child, keeping
    finally:
        keeping.cancel()
        child.kill()
        await child.ended()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def test_one_that_answers_and_gets_on_is_left_alone() -> None:
    async with watching(SCRIPT, "0") as (watched, _, keeping):
        await until(lambda: watched.looks > 3 * MOST_STRIKES)

        assert not keeping.done()


async def test_one_that_is_stopped_is_given_up() -> None:
    async with watching(SCRIPT, "0") as (watched, child, keeping):
        await until(lambda: watched.looks > 2)
        os.kill(child.pid, signal.SIGSTOP)

        reason = await asyncio.wait_for(keeping, 10)

    assert reason == "its process did not answer any more."


async def test_one_whose_engine_is_silent_for_long_is_given_up() -> None:
    async with watching(SCRIPT, LONG) as (watched, _, keeping):
        reason = await asyncio.wait_for(keeping, 10)

    assert reason == "it was at work without getting on."
    assert watched.looks >= MOST_STRIKES


async def test_one_look_at_which_all_seemed_lost_is_forgiven() -> None:
    async with watching(SCRIPT, LONG, "0") as (watched, _, keeping):
        await until(lambda: watched.looks > 3 * MOST_STRIKES)

        assert not keeping.done()


@ON_LINUX
async def test_one_that_is_silent_and_does_nothing_is_given_up_long_before_its_step_would_be_too_long() -> None:
    limits = Limits(GIBIBYTE)
    assert limits.silent(8192) > 2000

    async with watching(SILENT, "0", limits=limits, pause=0.02) as (watched, _, keeping):
        reason = await asyncio.wait_for(keeping, 10)

    assert reason == "it was at work without getting on."
    assert 6 < watched.looks <= 6 + 2 * MOST_STRIKES


@ON_LINUX
async def test_one_that_is_silent_and_computes_is_left_alone() -> None:
    async with watching(SILENT, "0.25", limits=Limits(GIBIBYTE), pause=0.3) as (watched, _, keeping):
        await until(lambda: watched.looks > 6 + 2 * MOST_STRIKES)

        assert not keeping.done()


@ON_LINUX
def test_what_a_process_does_is_counted() -> None:
    before = activity_of(os.getpid())
    sum(range(5_000_000))
    after = activity_of(os.getpid())

    assert before is not None
    assert after is not None
    assert after.cpu_seconds > before.cpu_seconds
    assert activity_of(2**22 + 1) is None


async def test_one_that_is_never_loaded_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.processes.vigil._LOADING_SECONDS", 0.1)
    async with watching("import time; time.sleep(60)") as (_, _, keeping):
        reason = await asyncio.wait_for(keeping, 10)

    assert reason == "it was not loaded in time."


async def test_a_question_is_not_put_again_before_it_was_answered() -> None:
    silent_one = 'import sys; print(\'{"event": "ready"}\', flush=True); sys.stdin.read()'
    async with watching(silent_one) as (watched, _, keeping):
        await asyncio.wait_for(keeping, 10)

    assert watched.looks == MOST_STRIKES


def test_limits_are_minutes_and_grow_with_the_model() -> None:
    small, large = Limits(90 << 20), Limits(4 * GIBIBYTE)

    assert 300 <= small.loading < 320
    assert large.loading == 300 + 4 * 120
    assert 60 <= small.silent(256) < 70
    assert large.silent(256) == 60 + 4 * 64


def test_an_engine_whose_pace_is_known_may_be_silent_for_some_times_as_long_as_that() -> None:
    limits = Limits(GIBIBYTE)

    assert limits.silent(8192, 0.003) == pytest.approx(60 + 12 * 0.003 * 8192)
    assert limits.silent(8192, 10.0) == limits.silent(8192)
