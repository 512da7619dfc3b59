"""Each fault as a plain client on a socket sees it, and the sound answers beside it."""

from __future__ import annotations

import asyncio
import json
import socket
import time

import pytest

from gateway.chaos.faults import Fault, faults
from gateway.chaos.sound import FORMS, Asked, Form, text_of
from gateway.chaos.stand_in import LOOPBACK, Scene, StandIns, black_hole, closed_port

PATIENCE_SECONDS = 0.15
PATHS = {"embeddings": "embeddings", "images": "images/generations"}
BY_NAME = {fault.name: fault for fault in faults()}

# What is read of the answer in plain form, and how the connection stands then.
PLAIN = {
    "bad-request": (b"HTTP/1.1 400 ", b"chaos_rejected", "closed"),
    "context-too-long": (b"HTTP/1.1 400 ", b"context_length_exceeded", "closed"),
    "content-filter": (b"HTTP/1.1 400 ", b"content_filter", "closed"),
    "bad-key": (b"HTTP/1.1 401 ", b"invalid_api_key", "closed"),
    "forbidden": (b"HTTP/1.1 403 ", b"forbidden", "closed"),
    "no-model": (b"HTTP/1.1 404 ", b"model_not_found", "closed"),
    "request-timeout": (b"HTTP/1.1 408 ", b"Chaos says 408", "closed"),
    "rate-limit": (b"HTTP/1.1 429 ", b"Retry-After: 7\r\n", "closed"),
    "quota": (b"HTTP/1.1 429 ", b"insufficient_quota", "closed"),
    "server-error": (b"HTTP/1.1 500 ", b"server_error", "closed"),
    "bad-gateway": (b"HTTP/1.1 502 ", b"server_error", "closed"),
    "unavailable": (b"HTTP/1.1 503 ", b"server_error", "closed"),
    "overloaded": (b"HTTP/1.1 529 ", b"server_error", "closed"),
    "redirect": (b"HTTP/1.1 307 ", b"Location: /elsewhere\r\n", "closed"),
    "reset": (b"", b"", "reset"),
    "cut-head": (b"HTTP/1.1 200 OK\r\nContent-Ty", b"", "closed"),
    "hang": (b"", b"", "open"),
    "truncated": (b"HTTP/1.1 200 ", b"Content-Length: ", "closed"),
    "drip": (b"HTTP/1.1 200 ", b"\r\n\r\n1\r\n \r\n1\r\n \r\n", "open"),
    "malformed": (b"HTTP/1.1 200 ", b'\r\n\r\n{"choices": [', "closed"),
    "html": (b"HTTP/1.1 200 ", b"Content-Type: text/html\r\n", "closed"),
    "empty": (b"HTTP/1.1 200 ", b"Content-Length: 0\r\n\r\n", "closed"),
    "error-in-200": (b"HTTP/1.1 200 ", b'\r\n\r\n{"error": ', "closed"),
}
# In stream form: what the end of what was read is, and how often content went out before it.
STREAMED = {
    "error-event": (b'"code": null}}\n\n\r\n0\r\n\r\n', 0, "closed"),
    "silent": (b"\r\n\r\n", 0, "open"),
    "comments": (b": still here\n\n\r\n", 0, "open"),
    "no-events": (b"\r\n\r\n0\r\n\r\n", 0, "closed"),
    "garbage": (b"data: {oops\n\n\r\n", 0, "closed"),
    "huge-event": (b'"}\n\n\r\n0\r\n\r\n', 0, "closed"),
    "reset-late": (b"", 2, "reset"),
    "stall": (b"\n\n\r\n", 2, "open"),
    "no-done": (b"0\r\n\r\n", 2, "closed"),
    "error-late": (b'"code": null}}\n\n\r\n0\r\n\r\n', 2, "closed"),
    "garbage-late": (b"data: {oops\n\n\r\n", 2, "closed"),
    "garbage-inside": (b"data: [DONE]\n\n\r\n0\r\n\r\n", 4, "closed"),
}


async def see(fault: Fault, form: Form, deployment: str = "one/a") -> tuple[bytes, str]:
    """Ask a stand-in that has `fault` at one/a; return what came and whether the connection was closed, reset or left open."""
    async with StandIns() as stand_ins:
        stand_ins.play("case", Scene(fault, frozenset({"one/a"})))
        url = await stand_ins.open("host")
        reader, writer = await asyncio.open_connection(LOOPBACK, int(url.rpartition(":")[2]))
        provider, _, model = deployment.partition("/")
        body = json.dumps({"model": model, "stream": form == "stream"}).encode()
        path = f"/case/{provider}/v1/{PATHS.get(form, 'chat/completions')}"
        writer.write(f"POST {path} HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        pieces, state = list[bytes](), "closed"
        try:
            async with asyncio.timeout(5 if fault.name == "huge-event" else PATIENCE_SECONDS):
                while piece := await reader.read(1 << 20):
                    pieces.append(piece)
        except TimeoutError:
            state = "open"
        except ConnectionResetError:
            state = "reset"
        writer.close()
        return b"".join(pieces), state


@pytest.mark.parametrize("name", PLAIN)
async def test_a_plain_fault_is_what_it_says(name: str) -> None:
    begin, inside, state = PLAIN[name]

    received, seen = await see(BY_NAME[name], "chat")

    assert received.startswith(begin)
    assert inside in received
    assert seen == state


@pytest.mark.parametrize("name", STREAMED)
async def test_a_fault_of_streams_is_what_it_says(name: str) -> None:
    end, events, state = STREAMED[name]

    received, seen = await see(BY_NAME[name], "stream")

    assert received.startswith(b"HTTP/1.1 200 ") or state == "reset"
    assert received.endswith(end)
    assert received.count(b"chat.completion.chunk") == events or state == "reset"
    assert seen == state


async def test_garbage_between_braces_stands_between_the_halves_of_an_answer() -> None:
    received, _ = await see(BY_NAME["garbage-inside"], "stream")

    first, _, second = text_of("one/a").partition(" answers")
    assert received.index(first.encode()) < received.index(b"data: {oops}\n\n") < received.index(b"as one/a")
    assert second


def test_no_truth_blames_the_callers_key_and_who_is_to_wait_is_told_how_long() -> None:
    truths = [truth for fault in faults() for truth in fault.truths]

    assert {truth.status for truth in truths} == {200, 400, 429, 502, 503, 504}
    assert all((truth.longest_rest is not None) == (truth.status in (429, 503)) for truth in truths)


async def test_who_fails_when_asked_instead_has_another_fault() -> None:
    scene = Scene(BY_NAME["context-too-long"], frozenset({"one/a"}), frozenset({"two/b"}))
    scripts = {name: scene.script_of(name) for name in ("one/a", "two/b", "three/c")}

    said = {name: b"".join(script(Asked("chat", name))) for name, script in scripts.items() if script}  # type: ignore[arg-type]  # of bytes only

    assert {name: text[:13] for name, text in said.items()} == {"one/a": b"HTTP/1.1 400 ", "two/b": b"HTTP/1.1 500 "}


async def test_a_huge_event_is_more_than_sixteen_mebibytes() -> None:
    received, _ = await see(BY_NAME["huge-event"], "stream")

    assert len(received) > 16 << 20


async def test_a_truncated_body_is_shorter_than_was_promised() -> None:
    received, _ = await see(BY_NAME["truncated"], "embeddings")

    head, _, body = received.partition(b"\r\n\r\n")
    promised = int(head.partition(b"Content-Length: ")[2].split(b"\r\n")[0])
    assert len(body) == promised - 10


def test_every_fault_is_tried_here() -> None:
    without_a_script = {name for name, fault in BY_NAME.items() if fault.script is None}

    assert {*PLAIN, *STREAMED, *without_a_script} == BY_NAME.keys()
    assert without_a_script == {"refused", "black-hole"}


@pytest.mark.parametrize("form", FORMS)
async def test_a_sound_deployment_answers_with_its_name_in_every_form(form: Form) -> None:
    received, seen = await see(BY_NAME["server-error"], form, deployment="two/b")

    assert received.startswith(b"HTTP/1.1 200 ")
    assert seen == "open"  # for the next request
    if form == "stream":
        chunks = [json.loads(line[6:]) for line in received.split(b"\n") if line.startswith(b"data: {")]
        deltas = [choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"]]
        assert "".join(deltas) == text_of("two/b")
        assert received.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    else:
        assert text_of("two/b").encode() in received


async def test_the_scene_knows_who_was_asked_and_other_cases_are_gone() -> None:
    scene = Scene(BY_NAME["empty"], frozenset())
    async with StandIns() as stand_ins:
        stand_ins.play("one", scene)
        url = await stand_ins.open("host")
        port = int(url.rpartition(":")[2])
        answers = []
        for case in ("one", "other"):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            writer.write(f"POST /{case}/p/v1/chat/completions HTTP/1.1\r\nContent-Length: 13\r\n\r\n".encode())
            writer.write(b'{"model":"m"}')
            answers.append(await reader.readuntil(b"\r\n"))
            writer.close()

        assert await stand_ins.open("host") == url

    assert answers == [b"HTTP/1.1 200 Said\r\n", b"HTTP/1.1 410 Gone\r\n"]
    assert scene.asked == ["p/m"]


async def test_all_that_ask_for_a_host_at_once_get_the_same_address() -> None:
    async with StandIns() as stand_ins:
        urls = await asyncio.gather(*(stand_ins.open("host") for _ in range(3)), stand_ins.open("other"))

    assert urls[0] == urls[1] == urls[2] != urls[3]


def test_a_closed_port_refuses() -> None:
    with closed_port() as url, pytest.raises(ConnectionRefusedError):
        socket.create_connection((LOOPBACK, int(url.rpartition(":")[2])), timeout=1)


def test_a_black_hole_neither_accepts_nor_refuses() -> None:
    began = time.monotonic()

    with black_hole() as url, pytest.raises(TimeoutError):
        socket.create_connection((LOOPBACK, int(url.rpartition(":")[2])), timeout=0.2)

    assert time.monotonic() - began >= 0.2
