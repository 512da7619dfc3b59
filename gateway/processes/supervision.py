"""Processes that must stay alive: one running child, and the policy by which it is started again.

Nothing here knows what the children do; that is `children.py`. Clock, sleep and randomness are arguments.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from gateway import logs

LONGEST_LINE = 4096  # bytes of a child's log line that are kept
LAST_OUTPUT_SECONDS = 1.0  # how long a dead child's pipes may stay open in a process that it started itself

OnEvent = Callable[[Mapping[str, Any]], None]
OnLine = Callable[[str], None]
Life = Callable[[], Awaitable[None]]
Rest = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before the next start: doubled after each failure, forgotten after a healthy while."""

    first_seconds: float = 0.5
    most_seconds: float = 30.0
    healthy_seconds: float = 60.0

    def delay(self, failures: int, jitter: float) -> float:
        """Return seconds to wait when `failures` starts failed before; `jitter` in [0, 1) takes off up to a quarter."""
        full = min(self.most_seconds, self.first_seconds * 2.0 ** min(failures, 32))
        return full * (1.0 - jitter / 4.0)


@dataclass(frozen=True, slots=True)
class Timing:
    """Clock (monotonic seconds), sleep and randomness in [0, 1)."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    random: Callable[[], float] = random.random


class Hopeless(Exception):
    """Starting again would end the same way; whoever keeps a process alive passes this on."""


async def keep_alive(live: Life, rest: Rest, backoff: Backoff, timing: Timing) -> NoReturn:
    """Run `live` again and again; it returns when its process has ended. `rest` is told of each wait, in seconds.

    An error counts as an end and is one log line; Hopeless alone is passed on.
    """
    failures = 0
    while True:
        started = timing.clock()
        with _surviving("start_failed"):
            await live()
        if timing.clock() - started >= backoff.healthy_seconds:
            failures = 0
        seconds = backoff.delay(failures, timing.random())
        failures += 1
        with _surviving("rest_failed"):
            rest(seconds)
        await timing.sleep(seconds)


@contextlib.contextmanager
def _surviving(event: str, **details: object) -> Iterator[None]:
    """Turn an error into a log line: whatever is wrong with one child, the others and their callers go on."""
    try:
        yield
    except Hopeless:
        raise
    except Exception as error:  # noqa: BLE001  # no process to be had, odd output, a defect: survival is the point
        sentence = f"{type(error).__name__}: {error}"[:LONGEST_LINE]
        logs.event(event, level="error", reason=sentence.encode(errors="replace").decode(), **details)


class Stop:
    """The wish to end: the first signal asks, the second one insists."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.insisted = asyncio.Event()

    def ask(self) -> None:
        if self.asked.is_set():
            self.insisted.set()
        self.asked.set()


class Child:
    """One running process. It holds the read end of a pipe as its standard input and must end when that closes,
    so that no child outlives a parent that was killed. What it prints is read as events, one JSON object a line.
    A child whose output cannot be taken is killed: nobody would read it any more, and it would wait for ever to write.
    """

    def __init__(self, process: Process, on_event: OnEvent, on_line: OnLine | None) -> None:
        self._process = process
        self.pid = process.pid
        self._pumps = [asyncio.create_task(self._pump(process.stdout, lambda line: _tell(line, on_event)))]
        if on_line:
            self._pumps.append(asyncio.create_task(self._pump(process.stderr, on_line)))

    @classmethod
    async def start(
        cls,
        argv: Sequence[str],
        environ: Mapping[str, str],
        on_event: OnEvent,
        on_line: OnLine | None = None,
        pass_fds: Sequence[int] = (),
    ) -> Child:
        """Start `argv`; its standard error goes line by line to `on_line`, or where ours goes.

        The descriptors in `pass_fds` are open in it under the same numbers.
        """
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE if on_line else None,
            env=environ,
            pass_fds=pass_fds,
            start_new_session=True,  # Ctrl-C in a terminal reaches the parent alone, which then ends things in order
        )
        return cls(process, on_event, on_line)

    async def write(self, line: bytes) -> None:
        """Send `line` to its standard input; a child that is already gone shows by `ended`."""
        stdin = self._process.stdin
        with contextlib.suppress(ConnectionError):
            if stdin is not None:
                stdin.write(line)
                await stdin.drain()

    def close_input(self) -> None:
        """Let the child see the end of its input, as when this process dies."""
        if self._process.stdin is not None:
            self._process.stdin.close()

    async def ended(self) -> int:
        """Wait for its end and return the exit code, negative for a signal."""
        code = await self._process.wait()
        _, waiting = await asyncio.wait(self._pumps, timeout=LAST_OUTPUT_SECONDS)
        for pump in waiting:
            pump.cancel()
        self.close_input()
        return code

    async def end(self, steps: Sequence[tuple[signal.Signals, float]], insisted: asyncio.Event) -> int:
        """Send each signal and give it its seconds; `insisted` cuts the first wait short. SIGKILL comes last."""
        gone = asyncio.ensure_future(self.ended())
        insisting = asyncio.ensure_future(insisted.wait())
        for number, (word, seconds) in enumerate(steps):
            self._send(word)
            waiting_for = {gone} if number else {gone, insisting}
            await asyncio.wait(waiting_for, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                break
        insisting.cancel()
        self._send(signal.SIGKILL)
        return await gone

    def kill(self) -> None:
        """End it at once; `ended` returns soon."""
        self._send(signal.SIGKILL)

    async def _pump(self, stream: asyncio.StreamReader | None, take: OnLine) -> None:
        assert stream is not None  # noqa: S101  # both pipes were asked for
        with _surviving("output_failed", pid=self.pid):
            async for line in read_lines(stream):
                if line.strip():
                    take(line)
            return
        self._send(signal.SIGKILL)

    def _send(self, word: signal.Signals) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, word)  # Popen.send_signal would take the exit code away from asyncio's own watcher


async def read_lines(stream: asyncio.StreamReader, longest: int = LONGEST_LINE) -> AsyncIterator[str]:
    """Yield the lines of `stream`, each cut after `longest` bytes, so that no output can fill the memory."""
    rest = b""
    while chunk := await stream.read(65_536):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line[:longest].decode("utf-8", "replace")
        rest = rest[:longest]
    if rest:
        yield rest.decode("utf-8", "replace")


def cause_of(code: int) -> str:
    """Return in words how a process ended."""
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return f"killed by {signal.Signals(-code).name}"
    return f"killed by signal {-code}"


def _tell(line: str, on_event: OnEvent) -> None:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        event = None
    on_event(event if isinstance(event, dict) and "event" in event else {"event": "output", "line": line})
