"""Fault drills: one gateway, a broken upstream, perhaps a sound one beside it, and what the caller sees of it.

    async with drill(row, kind, sound=True) as it:
        it.broken.otherwise = Reset()
        seen = await it.ask()

Every answer is checked against the contract and put into words, which become the published failure matrix.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from .app import Answer, RunningGateway, make_config, running
from .contract import assert_stream_obeys_contract, join_content
from .deployments import FakeClock
from .upstream import Behaviour, Chat, Embeddings, ScriptedUpstream

Kind = Literal["chat", "stream", "embeddings"]
KINDS: tuple[Kind, ...] = ("chat", "stream", "embeddings")
SOUND_TEXT = "the sound one"
BROKEN_TEXT = "hello from the broken one"
_PATHS: Mapping[Kind, str] = {"chat": "chat/completions", "stream": "chat/completions", "embeddings": "embeddings"}
HASTE = {"connect": 0.4, "first_event": 0.4, "plain_answer": 0.4, "between_events": 0.4, "total": 3.0}


@dataclass(frozen=True, slots=True)
class Seen:
    """What one caller saw: `error` is the error object of the answer or of the stream's last event, if there is one."""

    kind: Kind
    answer: Answer
    error: Mapping[str, Any] | None
    text: str

    @property
    def status(self) -> int:
        return self.answer.status

    @property
    def code(self) -> str | None:
        return self.error["code"] if self.error else None

    @property
    def attempts(self) -> int:
        return int(self.answer.headers.get("x-gateway-attempts", "0"))

    @property
    def by(self) -> str:
        """Return who answered: `sound`, `broken`, or nobody."""
        return {"up0/model": "broken", "up1/model": "sound"}.get(
            self.answer.headers.get("x-gateway-deployment", ""), ""
        )

    @property
    def words(self) -> str:
        """Return what was seen in a line for the matrix."""
        told = f"`{self.error['code'] or self.error['type']}`" if self.error else ""
        if self.status != 200:
            wait = self.answer.headers.get("Retry-After")
            return f"{self.status} {told}" + (f", Retry-After {wait}" if wait else "")
        if self.error:
            return f"200, {'content, ' if self.text else ''}then the event {told}, no [DONE]"
        return "the whole answer" if self.by == "broken" else "the other deployment's answer"


@dataclass
class Drill:
    """A gateway whose `small` is served by `broken` first and then, if it is there, by `sound`."""

    kind: Kind
    gateway: RunningGateway
    broken: ScriptedUpstream
    sound: ScriptedUpstream | None
    clock: FakeClock
    note: Callable[[str, str], None]
    seen: list[Seen] = field(default_factory=list)
    sound_answer: Behaviour | None = None  # what `sound` says while it is sound

    async def ask(self, **fields: Any) -> Seen:
        """Send one request of the drill's kind and return what the caller saw; it is noted for the matrix."""
        seen = await ask(self.gateway, self.kind, **fields)
        self.seen.append(seen)
        self.note(self.column, seen.words)
        return seen

    @property
    def column(self) -> str:
        """Return where the matrix says what is seen now: how many deployments there are, and how many are sound."""
        if self.sound is None:
            return "alone"
        return "with another" if self.sound_answer in (None, self.sound.otherwise) else "both broken"


async def ask(gateway: RunningGateway, kind: Kind, **fields: Any) -> Seen:
    """Send one request and read its answer to the end, which must obey the contract whatever it is."""
    body: dict[str, Any] = {"model": "small"}
    body |= {"input": "hello"} if kind == "embeddings" else {"messages": [{"role": "user", "content": "Hi"}]}
    if kind == "stream":
        body["stream"] = True
    answer = await gateway.post(_PATHS[kind], body, **fields)
    if answer.status != 200:
        return Seen(kind, answer, answer.error, "")
    if kind != "stream":
        payload = answer.json
        text = payload["choices"][0]["message"]["content"] if kind == "chat" else json.dumps(payload["data"])
        return Seen(kind, answer, None, text or "")
    events = answer.events
    if events and events[-1] == "[DONE]":
        assert_stream_obeys_contract(events)
        return Seen(kind, answer, None, join_content(events))
    error = json.loads(events[-1])["error"]
    assert {"message", "type", "param", "code"} <= error.keys()
    return Seen(kind, answer, error, join_content(events[:-1]))


@asynccontextmanager
async def drill(
    kind: Kind,
    note: Callable[[str, str], None],
    *,
    sound: bool,
    timeouts: Mapping[str, float] | None = None,
    broken_url: str | None = None,
) -> AsyncIterator[Drill]:
    """Serve one drill. `timeouts` are named without `_seconds`; `broken_url` stands in for the broken upstream."""
    clock = FakeClock()
    async with ScriptedUpstream() as broken, ScriptedUpstream() as other:
        broken.otherwise = Embeddings() if kind == "embeddings" else Chat(BROKEN_TEXT, stream=kind == "stream")
        other.otherwise = Embeddings() if kind == "embeddings" else Chat(SOUND_TEXT, stream=kind == "stream")
        upstreams: list[ScriptedUpstream | str] = [broken_url or broken, *([other] if sound else [])]
        config = make_config(*upstreams, timeouts={**HASTE, **(timeouts or {})})
        async with running(config, clock=clock, dice=lambda: 0.5) as gateway:
            answer = other.otherwise
            yield Drill(kind, gateway, broken, other if sound else None, clock, note, sound_answer=answer)
