"""What travels through the corridor: who calls, what is asked, and what the log line will say of it.

No behaviour that knows HTTP, an upstream or the configuration lives here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Endpoint = Literal["chat/completions", "completions", "embeddings", "images/generations", "rerank"]
# What may be wrong with an answer that can be used all the same.
Flaw = Literal["missing_done", "invalid_usage"]
Role = Literal["admin", "user", "viewer"]

EVERY_MODEL = "*"


@dataclass(frozen=True, slots=True)
class Caller:
    """The holder of an API key; `models` are the aliases it may use, `*` for all."""

    name: str
    role: Role = "user"
    models: frozenset[str] = frozenset({EVERY_MODEL})

    def may_use(self, alias: str) -> bool:
        return EVERY_MODEL in self.models or alias in self.models


@dataclass(slots=True)
class Usage:
    """Tokens as the upstream counted them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    truncated_tokens: int = 0  # that a local model left out of what was too long


@dataclass(frozen=True, slots=True)
class Queued:
    """How a request waited for a local model: `position` was its place when it came, 0 for at once."""

    position: int
    milliseconds: float


@dataclass(slots=True)
class CacheUse:
    """What became of a request's inputs: remembered, or not; `joined` of those were being asked for already.

    `tiers` says how many were found in which. The same input twice counts twice in `hits` and `misses`.
    """

    hits: int = 0
    misses: int = 0
    joined: int = 0
    tiers: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Attempt:
    """One try at one deployment; `outcome` is `ok` or the code of its error, times are seconds on the monotonic clock.

    `error` is the GatewayError that broke a stream after its first event, until its deployment is judged by it.
    """

    deployment: str
    label: str
    started: float
    ended: float = 0.0
    outcome: str = "ok"
    status: int | None = None
    detail: str = ""
    error: Exception | None = None


@dataclass(slots=True)
class Record:
    """What happened to one request; filled on the way, read once by the log line and the metrics.

    Times are seconds on the event loop's monotonic clock, 0.0 where the moment never came; from `sent_from` on a large
    answer that was whole was sent, as fast as the caller read. `model` is the name as the
    caller sent it, `endpoint` the route's pattern, `alias` the configured one for metrics, `other` if there is none. `dropped` are the caller's fields that
    the deployment that answered was not sent. `told` says which of the attempts the caller gets the answer or error of.
    `queued` is known of local models alone, `cache` of embeddings; `truncated_tokens` were over the model's window, and
    `max_tokens` is what the longest answer was lowered to. Nearly no chat `is_counted`: most fit by their bytes.
    `theirs` is of another request, or of several, whose answer this one got as well: the attempts are counted there.
    """

    request_id: str
    started: float
    endpoint: str = "other"
    caller: str = ""
    model: str = ""
    alias: str = "other"
    stream: bool = False
    attempts: list[Attempt] = field(default_factory=list)
    told: int = -1
    first_event: float = 0.0
    sent_from: float = 0.0
    stream_seconds: float = 0.0
    usage: Usage | None = None
    flaws: tuple[Flaw, ...] = ()
    dropped: tuple[str, ...] = ()
    max_tokens: int | None = None
    is_counted: bool = False
    queued: Queued | None = None
    cache: CacheUse | None = None
    truncated_tokens: int = 0
    error: str | None = None
    client_gone: bool = False
    theirs: Record | None = None

    @property
    def upstream_seconds(self) -> float:
        """How long upstreams were waited for, streams until their last event; attempts at one time count once."""
        attempts = self.attempts
        if len(attempts) == 1:  # as nearly always
            return self.stream_seconds + attempts[0].ended - attempts[0].started
        seconds = self.stream_seconds
        until = 0.0
        for attempt in sorted(attempts, key=_began):
            if attempt.ended > until:
                seconds += attempt.ended - max(attempt.started, until)
                until = attempt.ended
        return seconds

    @property
    def deployment(self) -> str:
        asked = self.asked
        return asked.attempts[asked.told].deployment if asked.attempts else ""

    @property
    def asked(self) -> Record:
        """The record of the attempts that led to this request's answer."""
        return self if self.attempts or self.theirs is None else self.theirs

    def absorb(self, part: Record) -> None:
        """Take over what happened to a part of the request, which was asked by itself."""
        if part.told >= 0:
            self.told = len(self.attempts) + part.told
        self.attempts += part.attempts
        self.flaws = tuple(dict.fromkeys((*self.flaws, *part.flaws)))
        self.dropped = tuple(dict.fromkeys((*self.dropped, *part.dropped)))
        if part.queued is not None and (self.queued is None or part.queued.milliseconds > self.queued.milliseconds):
            self.queued = part.queued


def _began(attempt: Attempt) -> float:
    return attempt.started


@dataclass(slots=True)
class Call:
    """A checked request: `body` is the caller's JSON object with its unknown fields untouched.

    `style`, `speed` and `complexity` are what the caller said beside it, "" where it said nothing.
    `without` are fields of the body that turned out to be refused. `size` is the body's in bytes, of JSON; where it
    `has_media` a part may have more tokens than bytes. `truncation` is what is to become of a request that is too long,
    "" where the caller did not say. `counters` are those who have counted its tokens, `tokens` is how many it has as it is sent
    to the deployment that is being asked, None where it was not counted for that one.
    """

    endpoint: Endpoint
    body: dict[str, Any]
    alias: str
    stream: bool
    caller: Caller
    record: Record
    style: str = ""
    speed: str = ""
    complexity: str = ""
    without: frozenset[str] = frozenset()
    size: int = 0
    has_media: bool = False
    truncation: str = ""
    counters: dict[Any, Any] = field(default_factory=dict)
    tokens: int | None = None
