"""Rows F22 to F31: what the caller sees when the connection to an upstream fails before any content came."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from tests.support.certificates import Root
from tests.support.drill import HASTE, Drill
from tests.support.sockets import serving, speak_plainly, stall
from tests.support.upstream import (
    Behaviour,
    Cut,
    Delayed,
    Ending,
    Framed,
    Framing,
    Gate,
    Hang,
    Pause,
    Raw,
    Repeated,
    Reset,
    ScriptedUpstream,
    Sliced,
    Stale,
    Truncated,
    black_hole,
    closed_port,
)
from tests.support.verdicts import ask_aside, is_answered_by_the_sound_one, unwell

Open = Callable[..., AbstractAsyncContextManager[Drill]]
SHORT = {**HASTE, "connect": 0.2, "first_event": 0.2, "plain_answer": 0.2}
NO_SUCH_HOST = f"http://{'x' * 64}.invalid/v1"  # a label too long for any name server, so none is asked


async def ask_alone(open_drill: Open, **options: Any) -> tuple[int, str | None, float]:
    """Return status and code of one answer without another deployment, and the seconds it took."""
    async with open_drill(sound=False, timeouts=SHORT, **options) as it:
        before = time.perf_counter()
        seen = await it.ask()
        took = time.perf_counter() - before
        assert (seen.attempts, seen.by) == (1, "broken")  # by whom it was refused is told, too
        return seen.status, seen.code, took


async def ask_beside_a_sound_one(open_drill: Open, **options: Any) -> float:
    """Check that the sound deployment answers; return the seconds it took."""
    async with open_drill(sound=True, timeouts=SHORT, **options) as it:
        before = time.perf_counter()
        seen = await it.ask()
        took = time.perf_counter() - before
        assert (seen.status, seen.by, seen.attempts) == (200, "sound", 2)
        return took


@pytest.mark.fault("F22", "connection refused")
async def test_f22_alone_a_refused_connection_is_told_at_once(open_drill: Open) -> None:
    with closed_port() as port:
        status, code, took = await ask_alone(open_drill, broken_url=f"http://127.0.0.1:{port}/v1")

    assert (status, code) == (502, "upstream_unreachable")
    assert took < 1.0


@pytest.mark.fault("F22", "connection refused")
async def test_f22_another_deployment_answers_at_once(open_drill: Open) -> None:
    with closed_port() as port:
        took = await ask_beside_a_sound_one(open_drill, broken_url=f"http://127.0.0.1:{port}/v1")

    assert took < 1.0


@pytest.mark.fault("F23", "connection attempts vanish")
async def test_f23_alone_a_black_hole_is_given_up_after_the_connect_limit(open_drill: Open) -> None:
    with black_hole() as port:
        status, code, took = await ask_alone(open_drill, broken_url=f"http://127.0.0.1:{port}/v1")

    assert (status, code) == (504, "upstream_timeout")
    assert 0.15 < took < 1.0


@pytest.mark.fault("F23", "connection attempts vanish")
async def test_f23_another_deployment_answers_after_the_connect_limit(open_drill: Open) -> None:
    with black_hole() as port:
        took = await ask_beside_a_sound_one(open_drill, broken_url=f"http://127.0.0.1:{port}/v1")

    assert 0.15 < took < 1.0


@pytest.mark.fault("F24", "the host's name cannot be resolved")
async def test_f24_alone_a_name_that_nobody_knows_is_told_at_once(open_drill: Open) -> None:
    status, code, took = await ask_alone(open_drill, broken_url=NO_SUCH_HOST)

    assert (status, code) == (502, "upstream_unreachable")
    assert took < 1.0


@pytest.mark.fault("F24", "the host's name cannot be resolved")
async def test_f24_another_deployment_answers(open_drill: Open) -> None:
    took = await ask_beside_a_sound_one(open_drill, broken_url=NO_SUCH_HOST)

    assert took < 1.0


TLS: dict[str, tuple[int, str]] = {
    "untrusted": (502, "upstream_tls_error"),
    "plain text": (502, "upstream_tls_error"),
    "stalled handshake": (504, "upstream_timeout"),
}


UNTRUSTED = [pytest.param(name, marks=pytest.mark.fault("F25", f"TLS: {name}")) for name in TLS]


@asynccontextmanager
async def bad_tls(name: str) -> AsyncIterator[str]:
    """Serve what is no trusted TLS; give its base URL. Expired and foreign certificates: unit tests, with a root."""

    if name == "untrusted":
        async with ScriptedUpstream(tls=Root().serving()) as upstream:
            yield upstream.base_url
            assert upstream.requests == []
        return
    async with serving(speak_plainly if name == "plain text" else stall) as port:
        yield f"https://127.0.0.1:{port}/v1"


@pytest.mark.parametrize("name", UNTRUSTED)
async def test_f25_alone_no_trust_is_an_error_without_details(open_drill: Open, name: str) -> None:
    async with bad_tls(name) as url:
        status, code, _ = await ask_alone(open_drill, broken_url=url)

    assert (status, code) == TLS[name]


@pytest.mark.parametrize("name", UNTRUSTED)
async def test_f25_another_deployment_answers(open_drill: Open, name: str) -> None:
    async with bad_tls(name) as url:
        took = await ask_beside_a_sound_one(open_drill, broken_url=url)

    assert took < 1.0


BROKEN: dict[str, tuple[str, Behaviour, int, str]] = {
    # row: its title, what the upstream does → the caller's status and code
    "F26": ("reset before any byte", Reset(), 502, "upstream_error"),
    "F26 closed": ("closed before any byte", Raw((Ending.CLOSE,)), 502, "upstream_error"),
    "F28": ("closed within the headers", Raw((b"HTTP/1.1 200 OK\r\nConte", Ending.CLOSE)), 502, "upstream_error"),
    "F28 reset": ("reset within the headers", Raw((b"HTTP/1.1 200 OK\r\nConte", Ending.RESET)), 502, "upstream_error"),
    "F29": ("never a byte", Hang(), 504, "upstream_timeout"),
    "F30": (
        "headers drip in byte by byte",
        Raw((b"HTTP/1.1 200 OK\r\nX-Drip: ", Repeated(b"x", None, every_seconds=0.02))),
        504,
        "upstream_timeout",
    ),
}
BREAKING = [
    pytest.param(*told[1:], marks=pytest.mark.fault(row[:3], told[0]), id=row.replace(" ", "-"))
    for row, told in BROKEN.items()
]


@pytest.mark.parametrize(("behaviour", "status", "code"), BREAKING)
async def test_f26_f28_to_f30_alone_the_caller_gets_an_honest_error(
    open_drill: Open, behaviour: Behaviour, status: int, code: str
) -> None:
    async with open_drill(sound=False, timeouts=SHORT) as it:
        it.broken.otherwise = behaviour

        seen = await it.ask()

        assert (seen.status, seen.code, seen.attempts) == (status, code, 1)
        assert seen.error is not None
        assert seen.error["type"] == "server_error"
        assert len(it.broken.requests) == 1
        await it.broken.idle(within_seconds=2.0)


@pytest.mark.parametrize(("behaviour", "status", "code"), BREAKING)
async def test_f26_f28_to_f30_another_deployment_answers(
    open_drill: Open, behaviour: Behaviour, status: int, code: str
) -> None:
    async with open_drill(sound=True, timeouts=SHORT) as it:
        it.broken.otherwise = behaviour

        before = time.perf_counter()
        seen = await it.ask()

        assert is_answered_by_the_sound_one(it, seen)
        assert time.perf_counter() - before < 1.0
        await it.broken.idle(within_seconds=2.0)


@pytest.mark.parametrize("ending", [Ending.RESET, Ending.CLOSE])
@pytest.mark.fault("F27", "a kept connection turns out to be dead")
async def test_f27_a_dead_kept_connection_costs_neither_an_attempt_nor_the_breaker(
    alone: Drill, ending: Ending
) -> None:
    alone.broken.otherwise = Stale(alone.broken.otherwise, ending)

    seen = [await alone.ask() for _ in range(8)]

    assert {(each.status, each.by, each.attempts) for each in seen} == {(200, "broken", 1)}
    assert await unwell(alone) == {}
    figures = await alone.gateway.figures()
    assert figures[("gateway_attempts_total", "ok", "up0/model")] == 8
    assert ("gateway_attempts_total", "up0/model", "upstream_error") not in figures


@pytest.mark.fault("F27", "a kept connection is dead, and so is the upstream")
async def test_f27_what_fails_on_a_fresh_connection_too_is_tried_no_third_time(alone: Drill) -> None:
    await ask_aside(alone)
    alone.broken.otherwise = Reset()

    seen = await alone.ask()

    assert (seen.status, seen.code, seen.attempts) == (502, "upstream_error", 1)
    assert len(alone.broken.requests) == 3


@pytest.mark.parametrize("ending", [Ending.RESET, Ending.CLOSE])
@pytest.mark.fault("F27", "a kept connection dies within the headers")
async def test_f27_what_began_to_be_answered_is_not_sent_a_second_time(alone: Drill, ending: Ending) -> None:
    await ask_aside(alone)
    alone.broken.script(Raw((b"HTTP/1.1 200 OK\r\nConte", Pause(0.05), ending)))

    seen = await alone.ask()

    assert (seen.status, seen.code, seen.attempts) == (502, "upstream_error", 1)
    assert len(alone.broken.requests) == 2


TRUNCATED: dict[str, Callable[[Behaviour], Behaviour]] = {
    "closed": lambda whole: Truncated(whole, 10),
    "reset": lambda whole: Truncated(whole, 10, Ending.RESET),
    "without a byte of body": lambda whole: Cut(whole, 0, Ending.CLOSE),
    "chunked": lambda whole: Cut(Framed(Sliced(whole, 50), Framing.CHUNKED), 2, Ending.CLOSE),
}


# Streams that are cut are rows F32 to F35.
plain_only = pytest.mark.parametrize("kind", ["chat", "embeddings"], indirect=True)


@plain_only
@pytest.mark.parametrize("name", TRUNCATED)
@pytest.mark.fault("F31", "the body is cut short")
async def test_f31_alone_half_an_answer_is_an_error_and_never_passed_on(alone: Drill, name: str) -> None:
    alone.broken.otherwise = TRUNCATED[name](alone.broken.otherwise)

    seen = await alone.ask()

    assert (seen.status, seen.code, seen.attempts) == (502, "upstream_truncated", 1)


@plain_only
@pytest.mark.parametrize("name", TRUNCATED)
@pytest.mark.fault("F31", "the body is cut short")
async def test_f31_another_deployment_gives_the_whole(pair: Drill, name: str) -> None:
    pair.broken.otherwise = TRUNCATED[name](pair.broken.otherwise)

    seen = await pair.ask()

    assert is_answered_by_the_sound_one(pair, seen)


@pytest.mark.fault("F29", "slow, but within the limit")
async def test_f29_an_answer_just_within_the_limit_is_an_answer(open_drill: Open) -> None:
    async with open_drill(sound=True) as it:
        it.broken.otherwise = Delayed(it.broken.otherwise, Pause(0.15))

        seen = await it.ask()

        assert (seen.status, seen.by) == (200, "broken")


@pytest.mark.fault("F29", "never a byte, and the caller's next request")
async def test_f29_a_late_answer_is_thrown_away_and_never_anothers(open_drill: Open) -> None:
    async with open_drill(sound=False, timeouts=SHORT) as it:
        usual, gate = it.broken.otherwise, Gate()
        it.broken.script(Delayed(usual, gate))
        first = await ask_aside(it)
        gate.open()

        second = await it.ask()

        assert (first.status, second.status) == (504, 200)
        assert it.broken.requests[0].connection != it.broken.requests[1].connection
