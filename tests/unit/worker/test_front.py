"""The front of a model process: health, the queue, the relay, the end, before a model that does as it is told."""

from __future__ import annotations

import asyncio
import io
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.worker.engine import Body
from gateway.worker.fair_queue import FairQueue
from gateway.worker.front import Front, Manners
from gateway.worker.front_refusals import LARGEST_BODY_BYTES

CHAT = "/v1/chat/completions"
DONE = b"data: [DONE]\n\n"
SOON = 0.25  # seconds: how fast a place is free when its caller has left


class Gate(asyncio.Semaphore):
    """Lets as many pass as it is told."""

    def open(self, times: int = 1) -> None:
        for _ in range(times):
            self.release()


@dataclass
class ScriptedAnswer:
    """Gives `blocks` one for each `step` that the test puts; with `breaks` it fails after them."""

    blocks: tuple[bytes, ...]
    status: int = 200
    content_type: str = "text/event-stream"
    breaks: bool = False
    steps: Gate = field(default_factory=lambda: Gate(1000))
    is_closed: bool = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for block in self.blocks:
            await self.steps.acquire()
            yield block
        if self.breaks:
            raise ConnectionError("gone")

    async def close(self) -> None:
        self.is_closed = True


def plain(**fields: Any) -> ScriptedAnswer:
    return ScriptedAnswer((json.dumps(fields).encode(),), content_type="application/json")


class ScriptedModel:
    """Notes what it is asked and answers when `gate` lets it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.gate = Gate(1000)
        self.answer = plain(ok=True)
        self.failure: Exception | None = None
        self.running = 0
        self.most = 0
        self.cancelled = 0
        self.is_closed = False
        self._changed = asyncio.Condition()

    async def ask(self, path: str, body: Body) -> ScriptedAnswer:
        self.asked.append((path, dict(body)))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            async with self._changed:
                self._changed.notify_all()
            await self.gate.acquire()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
        if self.failure is not None:
            raise self.failure
        return self.answer

    async def until_asked(self, times: int) -> None:
        async with asyncio.timeout(5), self._changed:
            await self._changed.wait_for(lambda: len(self.asked) >= times)

    async def close(self) -> None:
        self.is_closed = True


@dataclass
class House:
    model: ScriptedModel
    queue: FairQueue
    session: aiohttp.ClientSession
    told: list[str]
    serving: asyncio.Task[None]
    leave: Callable[[], None]
    listener: socket.socket

    async def post(self, body: Any, caller: str = "", **headers: str) -> tuple[int, Any, Any]:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"x-gateway-caller": caller, **headers}
        async with self.session.post(f"http://m{CHAT}", data=io.BytesIO(raw), headers=sent) as reply:
            return reply.status, await reply.json(content_type=None), reply.headers

    def begin(self, name: str) -> asyncio.Task[tuple[int, Any, Any]]:
        """Send the request `name` of the caller with its first letter."""
        return asyncio.create_task(self.post({"name": name}, name[0]))

    async def until_waiting(self, number: int) -> None:
        async with asyncio.timeout(5):
            while self.queue.waiting != number:
                await asyncio.sleep(0)

    async def until_idle(self) -> None:
        async with asyncio.timeout(5):
            while not self.queue.is_idle:
                await asyncio.sleep(0)


@asynccontextmanager
async def house(
    directory: Path, slots: int = 1, max_waiting: int = 32, manners: Manners | None = None
) -> AsyncIterator[House]:
    """Serve a scripted model on a socket in `directory`."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(directory / "m.sock"))
    model, queue, told, ready = ScriptedModel(), FairQueue(slots, max_waiting), list[str](), asyncio.Event()
    front = Front(model, queue, manners or Manners(max_wait=60), told.append)
    serving = asyncio.create_task(front.serve(listener, ready.set))
    await ready.wait()
    connector = aiohttp.UnixConnector(str(directory / "m.sock"), force_close=True, limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=20)) as session:
        yield House(model, queue, session, told, serving, front.leave, listener)
    serving.cancel()
    with suppress(asyncio.CancelledError):
        await serving


async def test_a_request_reaches_the_model_and_its_answer_the_caller(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        it.model.answer = plain(choices=[], usage={"completion_tokens": 7})

        status, body, headers = await it.post({"messages": []})

    assert (status, body) == (200, {"choices": [], "usage": {"completion_tokens": 7}})
    assert it.model.asked == [(CHAT, {"messages": []})]
    assert headers["Content-Type"] == "application/json"
    assert headers["x-gateway-queue-position"] == "0"
    assert float(headers["x-gateway-queue-milliseconds"]) < 1000
    assert it.model.answer.is_closed
    assert it.model.is_closed


async def test_a_refusal_of_the_model_is_relayed_as_it_is(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        it.model.answer = ScriptedAnswer((b'{"error":{"code":400}}',), 400, "application/json")

        status, body, _ = await it.post({})

    assert (status, body) == (400, {"error": {"code": 400}})


async def test_a_stream_passes_event_by_event(tmp_path: Path) -> None:
    events = (b'data: {"a":1}\n\n', b'data: {"a":2}\n\n', DONE)
    async with house(tmp_path) as it:
        answer = it.model.answer = ScriptedAnswer(events, steps=Gate(0))
        seen = []
        answer.steps.open()
        async with it.session.post(f"http://m{CHAT}", json={"stream": True}) as reply:
            assert reply.content_type == "text/event-stream"
            for _ in events:
                seen.append(await reply.content.readuntil(b"\n\n"))
                answer.steps.open()
            rest = await reply.content.read()

    assert tuple(seen) == events
    assert rest == b""


async def test_a_stream_that_breaks_is_not_ended_as_if_it_were_whole(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        it.model.answer = ScriptedAnswer((b'data: {"a":1}\n\n',), breaks=True)

        with pytest.raises(aiohttp.ClientError):
            async with it.session.post(f"http://m{CHAT}", json={"stream": True}) as reply:
                await reply.content.read()

        await it.until_idle()
    assert it.model.answer.is_closed


@pytest.mark.parametrize("breaks", [False, True], ids=["before its answer", "within its answer"])
async def test_a_model_that_breaks_off_is_a_500(tmp_path: Path, breaks: bool) -> None:
    async with house(tmp_path) as it:
        it.model.failure = None if breaks else ConnectionError("gone")
        it.model.answer = ScriptedAnswer((b"{",), content_type="application/json", breaks=breaks)

        status, body, _ = await it.post({})

    assert (status, body["error"]["type"]) == (500, "server_error")


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"\xff", b'{"a":NaN}'])
async def test_what_is_no_json_object_never_reaches_the_model(tmp_path: Path, raw: bytes) -> None:
    async with house(tmp_path) as it:
        status, body, _ = await it.post(raw)

    assert (status, body["error"]["type"]) == (400, "invalid_request_error")
    assert it.model.asked == []


async def test_a_body_that_is_too_large_is_refused(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        status, body, _ = await it.post(b'"' + b"a" * LARGEST_BODY_BYTES + b'"')

    assert (status, body["error"]["code"]) == (413, 413)


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/slots", 404), ("GET", CHAT, 405), ("POST", "/", 404)])
async def test_other_paths_are_refused_in_the_same_form(tmp_path: Path, method: str, path: str, status: int) -> None:
    async with house(tmp_path) as it, it.session.request(method, f"http://m{path}") as reply:
        body = await reply.json()

    assert (reply.status, body["error"]["code"]) == (status, status)


async def test_no_more_are_asked_at_once_than_there_are_slots_and_callers_take_turns(tmp_path: Path) -> None:
    async with house(tmp_path, slots=1) as it:
        it.model.gate = Gate(0)
        tasks = []
        for waiting, name in enumerate(("a1", "a2", "a3", "b1", "c1")):
            tasks.append(it.begin(name))
            await it.until_waiting(waiting)
        for number in range(1, 6):
            await it.model.until_asked(number)
            it.model.gate.open()
        replies = await asyncio.gather(*tasks)

    assert [body["name"] for _, body in it.model.asked] == ["a1", "b1", "c1", "a2", "a3"]
    assert it.model.most == 1
    assert [headers["x-gateway-queue-position"] for _, _, headers in replies] == ["0", "1", "2", "1", "2"]
    assert it.told == ["busy", "idle"]


async def test_a_full_queue_is_a_503_that_says_when_to_come_back(tmp_path: Path) -> None:
    async with house(tmp_path, max_waiting=1) as it:
        it.model.gate = Gate(0)
        tasks = [it.begin("a1"), it.begin("a2")]
        await it.until_waiting(1)

        status, body, headers = await it.post({}, "b")
        it.model.gate.open(2)
        served = [status for status, _, _ in await asyncio.gather(*tasks)]

    assert (status, body["error"]["code"], body["error"]["type"]) == (503, 503, "queue_full")
    assert int(headers["Retry-After"]) >= 1
    assert served == [200, 200]


async def test_a_request_may_refuse_to_wait(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        it.model.gate = Gate(0)
        task = it.begin("a1")
        await it.model.until_asked(1)

        status, body, _ = await it.post({}, "b", **{"x-gateway-max-queue": "0"})
        it.model.gate.open()
        await task

    assert (status, body["error"]["type"]) == (503, "queue_full")


async def test_who_waits_too_long_is_told_so_and_leaves_the_queue(tmp_path: Path) -> None:
    async with house(tmp_path, manners=Manners(max_wait=0.05)) as it:
        it.model.gate = Gate(0)
        task = it.begin("a1")
        await it.model.until_asked(1)

        status, body, headers = await it.post({}, "b")
        waiting = it.queue.waiting
        it.model.gate.open()
        await task

    assert (status, body["error"]["type"], waiting) == (503, "queue_timeout", 0)
    assert headers["x-gateway-queue-position"] == "1"
    assert float(headers["x-gateway-queue-milliseconds"]) >= 50
    assert int(headers["Retry-After"]) >= 1


async def test_a_part_that_waits_too_long_for_its_turn_is_told_when_to_come_back(tmp_path: Path) -> None:
    async with house(tmp_path, manners=Manners(max_wait=0.1)) as it:
        it.model.gate = Gate(0)
        it.model.answer = plain(data=[{"index": 0, "embedding": [1.0]}], usage={"prompt_tokens": 1})
        parts = asyncio.create_task(_embed(it, ["x"] * 20))
        await it.model.until_asked(1)
        other = it.begin("b1")
        await it.until_waiting(1)
        it.model.gate.open()

        status, kind, headers = await parts
        it.model.gate.open()
        await other

    assert (status, kind) == (503, "queue_timeout")
    assert int(headers["Retry-After"]) >= 1


async def _embed(it: House, inputs: list[str]) -> tuple[int, str, Any]:
    async with it.session.post("http://m/v1/embeddings", json={"input": inputs}) as reply:
        return reply.status, (await reply.json())["error"]["type"], reply.headers


async def test_a_caller_who_leaves_the_queue_is_gone_at_once(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        it.model.gate = Gate(0)
        first, second, third = (it.begin(name) for name in ("a1", "a2", "b1"))
        await it.until_waiting(2)

        second.cancel()
        async with asyncio.timeout(SOON):
            await it.until_waiting(1)
        it.model.gate.open(2)
        await asyncio.gather(first, third)

    assert sorted(body["name"] for _, body in it.model.asked) == ["a1", "b1"]


async def test_a_caller_who_leaves_ends_the_models_work_for_it(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        it.model.gate = Gate(0)
        task = it.begin("a1")
        await it.model.until_asked(1)

        task.cancel()
        async with asyncio.timeout(SOON):
            await it.until_idle()

    assert it.model.cancelled == 1


async def test_a_caller_who_leaves_its_stream_frees_the_place(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        answer = it.model.answer = ScriptedAnswer((b'data: {"a":1}\n\n', DONE), steps=Gate(1))
        async with it.session.post(f"http://m{CHAT}", json={"stream": True}) as reply:
            await reply.content.readuntil(b"\n\n")

        async with asyncio.timeout(SOON):
            await it.until_idle()

    assert answer.is_closed


async def test_health_is_told_whatever_runs(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        it.model.gate = Gate(0)
        tasks = [it.begin(f"a{number}") for number in range(20)]
        await it.until_waiting(19)

        async with asyncio.timeout(SOON), it.session.get("http://m/health") as reply:
            told = await reply.json()
        it.model.gate.open(20)
        await asyncio.gather(*tasks)

    assert (reply.status, told["status"]) == (200, "ok")


async def test_a_text_is_taken_apart_while_all_slots_are_at_work(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        it.model.answer.steps = Gate(0)
        at_work = it.begin("a")
        await it.model.until_asked(1)
        it.model.answer = plain(ids=[1])

        async with it.session.post("http://m/tokenize", data=b'{"content": "text"}') as reply:
            told = await reply.json()
        at_work.cancel()

    assert told == {"ids": [1]}
    assert it.model.asked[-1] == ("/tokenize", {"content": "text"})


@pytest.mark.parametrize(("raw", "status"), [(b"{", 400), (b"[]", 400)])
async def test_what_is_no_json_object_is_not_taken_apart(tmp_path: Path, raw: bytes, status: int) -> None:
    async with house(tmp_path) as it, it.session.post("http://m/tokenize", data=raw) as reply:
        assert reply.status == status
        assert (await reply.json())["error"]["type"] == "invalid_request_error"

    assert it.model.asked == []


async def test_who_sent_a_request_may_ask_how_it_fares(tmp_path: Path) -> None:
    async def look(name: str) -> tuple[int, Any]:
        async with it.session.get(f"http://m/queue/{name}") as reply:
            return reply.status, (await reply.json()).get("seconds")

    async with house(tmp_path) as it:
        it.model.gate = Gate(0)
        tasks = [asyncio.create_task(it.post({}, "a", **{"x-gateway-request": name})) for name in ("one", "two")]
        await it.until_waiting(1)
        await it.model.until_asked(1)

        running, waiting = await look("one"), await look("two")
        it.model.gate.open(2)
        await asyncio.gather(*tasks)
        gone, unknown = await look("one"), await look("never")

    assert running[0] == 200
    assert running[1] >= 0.0
    assert waiting == (200, None)
    assert (gone[0], unknown[0]) == (404, 404)


async def test_answers_teach_the_queue_how_long_they_are(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        it.model.answer = plain(usage={"completion_tokens": 5000})
        before = it.queue.pace.expect()

        await it.post({})

        assert it.queue.pace.expect() > 10 * before


@pytest.mark.parametrize("exclusive", [False, True])
async def test_an_exclusive_model_takes_nothing_from_earlier_prompts(tmp_path: Path, exclusive: bool) -> None:
    async with house(tmp_path, manners=Manners(60, exclusive=exclusive)) as it:
        await it.post({"cache_prompt": True})

    assert it.model.asked == [(CHAT, {"cache_prompt": not exclusive})]


async def test_a_model_is_idle_when_its_last_answer_is_on_its_way_and_no_sooner(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        large = b"x" * (4 << 20)
        it.model.answer = ScriptedAnswer((large,), content_type="application/json")
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "m.sock"), limit=1024)
        writer.write(f"POST {CHAT} HTTP/1.0\r\nContent-Length: 2\r\n\r\n{{}}".encode())
        await reader.readuntil(b"\r\n\r\n")
        await it.until_idle()
        await asyncio.sleep(0.05)
        before = list(it.told)

        it.leave()
        answer = await reader.read(-1)
        async with asyncio.timeout(5):
            await it.serving
        writer.close()

    assert before == ["busy"]
    assert answer == large
    assert it.told == ["busy", "leaving", "idle"]


async def test_a_front_that_leaves_answers_who_is_here_and_touches_no_other(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        it.model.gate = Gate(0)
        here = [it.begin("a1"), it.begin("b1")]
        await it.until_waiting(1)

        it.leave()
        await asyncio.sleep(0.1)
        with pytest.raises(aiohttp.ClientError):
            await it.post({}, "c")
        it.model.gate.open(2)
        statuses = [status for status, _, _ in await asyncio.gather(*here)]
        async with asyncio.timeout(5):
            await it.serving

    assert statuses == [200, 200]
    assert len(it.model.asked) == 2


@pytest.mark.parametrize("steps", range(6))
async def test_who_connects_while_a_front_leaves_is_answered_or_left_to_the_next_process(
    tmp_path: Path, steps: int
) -> None:
    async with house(tmp_path) as it:
        with it.listener.dup() as kept, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
            caller.connect(str(tmp_path / "m.sock"))
            for _ in range(steps):
                await asyncio.sleep(0)
            it.leave()
            caller.send(f"POST {CHAT} HTTP/1.0\r\nContent-Length: 2\r\n\r\n{{}}".encode())
            async with asyncio.timeout(5):
                await it.serving
            caller.settimeout(0)
            kept.settimeout(0)
            try:
                answer = caller.recv(1000)
            except BlockingIOError:
                answer = None
                kept.accept()[0].close()

    assert answer is None or answer.startswith(b"HTTP/1.0 200")


async def test_a_model_that_nobody_asks_is_left(tmp_path: Path) -> None:
    async with house(tmp_path, manners=Manners(60, keep_alive=0.05)) as it:
        await it.post({})

        async with asyncio.timeout(5):
            await it.serving

    assert it.model.is_closed


async def test_a_model_that_is_at_work_is_not_left(tmp_path: Path) -> None:
    async with house(tmp_path, manners=Manners(60, keep_alive=0.05)) as it:
        it.model.gate = Gate(0)
        task = it.begin("a1")
        await it.model.until_asked(1)
        done, _ = await asyncio.wait([it.serving], timeout=0.2)
        it.model.gate.open()

        status, _, _ = await task
        async with asyncio.timeout(5):
            await it.serving

    assert (status, done) == (200, set())
