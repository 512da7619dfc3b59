"""Children are kept alive by a small policy, and end when they are told to or when this process is gone."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from gateway.processes.supervision import Backoff, Child, Hopeless, Stop, Timing, cause_of, keep_alive, read_lines


class Clock:
    """Time that passes only when somebody sleeps or works."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def timing(self, jitter: float = 0.0) -> Timing:
        return Timing(clock=lambda: self.now, sleep=self.sleep, random=lambda: jitter)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class LivesSpent(Hopeless):
    pass


async def keep_for_lives(clock: Clock, lives: list[float]) -> list[float]:
    """Return the rests after lives of these lengths, in seconds."""
    left = iter(lives)
    rests: list[float] = []

    async def live() -> None:
        try:
            clock.now += next(left)
        except StopIteration:
            raise LivesSpent from None

    with pytest.raises(LivesSpent):
        await keep_alive(live, rests.append, Backoff(), clock.timing())
    return rests


@pytest.mark.parametrize(
    ("failures", "seconds"), [(0, 0.5), (1, 1.0), (2, 2.0), (3, 4.0), (5, 16.0), (6, 30.0), (1000, 30.0)]
)
def test_the_wait_doubles_up_to_its_most(failures: int, seconds: float) -> None:
    assert Backoff().delay(failures, jitter=0.0) == seconds


def test_jitter_takes_off_up_to_a_quarter() -> None:
    assert Backoff().delay(1, jitter=1.0) == 0.75


async def test_a_process_that_ends_at_once_is_started_again_ever_more_slowly() -> None:
    clock = Clock()

    rests = await keep_for_lives(clock, [0.1, 0.1, 0.1])

    assert rests == clock.slept == [0.5, 1.0, 2.0]


async def test_a_healthy_minute_forgives_earlier_failures() -> None:
    rests = await keep_for_lives(Clock(), [0.1, 0.1, 60.0, 0.1])

    assert rests == [0.5, 1.0, 0.5, 1.0]


@pytest.mark.parametrize("error", [OSError("no more processes"), TypeError("half a \ud800 character")])
async def test_an_error_is_an_end_like_any_other_and_one_line(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    attempts = iter([error, LivesSpent()])
    rests: list[float] = []

    async def live() -> None:
        raise next(attempts)

    with pytest.raises(LivesSpent):
        await keep_alive(live, rests.append, Backoff(), clock.timing())

    assert rests == [0.5]
    assert [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()] == ["start_failed"]


async def test_an_error_of_what_is_told_of_the_rest_does_not_end_it() -> None:
    clock = Clock()
    attempts = iter([OSError(), OSError(), LivesSpent()])

    async def live() -> None:
        raise next(attempts)

    def rest(_seconds: float) -> None:
        raise TypeError("a defect")

    with pytest.raises(LivesSpent):
        await keep_alive(live, rest, Backoff(), clock.timing())

    assert clock.slept == [0.5, 1.0]


@pytest.mark.parametrize("where", ["stdout", "stderr"])
async def test_a_child_whose_output_cannot_be_taken_ends_while_others_live(
    where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_said: object) -> None:
        raise TypeError("cannot be taken")

    events: list[Mapping[str, Any]] = []
    other = await python("print(1, flush=True); input(); print(2)", events)
    code = f"import sys; print('x', file=sys.{where}, flush=True); sys.stdin.read()"
    child = await Child.start([sys.executable, "-S", "-c", code], os.environ, refuse, refuse)

    async with asyncio.timeout(10):
        assert await child.ended() == -signal.SIGKILL
    await other.write(b"\n")

    assert await other.ended() == 0
    assert len(events) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["event"] == "output_failed"


@pytest.mark.parametrize("line", ["[" * 4000, '"text"', "[1]", "{}", "not JSON"])
async def test_output_that_is_no_event_is_passed_on_as_text(line: str) -> None:
    events: list[Mapping[str, Any]] = []

    child = await python(f"print({line!r})", events)
    await child.ended()

    assert events == [{"event": "output", "line": line}]


@pytest.mark.parametrize(
    ("code", "words"),
    [(0, "exit code 0"), (65, "exit code 65"), (-11, "killed by SIGSEGV"), (-200, "killed by signal 200")],
)
def test_the_cause_of_an_end_is_told_in_words(code: int, words: str) -> None:
    assert cause_of(code) == words


async def test_a_line_without_end_costs_bounded_memory_and_is_cut() -> None:
    stream = asyncio.StreamReader()
    stream.feed_data(b"short\n" + b"x" * 300_000 + b"\nlast")
    stream.feed_eof()

    lines = [line async for line in read_lines(stream, longest=10)]

    assert lines == ["short", "x" * 10, "last"]


async def python(code: str, events: list[Mapping[str, Any]], lines: list[str] | None = None) -> Child:
    on_line = None if lines is None else lines.append
    return await Child.start([sys.executable, "-S", "-c", code], os.environ, events.append, on_line)


async def told(events: list[Mapping[str, Any]]) -> None:
    """Wait until the child has said something."""
    async with asyncio.timeout(10):
        while not events:
            await asyncio.sleep(0.01)


async def test_what_a_child_prints_is_read_as_events_and_its_errors_as_lines() -> None:
    events: list[Mapping[str, Any]] = []
    lines: list[str] = []

    child = await python(
        "import sys; print('{\"event\": \"ready\"}'); print('hello'); sys.stderr.write('oh\\n')", events, lines
    )
    code = await child.ended()

    assert code == 0
    assert events == [{"event": "ready"}, {"event": "output", "line": "hello"}]
    assert lines == ["oh"]


async def test_a_child_reads_what_it_is_sent_and_sees_the_end_of_its_parent_as_end_of_input() -> None:
    events: list[Mapping[str, Any]] = []
    child = await python("print(input(), flush=True); import sys; sys.exit(len(sys.stdin.read()) + 7)", events)

    await child.write(b'{"event": "echo"}\n')
    await told(events)
    child.close_input()

    assert await child.ended() == 7
    assert events == [{"event": "echo"}]


STUBBORN = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGINT, lambda *_: sys.exit(9))
print('begun', flush=True)
while True:
    time.sleep(60)
"""


async def test_a_child_that_ignores_the_first_word_is_told_the_next_one() -> None:
    events: list[Mapping[str, Any]] = []
    child = await python(STUBBORN, events)
    await told(events)

    code = await child.end([(signal.SIGTERM, 0.05), (signal.SIGINT, 10)], asyncio.Event())

    assert code == 9


async def test_a_child_that_ignores_every_word_is_killed() -> None:
    events: list[Mapping[str, Any]] = []
    child = await python(STUBBORN, events)
    await told(events)

    code = await child.end([(signal.SIGTERM, 0.05)], asyncio.Event())

    assert code == -signal.SIGKILL


async def test_insisting_cuts_the_patience_short() -> None:
    events: list[Mapping[str, Any]] = []
    stop = Stop()
    child = await python(STUBBORN, events)
    await told(events)

    stop.ask()
    ending = asyncio.create_task(child.end([(signal.SIGTERM, 3600), (signal.SIGINT, 10)], stop.insisted))
    stop.ask()

    async with asyncio.timeout(10):
        assert await ending == 9
