"""What an upstream does, told without the words of any wire: each wire plays these in its own.

A scene holds the request that leads to it too, as OpenAI's clients send it. Nothing here knows how a wire looks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Any, Literal

# ruff: noqa: TID252  # mypy takes tests/support for a top-level folder, so its packages name each other like this
from ..upstream import Ending

Why = Literal["stop", "length", "calls", "filter"]
Kind = Literal[
    "bad request",
    "context too long",
    "overloaded",
    "rate limited",
    "refused key",
    "request too large",
    "server error",
    "unknown model",
]

PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


@dataclass(frozen=True)
class Tokens:
    """What is counted: `prompt` includes `cached`, `completion` includes `reasoning`."""

    prompt: int = 9
    completion: int = 12
    cached: int = 0
    reasoning: int = 0


@dataclass(frozen=True)
class Call:
    """One call of a function that the model wants."""

    name: str
    arguments: Mapping[str, Any]
    id: str

    @property
    def text(self) -> str:
        return json.dumps(dict(self.arguments))


@dataclass(frozen=True)
class Failure:
    """A refusal in place of an answer; `message` "" is the wire's own sentence, `retry_after` in seconds."""

    kind: Kind
    message: str = ""
    retry_after: str | None = None


class Break(Enum):
    """How a stream stops in its middle."""

    CLOSE = Ending.CLOSE
    RESET = Ending.RESET
    HANG = Ending.HANG
    ERROR = "error"  # an event that says so, as the wire writes it
    SILENT = "silent"  # the body ends in order, without a word of why


@dataclass(frozen=True)
class Scene:
    """One answer, played plain or streamed as the request asks.

    `pieces` of text come one by one in a stream, `thoughts` before them and `calls` after them. With `breaks` a
    stream stops after `pieces_before_break` of its pieces; a plain answer is not touched by it. `asks` are the fields
    of OpenAI's request besides the model.
    """

    name: str
    pieces: tuple[str, ...] = ()
    thoughts: tuple[str, ...] = ()
    calls: tuple[Call, ...] = ()
    why: Why = "stop"
    tokens: Tokens = field(default_factory=Tokens)
    failure: Failure | None = None
    breaks: Break | None = None
    pieces_before_break: int = 2
    hangs: bool = False
    asks: Mapping[str, Any] = field(default_factory=lambda: ask())

    def __str__(self) -> str:
        return self.name

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def played(self) -> tuple[str, ...]:
        """Return the pieces that a stream gets to."""
        return self.pieces if self.breaks is None else self.pieces[: self.pieces_before_break]


def ask(content: Any = "Why is the sky blue?", **fields: Any) -> Mapping[str, Any]:
    """Return the fields of a request of one user message after a system message."""
    messages = [{"role": "system", "content": "Answer shortly."}, {"role": "user", "content": content}]
    return MappingProxyType({"messages": messages, "max_tokens": 4096, **fields})


def _tool(name: str, **properties: str) -> dict[str, Any]:
    described = {key: {"type": kind} for key, kind in properties.items()}
    parameters = {"type": "object", "properties": described, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": f"The {name}.", "parameters": parameters}}


def _ask_with_results(*calls: Call) -> Mapping[str, Any]:
    """Return a request in which the model called before and the results are there."""
    made = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.text}} for call in calls
    ]
    results = [{"role": "tool", "tool_call_id": call.id, "content": f"The {call.name} is known."} for call in calls]
    asked = ask(tools=TOOLS)
    messages = [*asked["messages"], {"role": "assistant", "content": None, "tool_calls": made}, *results]
    return MappingProxyType({**asked, "messages": messages})


SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "people": {"type": "integer"}},
    "required": ["city", "people"],
    "additionalProperties": False,
}
TOOLS = [_tool("weather", city="string", unit="string"), _tool("clock", zone="string")]
PARIS = Call("weather", {"city": "Paris – 巴黎", "unit": "C"}, "call_paris")
TOKYO = Call("clock", {"zone": "Asia/Tokyo"}, "call_tokyo")
LOOK = [
    {"type": "text", "text": "What is this?"},
    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}},
]

TEXT = Scene("text", ("Because of ", "Rayleigh."))
LONG = Scene("long text in pieces", tuple(f"word{number} ä {'x' * (number % 7)} " for number in range(60)))
CALLS = Scene("two calls at once", calls=(PARIS, TOKYO), why="calls", asks=ask(tools=TOOLS))
TEXT_THEN_CALL = Scene("text, then a call", ("Let me ", "look."), calls=(PARIS,), why="calls", asks=ask(tools=TOOLS))
JSON_ANSWER = Scene(
    "answer by a schema",
    ('{"city": "Paris", ', '"people": 2100000}'),
    asks=ask(
        response_format={"type": "json_schema", "json_schema": {"name": "town", "schema": SCHEMA, "strict": True}}
    ),
)
REASONING = Scene(
    "reasoning, then text",
    ("It is ", "scattered."),
    thoughts=("Light ", "and air."),
    asks=ask(reasoning_effort="low"),
)
COUNTED = Scene(
    "cached and reasoning tokens", ("Counted.",), tokens=Tokens(prompt=120, completion=50, cached=100, reasoning=30)
)
IMAGE = Scene("picture in the question", ("A dot.",), asks=ask(LOOK))
LENGTH = Scene("stopped by length", ("Because of",), why="length", asks=ask(max_tokens=3))
FILTERED = Scene("stopped by a filter", why="filter")
TOLD = Scene("answer to two results", ("Sunny, and late.",), asks=_ask_with_results(PARIS, TOKYO))
ANSWERS = (TEXT, LONG, CALLS, TEXT_THEN_CALL, TOLD, JSON_ANSWER, REASONING, COUNTED, IMAGE, LENGTH, FILTERED)

RATE_LIMITED = Scene("rate limited", failure=Failure("rate limited", retry_after="7"))
REFUSED_KEY = Scene("refused key", failure=Failure("refused key"))
UNKNOWN_MODEL = Scene("unknown model", failure=Failure("unknown model"))
OVERLOADED = Scene("overloaded", failure=Failure("overloaded"))
BAD_REQUEST = Scene("bad request", failure=Failure("bad request"))
TOO_LONG = Scene("context too long", failure=Failure("context too long"))
TOO_LARGE = Scene("request too large", failure=Failure("request too large"))
SERVER_ERROR = Scene("server error", failure=Failure("server error"))
FAILURES = (RATE_LIMITED, REFUSED_KEY, UNKNOWN_MODEL, OVERLOADED, BAD_REQUEST, TOO_LONG, SERVER_ERROR)

HANGING = Scene("hang", hangs=True)
CUT = Scene("cut off", ("one ", "two ", "three"), breaks=Break.RESET)
CLOSED_EARLY = Scene("closed early", ("one ", "two ", "three"), breaks=Break.CLOSE)
STALLED = Scene("stalled", ("one ", "two ", "three"), breaks=Break.HANG)
FAILED_MIDWAY = Scene("error event", ("one ", "two ", "three"), breaks=Break.ERROR)
UNFINISHED = Scene("ended without a reason", ("one ", "two ", "three"), breaks=Break.SILENT)
BROKEN = (CUT, CLOSED_EARLY, FAILED_MIDWAY, UNFINISHED)
