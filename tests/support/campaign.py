"""A seeded random campaign of faults: many callers at once, three upstreams that misbehave by chance, every answer checked.

    python -m tests.support.campaign --faults 100000 --seed 7

Each caller sends words of its own, which a sound upstream says back; so a foreign word in an answer shows that answers
were mixed up. What a run finds is a Tally; `mistakes` must be empty.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack, redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import pytest

from .app import RunningGateway, make_config, running
from .contract import parse_sse
from .upstream import (
    Answer,
    Behaviour,
    Body,
    Chat,
    Cut,
    Embeddings,
    Ending,
    ErrorEvent,
    Events,
    Gzipped,
    Hang,
    Held,
    Html,
    Malformed,
    Pause,
    Raw,
    Redirect,
    Reset,
    ScriptedUpstream,
    SeenRequest,
    Sliced,
    Status,
    Truncated,
    make_vector,
    resolve,
)

CALLERS = 200
LIMITS = {"connect": 0.5, "first_event": 0.5, "plain_answer": 0.5, "between_events": 0.5, "total": 2.0}
# Two attempts that fail as late as they may and take as long again for their text, the longest stream, and the second that
# the promise allows.
LONGEST_SECONDS = 2 * (0.5 + 0.5) + 2.0 + 1.0
SETTLE_SECONDS = 5.0
_FASTER = 1000  # how much faster rests pass, so that a refused key comes back within the run
_KNOWN = frozenset({200, 400, 413, 422, 429, 499, 502, 503, 504})
_WORD = "nonce"


@dataclass
class Tally:
    """What a campaign saw; `mistakes` are broken promises, one line each."""

    faults: int = 0
    calls: int = 0
    answered: int = 0
    left: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    slowest_seconds: float = 0.0
    mistakes: list[str] = field(default_factory=list)


class Chance:
    """What the upstreams do, by a seed: half of the requests are answered well, the others meet a fault."""

    def __init__(self, seed: int, tally: Tally) -> None:
        self._random = Random(seed)
        self._tally = tally

    def __call__(self, request: SeenRequest) -> Answer:
        sound: Behaviour = Chat(_words(request), stream=request.stream)
        if request.path.endswith("/embeddings"):
            sound = Embeddings()
        if self._random.random() < 0.5:
            return resolve(sound, request)
        self._tally.faults += 1
        return resolve(self._fault(sound, streams=request.stream), request)

    def _fault(self, sound: Behaviour, *, streams: bool) -> Behaviour:
        dice = self._random
        place = dice.randrange(0, 8)
        ending = dice.choice(list(Ending))
        faults: list[Behaviour] = [
            Status(dice.choice((400, 401, 402, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504, 529, 599))),
            Status(429, retry_after=dice.choice(("1", "0", "-5", "1e9", "soon", "Wed, 21 Oct 2099 07:28:00 GMT"))),
            Status(500, "<html>oops</html>"),
            Redirect(307, "http://127.0.0.2:9/"),
            Reset(),
            Raw((b"HTTP/1.1 200 OK\r\nContent-Le", ending)),
            Raw((b"\x00\x01 no HTTP at all\r\n\r\n",)),
            Hang(),
            Html(),
            Malformed(),
            Body(b"{}"),
            Gzipped(sound),
            Truncated(sound, missing=dice.randrange(1, 40), ending=ending),
            Sliced(sound, (1, 3, 7)),
            Held(sound, Pause(dice.choice((0.01, 0.1, 0.7))), before=place if streams else 0),
        ]
        if streams:
            faults += [
                Cut(sound, place, ending),
                ErrorEvent(place, of=sound),
                Events((b": nothing\n\n", b"data: {broken\n\n")),
                Events((b"data: [DONE]\n\n",)),
            ] * 3
        return dice.choice(faults)


def _words(request: SeenRequest) -> tuple[str, ...]:
    messages = request.fields.get("messages") or [{"content": ""}]
    nonce = str(messages[0]["content"])
    return tuple(f"{nonce} " for _ in range(6))


class Crowd:
    """Callers that ask until enough faults were met, and judge what they get."""

    def __init__(self, gateway: RunningGateway, tally: Tally, seed: int, faults: int, session: aiohttp.ClientSession):
        self._gateway = gateway
        self._tally = tally
        self._seed = seed
        self._faults = faults
        self._session = session

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(CALLERS):
                group.create_task(self._call_on(number))

    async def _call_on(self, number: int) -> None:
        dice = Random(f"{self._seed}/{number}")
        while self._tally.faults < self._faults:
            nonce = f"{_WORD}{number}x{self._tally.calls}z"
            kind = dice.choice(("chat", "stream", "stream", "embeddings"))
            leaves_after = dice.choice((0.0, 0.01, 0.1)) if dice.random() < 0.1 else None
            self._tally.calls += 1
            began = time.monotonic()
            try:
                async with asyncio.timeout(LONGEST_SECONDS if leaves_after is None else leaves_after):
                    status, body = await self._ask(kind, nonce)
            except TimeoutError:
                if leaves_after is None:
                    self._blame(f"{kind} {nonce}: nothing after {LONGEST_SECONDS:g} s")
                self._tally.left += leaves_after is not None
                continue
            except aiohttp.ClientError as error:
                self._blame(f"{kind} {nonce}: the gateway broke HTTP: {type(error).__name__}")
                continue
            self._tally.slowest_seconds = max(self._tally.slowest_seconds, time.monotonic() - began)
            self._judge(kind, nonce, status, body)

    async def _ask(self, kind: str, nonce: str) -> tuple[int, bytes]:
        body: dict[str, Any] = {"model": "small", "stream": kind == "stream"}
        body["messages"] = [{"role": "user", "content": nonce}]
        path = "chat/completions"
        if kind == "embeddings":
            path, body = "embeddings", {"model": "small", "input": nonce}
        async with self._session.post(f"{self._gateway.base_url}/{path}", json=body) as response:
            return response.status, await response.read()

    def _judge(self, kind: str, nonce: str, status: int, body: bytes) -> None:
        where = f"{kind} {nonce}"
        text = body.decode(errors="replace")
        if any(word != nonce for word in _nonces(text)):
            self._blame(f"{where}: somebody else's words: {text[:200]}")
        if status not in _KNOWN:
            self._blame(f"{where}: status {status}: {text[:200]}")
        outcome = self._judge_good(kind, nonce, text) if status == 200 else self._code(where, text)
        self._tally.outcomes[f"{status} {outcome}"] += 1

    def _judge_good(self, kind: str, nonce: str, text: str) -> str:
        where = f"{kind} {nonce}"
        if kind == "stream":
            events = parse_sse(text.encode())
            if events and events[-1] == "[DONE]":
                words = "".join(
                    choice["delta"].get("content") or ""
                    for event in events[:-1]
                    for choice in json.loads(event)["choices"]
                )
                return self._whole(where, words == f"{nonce} " * 6)
            return self._code(where, events[-1] if events else "")
        payload = json.loads(text)
        if kind == "chat":
            return self._whole(where, payload["choices"][0]["message"]["content"] == f"{nonce} " * 6)
        vector = payload["data"][0]["embedding"]
        return self._whole(where, vector == pytest.approx(make_vector(nonce), abs=1e-6))

    def _whole(self, where: str, is_whole: bool) -> str:
        if is_whole:
            self._tally.answered += 1
            return "answer"
        self._blame(f"{where}: an answer that is not whole")
        return "broken"

    def _code(self, where: str, text: str) -> str:
        try:
            error = json.loads(text)["error"]
        except (ValueError, KeyError, TypeError):
            self._blame(f"{where}: neither an answer nor an error: {text[:200]!r}")
            return "lost"
        if error["code"] == "internal_error":
            self._blame(f"{where}: an error of the gateway's own")
        return str(error["code"] or error["type"])

    def _blame(self, line: str) -> None:
        if len(self._tally.mistakes) < 50:
            self._tally.mistakes.append(line)


def _nonces(text: str) -> set[str]:
    return {f"{_WORD}{part.partition('z')[0]}z" for part in text.split(_WORD)[1:]}


async def campaign(
    faults: int,
    seed: int,
    *,
    tell: Callable[[Tally], None] = lambda _: None,
    make_chance: Callable[[int, Tally], Behaviour] = Chance,
) -> Tally:
    """Run callers against a gateway with three upstreams until so many faults were met; return what was seen.

    `make_chance` makes what the upstreams do, of the seed and the tally.
    """
    before = _Left.now()
    tally = Tally()
    chance = make_chance(seed, tally)
    async with AsyncExitStack() as stack:
        upstreams = [await stack.enter_async_context(ScriptedUpstream()) for _ in range(3)]
        for upstream in upstreams:
            upstream.otherwise = chance
        config = {**json.loads(make_config(*upstreams, timeouts=LIMITS)), "failover": {"retry_budget": 1.0}}
        gateway = await stack.enter_async_context(running(json.dumps(config), clock=lambda: time.monotonic() * _FASTER))
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        telling = asyncio.create_task(_tell_on(tally, tell))
        await Crowd(gateway, tally, seed, faults, session).run()
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
        await _expect_rest(gateway, upstreams, tally)
    await _expect_nothing_left(before, tally)
    return tally


async def _tell_on(tally: Tally, tell: Callable[[Tally], None]) -> None:
    while True:
        await asyncio.sleep(5)
        tell(tally)


async def _expect_rest(gateway: RunningGateway, upstreams: list[ScriptedUpstream], tally: Tally) -> None:
    """Wait until nothing is being answered any more, here and at the upstreams."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < deadline:
        figures = await gateway.figures()
        if figures[("gateway_in_flight_requests",)] <= 1 and not any(each.in_flight for each in upstreams):
            return
        await asyncio.sleep(0.1)
    tally.mistakes.append(f"still being answered after {SETTLE_SECONDS:g} s: {[each.in_flight for each in upstreams]}")


@dataclass(frozen=True)
class _Left:
    tasks: int
    descriptors: int

    @classmethod
    def now(cls) -> _Left:
        return cls(len(asyncio.all_tasks()), sum(1 for _ in Path("/proc/self/fd").iterdir()))


async def _expect_nothing_left(before: _Left, tally: Tally) -> None:
    deadline = time.monotonic() + SETTLE_SECONDS
    while (left := _Left.now()) != before and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
    if left.tasks > before.tasks or left.descriptors > before.descriptors:
        tally.mistakes.append(f"left over: {before} became {left}")


def main() -> int:
    """Run a campaign and print what came of it; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description="A seeded random campaign of faults against the gateway, on loopback.")
    parser.add_argument("--faults", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    def tell(tally: Tally) -> None:
        print(f"{tally.faults} faults, {tally.calls} calls, {len(tally.mistakes)} broken promises", flush=True)

    # The gateway writes a line whenever a deployment's state changes, which here is all the time.
    with open("/dev/null", "w", encoding="utf-8") as nowhere, redirect_stderr(nowhere):  # noqa: PTH123  a device
        tally = asyncio.run(campaign(options.faults, options.seed, tell=tell))
    print(
        f"{tally.calls} calls, {tally.faults} faults, {tally.answered} whole answers, {tally.left} callers left early"
    )
    for outcome, count in tally.outcomes.most_common():
        print(f"  {count:6d}  {outcome}")
    print(f"slowest {tally.slowest_seconds:.2f} s; broken promises: {len(tally.mistakes)}")
    for mistake in tally.mistakes:
        print(f"  {mistake}")
    return 1 if tally.mistakes else 0


if __name__ == "__main__":
    sys.exit(main())
