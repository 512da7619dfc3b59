"""The fair queue before a real model: several callers, a full queue, and nobody interrupted for another."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import pytest

from gateway.worker.engine import ENGINE_NAMES, EngineName, why_unavailable
from tests.support.worker import Worker, command, running

ENGINES = [
    pytest.param(name, marks=pytest.mark.skipif(why_unavailable(name) is not None, reason=f"{name} is not installed"))
    for name in ENGINE_NAMES
    if name != "auto"
]
CHAT = "http://model/v1/chat/completions"


@pytest.fixture(scope="module")
def single(chat_gguf: Path) -> Iterator[Worker]:
    """Run a model that answers one request at a time, behind which two may wait."""
    with running(chat_gguf, "--slots", "1", "--context-window", "512", "--max-waiting", "2") as worker:
        yield worker


@pytest.fixture
async def session(single: Worker) -> AsyncIterator[aiohttp.ClientSession]:
    async with open_session(single.socket) as made:
        yield made


def open_session(path: Path) -> aiohttp.ClientSession:
    connector = aiohttp.UnixConnector(str(path), force_close=True, limit=0)
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60))


def ask(tokens: int, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Tell a long story."}]
    return {"messages": messages, "max_tokens": tokens, "ignore_eos": True, "temperature": 0} | fields


async def begin_stream(session: aiohttp.ClientSession, caller: str, tokens: int) -> aiohttp.ClientResponse:
    """Return a stream that has begun."""
    return await session.post(CHAT, json=ask(tokens, stream=True), headers={"x-gateway-caller": caller})


async def post(session: aiohttp.ClientSession, caller: str, done: list[str], **headers: str) -> tuple[int, Any, Any]:
    """Ask for a short answer; `done` gets the caller's name when it is there."""
    async with session.post(CHAT, json=ask(3), headers={"x-gateway-caller": caller, **headers}) as reply:
        body = await reply.json()
        done.append(caller)
        return reply.status, body, reply.headers


async def begin_post(
    session: aiohttp.ClientSession, caller: str, done: list[str]
) -> asyncio.Task[tuple[int, Any, Any]]:
    """Return a request that is in the queue: health is answered after what was sent before it has been read."""
    task = asyncio.create_task(post(session, caller, done))
    for _ in range(3):
        async with session.get("http://model/health") as reply:
            assert reply.status == 200
    return task


async def test_callers_take_turns_and_a_full_queue_says_when_to_come_back(session: aiohttp.ClientSession) -> None:
    done: list[str] = []
    stream = await begin_stream(session, "a", 300)
    waiting = [await begin_post(session, "a", done), await begin_post(session, "b", done)]

    status, body, headers = await post(session, "c", [])
    events = [line async for line in stream.content if line.startswith(b"data: ")]
    replies = await asyncio.gather(*waiting)

    assert (status, body["error"]["type"]) == (503, "queue_full")
    assert 1 <= int(headers["Retry-After"]) <= 600
    assert events[-1] == b"data: [DONE]\n"
    assert len(events) > 300
    assert done == ["b", "a"]
    assert [reply[0] for reply in replies] == [200, 200]
    assert [reply[2]["x-gateway-queue-position"] for reply in replies] == ["1", "1"]
    assert all(float(reply[2]["x-gateway-queue-milliseconds"]) > 0 for reply in replies)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_list_of_prompts_lets_others_in_between(session: aiohttp.ClientSession, stream: bool) -> None:
    done: list[str] = []
    prompts = [f"Story number {number}:" for number in range(10)]
    body = {"prompt": prompts, "max_tokens": 40, "ignore_eos": True, "stream": stream}

    async def ask_many() -> tuple[Any, bytes]:
        headers = {"x-gateway-caller": "a", "x-gateway-request": "many"}
        async with session.post("http://model/v1/completions", json=body, headers=headers) as reply:
            text = await reply.read()
            done.append("a")
            return reply.headers, text

    many = asyncio.create_task(ask_many())
    while not await has_turn(session, "many"):
        await asyncio.sleep(0)
    waiting = [await begin_post(session, caller, done) for caller in ("b", "c")]
    replies = await asyncio.gather(*waiting)
    headers, text = await many

    assert (sorted(done[:2]), done[2]) == (["b", "c"], "a")
    assert [reply[0] for reply in replies] == [200, 200]
    assert headers["x-gateway-queue-position"] == "0"
    assert choices_in(text, stream=stream) == list(range(10))


def choices_in(text: bytes, *, stream: bool) -> list[int]:
    """Return the indexes of the choices that were finished, in the order of the answer."""
    events = [line[6:] for line in text.splitlines() if line.startswith(b"data: {")] if stream else [text]
    choices = [choice for event in events for choice in json.loads(event)["choices"]]
    return [choice["index"] for choice in choices if choice["finish_reason"]]


async def has_turn(session: aiohttp.ClientSession, name: str) -> bool:
    async with session.get(f"http://model/queue/{name}") as reply:
        return (await reply.json()).get("seconds") is not None


async def test_a_request_that_is_to_be_alone_waits_for_all_places(chat_gguf: Path) -> None:
    done: list[str] = []
    with running(chat_gguf, "--slots", "2", "--context-window", "512") as worker:
        async with open_session(worker.socket) as session:
            stream = await begin_stream(session, "a", 300)
            alone = asyncio.create_task(post(session, "b", done, **{"x-gateway-alone": "1"}))
            events = [line async for line in stream.content if line.startswith(b"data: ")]
            before = list(done)
            status, _, headers = await alone

    assert (len(events) > 300, before, status) == (True, [], 200)
    assert headers["x-gateway-queue-position"] == "1"


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_request_for_as_many_choices_as_there_are_places_does_not_starve(
    chat_gguf: Path, engine: EngineName
) -> None:
    done: list[str] = []
    options = ("--slots", "4", "--context-window", "512", "--engine", engine)
    with running(chat_gguf, *options) as worker:
        async with open_session(worker.socket) as session:

            async def ask_on(caller: str, tokens: int) -> None:
                while True:
                    async with session.post(CHAT, json=ask(tokens), headers={"x-gateway-caller": caller}) as reply:
                        assert reply.status == 200
                    done.append(caller)

            others = [asyncio.create_task(ask_on(*one)) for one in zip("bcdefg", (20, 27, 33, 24, 41, 37), strict=True)]
            while len(done) < 3:
                await asyncio.sleep(0.01)
            before = len(done)
            async with session.post(CHAT, json=ask(3, n=4), headers={"x-gateway-caller": "a"}) as reply:
                choices = (await reply.json())["choices"]
            between = len(done) - before
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

    assert len(choices) == 4
    assert between <= 12  # those at work, and at most one turn of each caller


async def test_who_would_not_wait_is_refused_at_once(session: aiohttp.ClientSession) -> None:
    stream = await begin_stream(session, "a", 300)

    status, body, _ = await post(session, "b", [], **{"x-gateway-max-queue": "0"})
    stream.close()

    assert (status, body["error"]["type"]) == (503, "queue_full")


async def test_a_caller_that_leaves_frees_the_place_for_the_next(session: aiohttp.ClientSession) -> None:
    stream = await begin_stream(session, "a", 400)
    task = await begin_post(session, "b", [])

    stream.close()

    status, body, _ = await asyncio.wait_for(task, 20)
    assert (status, body["usage"]["completion_tokens"]) == (200, 3)


async def test_an_exclusive_model_repeats_its_answers(chat_gguf: Path) -> None:
    with running(chat_gguf, "--exclusive", "--context-window", "512") as worker:
        async with open_session(worker.socket) as session:
            texts = []
            for _ in range(2):
                async with session.post(CHAT, json=ask(12, temperature=1.5, seed=7)) as reply:
                    body = await reply.json()
                texts.append(body["choices"][0]["message"]["content"])

    assert worker.ready["slots"] == 1
    assert texts[0] == texts[1]
    assert body["usage"].get("prompt_tokens_details", {}).get("cached_tokens", 0) == 0


async def test_a_model_on_a_given_socket_tells_when_it_works_and_leaves_the_socket_behind(chat_gguf: Path) -> None:
    with TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        path = Path(directory) / "m.sock"
        listener.bind(str(path))
        listener.listen(16)
        options = ("--context-window", "256", "--keep-alive", "0.2", "--listen-fd", str(listener.fileno()))
        async with open_session(path) as session:
            early = asyncio.create_task(post(session, "a", []))  # while nobody serves yet
            process = await asyncio.create_subprocess_exec(
                *command(chat_gguf, path, *options),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                pass_fds=(listener.fileno(),),
            )
            status, _, _ = await early
        printed, _ = await asyncio.wait_for(process.communicate(), 20)
        left = [found.name for found in Path(directory).glob("*.sock")]

    assert status == 200
    told = [json.loads(line)["event"] for line in printed.splitlines()]
    assert told == ["ready", "busy", "idle", "leaving", "unloaded"]
    assert (process.returncode, left) == (0, ["m.sock"])
