"""What a scripted answer may hold: every form of events, and every body that a right upstream would not send."""

from __future__ import annotations

import gzip

import aiohttp
import openai
import pytest
from openai import AsyncOpenAI

from tests.support.contract import assert_stream_obeys_contract, parse_sse
from tests.support.upstream import (
    FORMS,
    Body,
    Chat,
    CommentsOnly,
    ErrorEvent,
    Events,
    Formed,
    Framed,
    Framing,
    Gate,
    Gzipped,
    Held,
    Html,
    Huge,
    Malformed,
    Redirect,
    ScriptedUpstream,
    Sliced,
    Typed,
    WithHeaders,
)

HELLO = [{"role": "user", "content": "Hello"}]
CHAT = {"model": "m", "messages": HELLO}
STREAM = {**CHAT, "stream": True}


@pytest.mark.parametrize("sizes", [None, 1, (1, 7, 3), 1000])
@pytest.mark.parametrize("form", FORMS)
async def test_every_form_and_split_of_a_stream_means_the_same_to_the_sdk(
    client: AsyncOpenAI, upstream: ScriptedUpstream, form: str, sizes: int | tuple[int, ...] | None
) -> None:
    formed = Formed(Chat(("é€𝄞", "\n", "end")), FORMS[form])
    upstream.script(formed if sizes is None else Sliced(formed, sizes))

    stream = await client.chat.completions.create(model="m", messages=HELLO, stream=True)
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert text == "é€𝄞\nend"


@pytest.mark.parametrize("form", FORMS)
async def test_every_form_is_really_another_one(
    session: aiohttp.ClientSession, upstream: ScriptedUpstream, form: str
) -> None:
    upstream.script(Formed(Chat("é"), FORMS[form]), Chat("é", extra={"id": "chatcmpl-scripted-0"}))

    raw = []
    for _ in range(2):
        async with session.post("chat/completions", json=STREAM) as response:
            raw.append(await response.read())

    assert (raw[0] == raw[1]) is (form == "lf")
    assert_stream_obeys_contract(parse_sse(raw[0]))


async def test_a_character_is_split_between_two_reads(
    session: aiohttp.ClientSession, upstream: ScriptedUpstream
) -> None:
    gate = Gate()
    upstream.script(Held(Sliced(Events(("data: é\n\n".encode(),)), 7), gate, before=1))

    async with session.post("chat/completions", json=STREAM) as response:
        await gate.reached()
        first = await response.content.readany()
        gate.open()
        rest = await response.read()

    assert first == b"data: \xc3"
    assert parse_sse(first + rest) == ["é"]


@pytest.mark.parametrize("after", [0, 2])
async def test_an_error_event_fails_the_sdk_after_its_deltas(
    client: AsyncOpenAI, upstream: ScriptedUpstream, after: int
) -> None:
    upstream.script(ErrorEvent(after))
    chunks = []

    stream = await client.chat.completions.create(model="m", messages=HELLO, stream=True)
    with pytest.raises(openai.APIError):
        async for chunk in stream:
            chunks.append(chunk)

    assert len(chunks) == after


async def test_comments_alone_never_are_an_event(session: aiohttp.ClientSession, upstream: ScriptedUpstream) -> None:
    upstream.script(CommentsOnly())

    async with session.post("chat/completions", json=STREAM) as response:
        read = [await response.content.readany() for _ in range(3)]

    assert parse_sse(b"".join(read)) == []
    await upstream.closed_by_client(0)


@pytest.mark.parametrize(
    ("behaviour", "content_type", "start"),
    [
        (Malformed(), "application/json", b'{"id"'),
        (Html(), "text/html", b"<!doctype"),
        (Typed(Chat(), "text/plain"), "text/plain", b'{"id"'),
        (Body(b""), "application/json", b""),
    ],
)
async def test_a_200_may_hold_anything(
    session: aiohttp.ClientSession, upstream: ScriptedUpstream, behaviour: Body, content_type: str, start: bytes
) -> None:
    upstream.script(behaviour)

    async with session.post("chat/completions", json=CHAT) as response:
        body = await response.read()

    assert response.status == 200
    assert response.content_type == content_type
    assert body.startswith(start)


@pytest.mark.parametrize("fields", [CHAT, STREAM])
async def test_a_body_may_be_compressed(
    session: aiohttp.ClientSession, upstream: ScriptedUpstream, fields: dict[str, object]
) -> None:
    upstream.script(Gzipped(Chat("x" * 5000)))

    async with session.post("chat/completions", json=fields) as response:
        raw = await response.read()

    assert response.headers["Content-Encoding"] == "gzip"
    assert b"x" * 5000 in gzip.decompress(raw)


async def test_a_small_body_may_unpack_to_a_large_one(
    session: aiohttp.ClientSession, upstream: ScriptedUpstream
) -> None:
    upstream.script(Gzipped(Huge(20_000_000)))

    async with session.post("chat/completions", json=CHAT) as response:
        raw = await response.read()

    assert len(raw) < 100_000
    assert len(gzip.decompress(raw)) == 20_000_000


@pytest.mark.parametrize("framing", [Framing.CHUNKED, Framing.LENGTH])
async def test_a_body_may_be_larger_than_memory(
    session: aiohttp.ClientSession, upstream: ScriptedUpstream, framing: Framing
) -> None:
    upstream.script(Huge(10 * 2**30, framing=framing))
    read = 0

    async with session.post("chat/completions", json=CHAT) as response:
        while read < 2_000_000:
            read += len(await response.content.readany())
        response.close()

    assert await upstream.closed_by_client(0) > 0


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_names_another_place(
    session: aiohttp.ClientSession, upstream: ScriptedUpstream, status: int
) -> None:
    upstream.script(Redirect(status, "http://127.0.0.1:1/elsewhere"))

    async with session.post("chat/completions", json=CHAT, allow_redirects=False) as response:
        assert response.status == status
        assert response.headers["Location"] == "http://127.0.0.1:1/elsewhere"


async def test_headers_may_come_several_times(session: aiohttp.ClientSession, upstream: ScriptedUpstream) -> None:
    upstream.script(WithHeaders(Chat(), (("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"))))

    async with session.post("chat/completions", json=CHAT) as response:
        assert response.headers.getall("Set-Cookie") == ["a=1", "b=2"]


async def test_a_body_may_end_with_its_connection(session: aiohttp.ClientSession, upstream: ScriptedUpstream) -> None:
    upstream.script(Framed(Chat("x"), Framing.CLOSE))

    async with session.post("chat/completions", json=STREAM) as response:
        events = parse_sse(await response.read())

    assert_stream_obeys_contract(events)
    assert "Content-Length" not in response.headers
