"""An engine that does not come to the end of a step is silent for longer and longer, whoever asks and however often."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.worker.pulse import Vitals, pulse_of_server


class Engine:
    """Answers when it is let; `asked` counts how often it was."""

    def __init__(self) -> None:
        self.now = 100.0
        self.asked = 0
        self.is_gone = False
        self.step_ends = asyncio.Event()
        self.vitals = Vitals(self.pulse, lambda: self.now)

    async def pulse(self) -> None:
        self.asked += 1
        if self.is_gone:
            raise ConnectionRefusedError
        await self.step_ends.wait()

    async def silent_after(self, seconds: float) -> float:
        self.now += seconds
        told = self.vitals.silent_seconds()
        for _ in range(5):
            await asyncio.sleep(0)
        return told


async def test_an_engine_that_answers_is_never_silent() -> None:
    engine = Engine()
    engine.step_ends.set()

    told = [await engine.silent_after(50.0) for _ in range(3)]

    assert told == [0.0, 0.0, 0.0]
    assert engine.asked == 3


async def test_one_that_hangs_is_silent_since_it_was_asked_and_is_asked_once() -> None:
    engine = Engine()

    told = [await engine.silent_after(5.0) for _ in range(4)]

    assert told == [0.0, 5.0, 10.0, 15.0]
    assert engine.asked == 1


async def test_one_that_goes_on_is_not_silent_any_more() -> None:
    engine = Engine()
    await engine.silent_after(0.0)
    assert await engine.silent_after(30.0) == 30.0

    engine.step_ends.set()
    await engine.silent_after(1.0)

    assert await engine.silent_after(1.0) == 0.0


async def test_one_whose_server_is_gone_is_silent_and_asked_again() -> None:
    engine = Engine()
    engine.is_gone = True

    told = [await engine.silent_after(5.0) for _ in range(3)]

    assert told == [0.0, 5.0, 10.0]
    assert engine.asked == 3


@pytest.mark.parametrize("answers", [True, False])
async def test_a_server_is_asked_what_only_its_engine_can_answer(tmp_path: Path, answers: bool) -> None:
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        if answers:
            writer.write(b"HTTP/1.0 200 OK\r\n\r\n[]")
        writer.close()

    path = tmp_path / "e.sock"
    async with await asyncio.start_unix_server(serve, path):
        if answers:
            await pulse_of_server(path)
        else:
            with pytest.raises(ConnectionError):
                await pulse_of_server(path)

    assert heard[0].startswith(b"GET /lora-adapters HTTP/1.0\r\n")


async def test_a_server_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        await pulse_of_server(tmp_path / "none.sock")
