"""The faults, each under its name, with its row in the fault table and what it does on the wire.

A script is pure: it yields what is to be written and when the connection is to be left. Playing it is the business of
`stand_in.py`, what the caller should make of it that of `judging.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import partial
from itertools import repeat
from typing import Literal

from gateway.chaos.sound import EVENTS, Asked, Form, body_of, chunk, event, events_of, head, whole

DRIP_SECONDS = 0.05
HUGE_EVENT_PIECES = 20  # of a MiB each: more than one event may have
RETRY_AFTER_SECONDS = 7


class Ending(Enum):
    """How a connection is left before the answer is whole."""

    RESET = "reset"
    CLOSE = "close"
    HANG = "hang"


Step = bytes | float | Ending  # written, waited in seconds, or the end
Script = Callable[[Asked], Iterator[Step]]

# Whom it hits besides the deployment: nobody, all of its host and key, or all of its host.
Reach = Literal["deployment", "account", "host"]
# What the caller gets while another deployment is sound: its answer; or an error, as content went out or the request is
# what is wrong.
Outlook = Literal["answer", "interrupted", "rejected"]

PLAIN: tuple[Form, ...] = ("chat", "embeddings", "images")
EVERY: tuple[Form, ...] = ("chat", "stream", "embeddings", "images")
STREAM: tuple[Form, ...] = ("stream",)


@dataclass(frozen=True, slots=True)
class Fault:
    """One way for an upstream to fail; without a `script` the connection itself fails."""

    name: str
    row: str
    title: str
    forms: tuple[Form, ...] = EVERY
    reach: Reach = "deployment"
    outlook: Outlook = "answer"
    script: Script | None = None


def faults() -> tuple[Fault, ...]:
    """Return every fault there is, in the order of the fault table."""
    return (*_statuses(), *_connections(), *_bodies(), *_streams())


def _statuses() -> Iterator[Fault]:
    def status(number: int, code: str | None = None, **headers: str) -> Script:
        return partial(_status, number, code, headers)

    later = str(RETRY_AFTER_SECONDS)
    yield Fault("bad-request", "F1", "400 bad request", outlook="rejected", script=status(400, "chaos_rejected"))
    yield Fault("bad-key", "F4", "401 refused key", reach="account", script=status(401, "invalid_api_key"))
    yield Fault("forbidden", "F5", "403 forbidden", reach="account", script=status(403, "forbidden"))
    yield Fault("no-model", "F6", "404 unknown model", script=status(404, "model_not_found"))
    yield Fault("request-timeout", "F8", "408 request timeout", script=status(408))
    yield Fault(
        "rate-limit",
        "F12",
        f"429 with Retry-After: {later}",
        reach="account",
        script=status(429, "rate_limit_exceeded", Retry_After=later),
    )
    yield Fault("quota", "F15", "429 quota used up", reach="account", script=status(429, "insufficient_quota"))
    yield Fault("server-error", "F16", "500 server error", script=status(500))
    yield Fault("bad-gateway", "F17", "502 bad gateway", script=status(502))
    yield Fault("unavailable", "F18", "503 unavailable", script=status(503))
    yield Fault("overloaded", "F19", "529 overloaded", script=status(529))
    yield Fault("redirect", "F20", "307 redirect", script=status(307, None, Location="/elsewhere"))


def _connections() -> Iterator[Fault]:
    yield Fault("refused", "F22", "connection refused", reach="host")
    yield Fault("black-hole", "F23", "connection never accepted", reach="host")
    yield Fault("reset", "F26", "reset before any byte", script=lambda _: iter([Ending.RESET]))
    yield Fault("cut-head", "F28", "closed within the headers", script=_cut_head)
    yield Fault("hang", "F29", "no answer at all", script=lambda _: iter([Ending.HANG]))


def _bodies() -> Iterator[Fault]:
    yield Fault("truncated", "F31", "body cut short", PLAIN, script=_truncated)
    yield Fault("drip", "F47", "body without an end, byte by byte", PLAIN, script=_drip)
    yield Fault("malformed", "F43", "200 with malformed JSON", script=lambda _: iter([whole(200, b'{"choices": [')]))
    yield Fault("html", "F44", "200 with a page of HTML", script=_html)
    yield Fault("empty", "F44", "200 with an empty body", script=lambda _: iter([whole(200, b"")]))
    yield Fault("error-in-200", "F36", "200 with an error inside", PLAIN, script=_error_in_200)


def _streams() -> Iterator[Fault]:
    late = partial(Fault, forms=STREAM, outlook="interrupted")
    early = partial(Fault, forms=STREAM)
    yield early("error-event", "F36", "error event before content", script=partial(_stream, 0, _FAILED))
    yield early("silent", "F29", "stream begins, nothing follows", script=partial(_stream, 0, Ending.HANG))
    yield early("comments", "F42", "comments only, for ever", script=_comments)
    yield early("no-events", "F35", "stream ends before it began", script=partial(_stream, 0, chunk(b"")))
    yield early("garbage", "F40", "an event that is not JSON", script=partial(_stream, 0, chunk(b"data: {oops\n\n")))
    yield early("huge-event", "F41", f"one event of {HUGE_EVENT_PIECES} MiB", script=_huge_event)
    yield late("reset-late", "F32", "reset after content", script=partial(_stream, 2, Ending.RESET))
    yield late("stall", "F33", "silence after content", script=partial(_stream, 2, Ending.HANG))
    yield late("no-done", "F35", "ends after content, without [DONE]", script=partial(_stream, 2, chunk(b"")))
    yield late("error-late", "F37", "error event after content", script=partial(_stream, 2, _FAILED))
    yield late("garbage-late", "F40", "not JSON after content", script=partial(_stream, 2, chunk(b"data: {oops\n\n")))


_FAILED = chunk(event({"error": {"message": "Chaos.", "type": "server_error", "param": None, "code": None}})) + chunk(
    b""
)


def _status(number: int, code: str | None, headers: dict[str, str], _: Asked) -> Iterator[Step]:
    kind = "invalid_request_error" if number < 429 else "server_error"
    error = {"message": f"Chaos says {number}.", "type": kind, "param": None, "code": code}
    yield whole(number, json.dumps({"error": error}).encode(), **headers)


def _cut_head(_: Asked) -> Iterator[Step]:
    yield b"HTTP/1.1 200 OK\r\nContent-Ty"
    yield Ending.CLOSE


def _truncated(asked: Asked) -> Iterator[Step]:
    yield whole(200, body_of(asked))[:-10]
    yield Ending.CLOSE


def _drip(_: Asked) -> Iterator[Step]:
    yield head(200, "application/json", None)
    for piece in repeat(chunk(b" ")):
        yield piece
        yield DRIP_SECONDS


def _html(_: Asked) -> Iterator[Step]:
    yield whole(200, b"<!doctype html><title>Welcome</title>", "text/html")


def _error_in_200(_: Asked) -> Iterator[Step]:
    yield whole(200, b'{"error": {"message": "Chaos.", "type": "server_error", "param": null, "code": null}}')


def _stream(after: int, last: Step, asked: Asked) -> Iterator[Step]:
    """Yield the first `after` events of a sound stream and then `last`; those are flushed first."""
    yield head(200, EVENTS, None)
    for number, said in enumerate(events_of(asked)):
        if number == after:
            break
        yield chunk(said)
    yield DRIP_SECONDS
    yield last


def _comments(_: Asked) -> Iterator[Step]:
    yield head(200, EVENTS, None)
    for piece in repeat(chunk(b": still here\n\n")):
        yield piece
        yield DRIP_SECONDS


def _huge_event(_: Asked) -> Iterator[Step]:
    yield head(200, EVENTS, None)
    yield chunk(b'data: {"choices": "')
    yield from repeat(chunk(b"x" * (1 << 20)), HUGE_EVENT_PIECES)
    yield chunk(b'"}\n\n') + chunk(b"")
