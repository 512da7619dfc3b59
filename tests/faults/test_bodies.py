"""Rows F46 to F48: bodies that are compressed, endless or not what they say, and headers beyond all measure."""

from __future__ import annotations

import tracemalloc
import zlib
from collections.abc import Callable

import pytest

from tests.support.drill import BROKEN_TEXT, Drill, Kind
from tests.support.upstream import (
    Behaviour,
    Body,
    Framing,
    Gzipped,
    Huge,
    Raw,
    Repeated,
    Truncated,
    WithHeaders,
)
from tests.support.verdicts import ask_aside, is_answered_by_the_sound_one, unwell

MIB = 1024 * 1024
LARGEST_GROWTH = 32 * MIB
PLAIN = pytest.mark.parametrize("kind", ["chat", "embeddings"], indirect=True)
TYPES = {"chat": "application/json", "stream": "text/event-stream", "embeddings": "application/json"}


@pytest.mark.fault("F46", "compressed with gzip, unasked")
async def test_f46_a_body_that_came_compressed_is_unpacked(alone: Drill) -> None:
    alone.broken.otherwise = Gzipped(alone.broken.otherwise)

    seen = await alone.ask()

    assert (seen.status, seen.by, seen.error) == (200, "broken", None)
    assert alone.kind == "embeddings" or seen.text == BROKEN_TEXT
    assert "Content-Encoding" not in seen.answer.headers
    assert alone.broken.requests[0].headers["Accept-Encoding"] == "identity"


def said_to_be(encoding: str, content: bytes) -> Callable[[Kind], Behaviour]:
    return lambda kind: WithHeaders(Body(content, TYPES[kind]), (("Content-Encoding", encoding),))


PACKED: dict[str, Callable[[Kind], Behaviour]] = {
    "no gzip after all": said_to_be("gzip", b'{"choices":[]}'),
    "half gzip": said_to_be("gzip", zlib.compress(b"{}" * 5000, wbits=31)[:20]),
    "no deflate": said_to_be("deflate", b"\xff\xff\xff\xff"),
    "brotli": said_to_be("br", b"\x0b\x02\x80{}\x03"),
    "zstd": said_to_be("zstd", b"\x28\xb5\x2f\xfd\x20\x02\x11\x00\x00{}"),
    "unheard of": said_to_be("rot13", b'{"pubvprf":[]}'),
}
UNREADABLE = [pytest.param(name, marks=pytest.mark.fault("F46", f"compressed unasked: {name}")) for name in PACKED]


@pytest.mark.parametrize("name", UNREADABLE)
async def test_f46_alone_what_cannot_be_unpacked_is_an_error(alone: Drill, name: str) -> None:
    alone.broken.otherwise = PACKED[name](alone.kind)

    seen = await alone.ask()

    assert seen.status == 502
    assert seen.error is not None
    assert seen.error["type"] == "server_error"


@pytest.mark.parametrize("name", UNREADABLE)
async def test_f46_another_answers_instead(pair: Drill, name: str) -> None:
    pair.broken.otherwise = PACKED[name](pair.kind)

    seen = await pair.ask()

    assert is_answered_by_the_sound_one(pair, seen)


@PLAIN
@pytest.mark.fault("F46", "gzip cut short")
async def test_f46_truncated_gzip_is_an_error_and_another_answers(pair: Drill) -> None:
    pair.broken.otherwise = Truncated(Gzipped(pair.broken.otherwise), 12)

    seen = await pair.ask()

    assert is_answered_by_the_sound_one(pair, seen)


async def ask_in_bounds(it: Drill) -> tuple[int, str | None]:
    """Ask, and check that memory never grew by more than the row allows."""
    await ask_aside(it)  # whatever is made once is there now
    tracemalloc.start()
    try:
        seen = await it.ask()
        growth = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert growth <= LARGEST_GROWTH
    return seen.status, seen.code


BOMB = zlib.compress(bytes(200 * MIB), 1, wbits=31)


@pytest.mark.fault("F46", "a gzip bomb")
async def test_f46_a_gzip_bomb_is_cut_and_memory_stays_flat(alone: Drill) -> None:
    bomb = said_to_be("gzip", BOMB)(alone.kind)
    alone.broken.script(alone.broken.otherwise, bomb)

    status, code = await ask_in_bounds(alone)

    assert (status, code) == (502, "upstream_reply_too_large" if alone.kind != "stream" else "event_too_large")
    await alone.broken.closed_by_client(1)


@pytest.mark.parametrize("framing", [Framing.CHUNKED, Framing.LENGTH])
@pytest.mark.fault("F47", "10 GiB")
async def test_f47_an_answer_without_an_end_is_cut_and_memory_stays_flat(alone: Drill, framing: Framing) -> None:
    huge = Huge(10 * 1024 * MIB, content_type=TYPES[alone.kind], framing=framing)
    alone.broken.script(alone.broken.otherwise, huge)

    status, code = await ask_in_bounds(alone)

    assert (status, code) == (502, "upstream_reply_too_large" if alone.kind != "stream" else "event_too_large")
    await alone.broken.closed_by_client(1)


# What is asked for may be that large itself: another deployment would be asked for as much, and is not.
TOO_LARGE: dict[str, Callable[[Kind], Behaviour]] = {
    "a gzip bomb": said_to_be("gzip", BOMB),
    "10 GiB": lambda kind: Huge(10 * 1024 * MIB, content_type=TYPES[kind]),
}
TOO_LARGE_ROWS = [
    pytest.param(name, marks=pytest.mark.fault(row, name)) for row, name in (("F46", "a gzip bomb"), ("F47", "10 GiB"))
]


@pytest.mark.parametrize("name", TOO_LARGE_ROWS)
async def test_f46_f47_what_is_too_large_is_not_asked_for_again_elsewhere(pair: Drill, name: str) -> None:
    pair.broken.otherwise = TOO_LARGE[name](pair.kind)

    seen = await pair.ask()

    code = "upstream_reply_too_large" if pair.kind != "stream" else "event_too_large"
    assert (seen.status, seen.code, seen.attempts) == (502, code, 1)
    assert pair.sound is not None
    assert pair.sound.requests == []
    assert await unwell(pair) == {}


HEADERS: dict[str, tuple[tuple[str, str], ...]] = {
    "129 headers": tuple((f"X-{number}", "1") for number in range(129)),
    "many headers": tuple((f"X-{number}", "1") for number in range(5000)),
    "a long name": (("X-" + "a" * 9000, "1"),),
    "a long value": (("X-Long", "a" * 9000),),
    "a NUL": (("X-Nul", "a\0b"),),
    "a bare CR": (("X-Cr", "a\rSet-Cookie: b"),),
    "a second length": (("Content-Length", "7"), ("Content-Length", "9")),
}


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.fault("F48", "129+ headers, oversized, NUL, CR, two lengths")
async def test_f48_alone_headers_beyond_measure_are_an_error(alone: Drill, name: str) -> None:
    alone.broken.otherwise = WithHeaders(alone.broken.otherwise, HEADERS[name])

    seen = await alone.ask()

    assert (seen.status, seen.code) == (502, "upstream_protocol_error")
    assert not any(header.lower().startswith(("x-0", "x-nul", "x-cr", "set-cookie")) for header in seen.answer.headers)


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.fault("F48", "129+ headers, oversized, NUL, CR, two lengths")
async def test_f48_another_answers_instead(pair: Drill, name: str) -> None:
    pair.broken.otherwise = WithHeaders(pair.broken.otherwise, HEADERS[name])

    seen = await pair.ask()

    assert is_answered_by_the_sound_one(pair, seen)


@pytest.mark.fault("F48", "duplicate headers, cookies, a header that ends another's line")
async def test_f48_no_header_of_an_upstream_reaches_the_caller(alone: Drill) -> None:
    headers = (
        ("Set-Cookie", "session=canary"),
        ("Set-Cookie", "other=canary"),
        ("X-Upstream", "a\r\nX-Injected: canary"),
        ("X-Upstream", "canary"),
        ("x-gateway-deployment", "canary"),
        ("x-request-id", "canary"),
        ("Retry-After", "canary"),
        ("Access-Control-Allow-Origin", "canary"),
    )
    alone.broken.otherwise = WithHeaders(alone.broken.otherwise, headers)

    first, second = await alone.ask(), await ask_aside(alone)

    assert (first.status, first.by, second.status) == (200, "broken", 200)
    told = [f"{name}: {value}" for seen in (first, second) for name, value in seen.answer.headers.items()]
    assert not any("canary" in line or "X-Upstream" in line for line in told)
    assert all("Cookie" not in request.headers for request in alone.broken.requests)


@pytest.mark.fault("F48", "headers without an end")
async def test_f48_headers_that_never_end_are_cut_and_memory_stays_flat(alone: Drill) -> None:
    endless = Raw((b"HTTP/1.1 200 OK\r\n", Repeated(b"X-More: " + b"a" * 1000 + b"\r\n")))
    alone.broken.script(alone.broken.otherwise, endless)

    status, code = await ask_in_bounds(alone)

    assert (status, code) == (502, "upstream_protocol_error")
    await alone.broken.closed_by_client(1)


@pytest.mark.fault("F48", "one header line without an end")
async def test_f48_a_header_line_that_never_ends_is_cut_and_memory_stays_flat(alone: Drill) -> None:
    endless = Raw((b"HTTP/1.1 200 OK\r\nX-Long: ", Repeated(b"a" * 65_536)))
    alone.broken.script(alone.broken.otherwise, endless)

    status, code = await ask_in_bounds(alone)

    assert (status, code) == (502, "upstream_protocol_error")
    await alone.broken.closed_by_client(1)
