"""Requests with many inputs, documents or prompts, asked in pieces that each take a turn; the answers are put together.

Whatever one request holds, it keeps the others waiting for no longer than a piece of it takes. What must not live here:
whose turn it is (`fair_queue.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import orjson

from gateway.worker.engine import Answer, Body, LoadedModel
from gateway.worker.fair_queue import FairQueue, Ticket, Work
from gateway.worker.told import Told, body_of, refuse

MOST_IN_PIECE = 16  # inputs or documents
LARGEST_PIECE = 16_000  # characters, of more than one input or document
SIGN_SECONDS = 5.0  # how often a stream that waits gives a sign of life
EVENT_STREAM = "text/event-stream"
_CHARACTERS_PER_TOKEN = 4
_SIGN = b": waiting\n\n"
_DONE = b"data: [DONE]\n\n"
_OK = 200

Payload = dict[str, Any]


class _Kind(NamedTuple):
    """What is taken apart, what is put together, and how many go into a piece; a `single` one is no list."""

    field: str
    told: str
    most: int
    single: bool = False


_KINDS: Mapping[str, _Kind] = MappingProxyType(
    {
        "/v1/embeddings": _Kind("input", "data", MOST_IN_PIECE),
        "/v1/rerank": _Kind("documents", "results", MOST_IN_PIECE),
        "/v1/completions": _Kind("prompt", "choices", 1, single=True),
    }
)


class Turns:
    """The turns of the request with `ticket`, which is in its first one.

    It waits for each other one `max_wait` seconds at most. `note` is called when it stopped or began to be worked on.
    """

    def __init__(self, queue: FairQueue, ticket: Ticket, max_wait: float, note: Callable[[], None]) -> None:
        self._queue = queue
        self._ticket = ticket
        self._max_wait = max_wait
        self._note = note

    async def take(self) -> AsyncIterator[None]:
        """End this turn and return when the next one has come; yields now and then meanwhile.

        Raises TimeoutError when it does not come in time.
        """
        clock = asyncio.get_running_loop().time
        turn = asyncio.Event()
        end = clock() + self._max_wait
        self._queue.take_turns(self._ticket, clock(), turn.set)
        if turn.is_set():
            return
        self._note()
        while not turn.is_set():
            try:
                async with asyncio.timeout(min(SIGN_SECONDS, end - clock())):
                    await turn.wait()
            except TimeoutError:
                if clock() >= end:
                    raise
                yield
        self._note()


async def ask_in_turns(model: LoadedModel, path: str, body: Body, turns: Turns) -> Answer:
    """Ask as LoadedModel.ask does; what comes in pieces is answered as if it had been asked as one."""
    pieces = list(_pieces(path, body))
    if len(pieces) < 2:
        return await model.ask(path, body)
    if not body.get("stream"):
        return await _ask_whole(model, path, pieces, turns)
    first = await model.ask(path, pieces[0])
    if first.status != _OK or first.content_type != EVENT_STREAM:
        return first
    return _JoinedStream(model, path, pieces, turns, first)


def _pieces(path: str, body: Body) -> Iterator[Body]:
    """Yield the body of each piece; nothing of a body that is asked as it is."""
    kind = _KINDS.get(path)
    given = body.get(kind.field) if kind and not body.get("suffix") else None  # which goes with one prompt only
    if kind is None or not isinstance(given, list) or any(isinstance(part, int) for part in given):
        return  # a list with token ids is one input
    start = size = 0
    for place, part in enumerate(given):
        weight = _weight(part)
        if place > start and (place - start == kind.most or size + weight > LARGEST_PIECE):
            yield {**body, kind.field: given[start] if kind.single else given[start:place]}
            start, size = place, 0
        size += weight
    yield {**body, kind.field: given[start] if kind.single and given else given[start:]}


def work_of(path: str, body: Body) -> Work:
    """Return how much a request asks for: an answer for each choice to each prompt, or for each input or document."""
    kind = _KINDS.get(path)
    given = body.get(kind.field) if kind else None
    parts = len(given) if isinstance(given, list) and not any(isinstance(part, int) for part in given) else 1
    most = body.get("max_completion_tokens") or body.get("max_tokens")
    return Work(max(1, parts) * _choices(body), most if isinstance(most, int) and most > 0 else None, _choices(body))


def _weight(part: Any) -> int:
    if isinstance(part, str):
        return len(part)
    return len(part) * _CHARACTERS_PER_TOKEN if isinstance(part, list) else 0


async def _ask_whole(model: LoadedModel, path: str, pieces: Sequence[Body], turns: Turns) -> Answer:
    kind = _KINDS[path]
    joined: Payload = {}
    before = 0
    for piece in pieces:
        try:
            if before:
                async for _ in turns.take():
                    pass
        except TimeoutError:
            return _too_late()
        answer = await model.ask(path, piece)
        body = await body_of(answer)
        if answer.status != _OK:
            return Told(body, answer.status, answer.content_type)
        _join(joined, orjson.loads(body), kind.told, before)
        before += _choices(piece) if kind.single else len(piece[kind.field])
    if path == "/v1/rerank":
        joined["results"].sort(key=lambda result: -result.get("relevance_score", 0.0))
        joined["results"] = joined["results"][: pieces[0].get("top_n")]
    return Told(orjson.dumps(joined))


def _choices(body: Body) -> int:
    choices = body.get("n")
    return choices if isinstance(choices, int) and choices > 0 else 1


def _join(joined: Payload, told: Payload, name: str, before: int) -> None:
    """Add to what was answered the answer to the next piece, `before` which there were so many inputs."""
    for entry in told[name]:
        entry["index"] += before
    if not joined:
        joined |= told
        return
    joined[name] += told[name]
    joined["usage"] = _sum(joined.get("usage"), told.get("usage"))


def _sum(usage: Payload | None, more: Payload | None) -> Payload:
    """Return both together, number by number."""
    total = dict(usage or {})
    for name, value in (more or {}).items():
        if isinstance(value, dict):
            total[name] = _sum(total.get(name), value)
        elif isinstance(value, int):
            total[name] = total.get(name, 0) + value
    return total


def _too_late() -> Answer:
    return refuse(503, 503, "queue_timeout", "A part of the request waited too long for its turn.")


class _JoinedStream:
    """The streams of all pieces as one, with one usage for all at the end; `answer` is the stream of the first.

    What ends one of them before its end ends this one, with the error where there is one.
    """

    status = _OK
    content_type = EVENT_STREAM

    def __init__(self, model: LoadedModel, path: str, pieces: Sequence[Body], turns: Turns, answer: Answer) -> None:
        self._model = model
        self._path = path
        self._pieces = pieces
        self._turns = turns
        self._answer = answer
        self._head: Payload = {}  # what all chunks have in common
        self._last: Payload = {}
        self._usage: Payload | None = None
        self._is_whole = False

    async def close(self) -> None:
        await self._answer.close()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for number, piece in enumerate(self._pieces):
            if number:
                async for sign in self._ask_next(piece):
                    yield sign
            async for events in self._read_one(number * _choices(piece)):
                yield events
            if not self._is_whole:
                return
        if self._usage is not None:
            yield _event({**self._last, "choices": [], "usage": self._usage})
        yield _DONE

    async def _read_one(self, before: int) -> AsyncIterator[bytes]:
        self._is_whole = False
        if self._answer.status != _OK:
            yield _event(orjson.loads(await body_of(self._answer)))
            return
        async for block in self._answer:
            self._is_whole = self._is_whole or _DONE in block
            if events := b"".join(self._tidy(block, before)):
                yield events
        await self._answer.close()

    async def _ask_next(self, piece: Body) -> AsyncIterator[bytes]:
        try:
            async for _ in self._turns.take():
                yield _SIGN
        except TimeoutError:
            self._answer = _too_late()
        else:
            self._answer = await self._model.ask(self._path, piece)

    def _tidy(self, block: bytes, before: int) -> Iterator[bytes]:
        """Yield the events of a block, their choices moved by `before` places, without usages and the end."""
        for event in block.split(b"\n\n"):
            payload = _payload(event)
            if payload is None:
                if event and event + b"\n\n" != _DONE:
                    yield event + b"\n\n"
                continue
            usage = payload.pop("usage", None)
            if isinstance(usage, dict):
                self._usage = _sum(self._usage, usage)
            for choice in payload.get("choices", ()):
                choice["index"] = choice.get("index", 0) + before
            self._head = self._head or {name: payload[name] for name in ("id", "created") if name in payload}
            self._last = payload = payload | self._head
            if payload.get("choices"):
                yield _event(payload)


def _payload(event: bytes) -> Payload | None:
    """Return the chunk of an event; None where it is none."""
    if not event.startswith(b"data: {"):
        return None
    payload = orjson.loads(event[len(b"data: ") :])
    return payload if isinstance(payload, dict) and "error" not in payload else None


def _event(payload: Payload) -> bytes:
    return b"data: " + orjson.dumps(payload) + b"\n\n"
