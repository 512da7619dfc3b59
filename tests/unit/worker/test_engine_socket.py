"""An engine behind a socket: its bytes come at the ends of events, and its end is no good end when it breaks off."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.worker.engine_socket import LARGEST_SINGLE_WRITE, EngineSocket
from gateway.worker.token_count import TokenCount
from tests.support.upstream import Chat, Cut, Reset, ScriptedUpstream, Status

CHAT = "/v1/chat/completions"
BODY = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


async def test_a_plain_answer_is_passed_on_with_its_status(tmp_path: Path) -> None:
    async with ScriptedUpstream(socket_path=tmp_path / "e") as server:
        server.script(Status(400, {"error": {"code": 400}}))
        engine = EngineSocket(tmp_path / "e")

        answer = await engine.ask(CHAT, BODY)
        body = b"".join([piece async for piece in answer])
        await answer.close()
        await engine.close()

    assert (answer.status, answer.content_type, orjson.loads(body)) == (
        400,
        "application/json",
        {"error": {"code": 400}},
    )
    assert server.requests[0].path == CHAT


async def test_a_stream_comes_in_whole_events(tmp_path: Path) -> None:
    async with ScriptedUpstream(socket_path=tmp_path / "e") as server:
        server.otherwise = Chat(("some ", "words"), stream=True)
        engine = EngineSocket(tmp_path / "e")

        answer = await engine.ask(CHAT, BODY | {"stream": True})
        blocks = [block async for block in answer]
        await answer.close()
        await engine.close()

    assert answer.content_type == "text/event-stream"
    assert all(block.endswith(b"\n\n") for block in blocks)
    assert blocks[-1].endswith(b"data: [DONE]\n\n")


async def test_an_engine_that_breaks_off_is_an_error(tmp_path: Path) -> None:
    async with ScriptedUpstream(socket_path=tmp_path / "e") as server:
        server.script(Reset(), Cut(Chat(("some ", "words"), stream=True), 2))
        engine = EngineSocket(tmp_path / "e")

        with pytest.raises(ConnectionError):
            await engine.ask(CHAT, BODY)
        answer = await engine.ask(CHAT, BODY | {"stream": True})
        with pytest.raises(ConnectionError):
            assert [block async for block in answer]
        await answer.close()
        await engine.close()


async def test_a_large_body_arrives_whole(tmp_path: Path) -> None:
    body = {**BODY, "padding": "x" * (2 * LARGEST_SINGLE_WRITE)}
    async with ScriptedUpstream(socket_path=tmp_path / "e") as server:
        engine = EngineSocket(tmp_path / "e")

        await (await engine.ask(CHAT, body)).close()
        await engine.close()

    assert orjson.loads(server.requests[0].body) == body


def count(*blocks: bytes) -> int:
    tokens = TokenCount()
    for block in blocks:
        tokens.feed(block)
    return tokens.total


@given(st.integers(1, 10**6), st.integers(1, 100), st.integers(0, 10**6))
def test_tokens_are_found_wherever_the_bytes_are_cut(completion: int, cut: int, prompt: int) -> None:
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": 5}
    body = orjson.dumps({"choices": [{"message": {"content": '"completion_tokens": 77'}}], "usage": usage})

    assert count(*(body[start : start + cut] for start in range(0, len(body), cut))) == completion


def test_the_events_of_a_stream_that_was_left_are_counted() -> None:
    assert count(b'data: {"a":1}\n\ndata: {"a":2}\n\n', b'data: {"a":3}\n\n') == 3


def test_what_is_read_counts_where_nothing_is_written() -> None:
    assert count(b'{"usage":{"prompt_tokens":7,"total_tokens":7},"data":[]}') == 7
