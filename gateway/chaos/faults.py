"""The faults, each under its name, with its row in the fault table and what it does on the wire.

A script is pure: it yields what is to be written and when the connection is to be left. Playing it is the business of
`stand_in.py`, what the caller should make of it that of `judging.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from itertools import repeat
from typing import Literal

from gateway.chaos.sound import EVENTS, Asked, Form, body_of, chunk, event, events_of, head, whole
from gateway.chaos.truths import (
    BROKEN,
    FAILED,
    INTERRUPTED,
    LATE,
    NOBODY,
    OVERLOADED,
    STALLED,
    Truth,
    Truths,
    rests,
    said,
)

DRIP_SECONDS = 0.05
HUGE_EVENT_PIECES = 20  # of a MiB each: more than one event may have
RETRY_AFTER_SECONDS = 7
TOTAL_IN_PATIENCES = 2.0  # an answer that goes on and on is cut after so many times the patience
IN_BRACES = b"{oops}"


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
# what is wrong, for which a route may name others.
Outlook = Literal["answer", "interrupted", "rejected"]
Instead = Literal["larger", "unfiltered"]

PLAIN: tuple[Form, ...] = ("chat", "embeddings", "images")
EVERY: tuple[Form, ...] = ("chat", "stream", "embeddings", "images")
TEXT: tuple[Form, ...] = ("chat", "stream", "embeddings")
STREAM: tuple[Form, ...] = ("stream",)


@dataclass(frozen=True, slots=True)
class Fault:
    """One way for an upstream to fail; without a `script` the connection itself fails.

    `truths` are what a caller may be told of it. `instead` is the route that may answer a rejected request. An attempt
    may take `patiences` times the patience. `may_pass` is what of a broken stream the product says it relays unread.
    """

    name: str
    row: str
    title: str
    truths: Truths
    forms: tuple[Form, ...] = EVERY
    reach: Reach = "deployment"
    outlook: Outlook = "answer"
    script: Script | None = None
    instead: Instead | None = None
    patiences: float = 1.0
    may_pass: bytes = b""


def faults() -> tuple[Fault, ...]:
    """Return every fault there is, in the order of the fault table."""
    return (*_statuses(), *_connections(), *_bodies(), *_streams())


def outage() -> Script:
    """Return what a deployment does that simply fails."""
    return _status(500)


def _status(number: int, code: str | None = None, **headers: str) -> Script:
    return partial(_say, number, code, headers)


def _statuses() -> Iterator[Fault]:
    yield _rejected("bad-request", "F1", "400 bad request", "chaos_rejected")
    yield _rejected(
        "context-too-long", "F2", "400 longer than the context", "context_length_exceeded", TEXT, instead="larger"
    )
    yield _rejected("content-filter", "F3", "400 content filter", "content_filter", instead="unfiltered")
    yield _account(
        "bad-key", "F4", "401 refused key", said(502, "upstream_auth_failed"), _status(401, "invalid_api_key")
    )
    yield _account("forbidden", "F5", "403 forbidden", said(502, "upstream_forbidden"), _status(403, "forbidden"))
    unknown = said(502, "upstream_model_not_found")
    yield Fault("no-model", "F6", "404 unknown model", (unknown, NOBODY), script=_status(404, "model_not_found"))
    yield Fault("request-timeout", "F8", "408 request timeout", (LATE, NOBODY), script=_status(408))
    later = str(RETRY_AFTER_SECONDS)
    limited = rests(429, "upstream_rate_limited", longest=RETRY_AFTER_SECONDS)
    come_back = _status(429, "rate_limit_exceeded", Retry_After=later)
    yield _account("rate-limit", "F12", f"429 with Retry-After: {later}", limited, come_back)
    unpaid = rests(429, "insufficient_quota")
    yield _account("quota", "F15", "429 quota used up", unpaid, _status(429, "insufficient_quota"))
    yield Fault("server-error", "F16", "500 server error", (FAILED, NOBODY), script=_status(500))
    yield Fault("bad-gateway", "F17", "502 bad gateway", (FAILED, NOBODY), script=_status(502))
    yield Fault("unavailable", "F18", "503 unavailable", (OVERLOADED, NOBODY), script=_status(503))
    yield Fault("overloaded", "F19", "529 overloaded", (OVERLOADED, NOBODY), script=_status(529))
    moved = said(502, "upstream_redirect", "upstream_protocol_error")
    elsewhere = _status(307, None, Location="/elsewhere")
    yield Fault("redirect", "F20", "307 redirect", (moved, NOBODY), script=elsewhere)


def _rejected(
    name: str, row: str, title: str, code: str, forms: tuple[Form, ...] = EVERY, *, instead: Instead | None = None
) -> Fault:
    truths = (said(400, code),)
    return Fault(name, row, title, truths, forms, outlook="rejected", script=_status(400, code), instead=instead)


def _account(name: str, row: str, title: str, truth: Truth, script: Script) -> Fault:
    return Fault(name, row, title, (truth, NOBODY), reach="account", script=script)


def _connections() -> Iterator[Fault]:
    unreachable = said(502, "upstream_unreachable")
    yield Fault("refused", "F22", "connection refused", (unreachable, NOBODY), reach="host")
    yield Fault("black-hole", "F23", "connection never accepted", (LATE, NOBODY), reach="host")
    failed = (FAILED, NOBODY)
    yield Fault("reset", "F26", "reset before any byte", failed, script=lambda _: iter([Ending.RESET]))
    yield Fault("cut-head", "F28", "closed within the headers", failed, script=_cut_head)
    yield Fault("hang", "F29", "no answer at all", (LATE, NOBODY), script=lambda _: iter([Ending.HANG]))


def _bodies() -> Iterator[Fault]:
    cut, broken = (said(502, "upstream_truncated"), NOBODY), (BROKEN, NOBODY)
    yield Fault("truncated", "F31", "body cut short", cut, PLAIN, script=_truncated)
    # As bytes arrive, only the patience with a whole answer ends it.
    endless = Fault("drip", "F47", "body without an end, byte by byte", (LATE, NOBODY), PLAIN, script=_drip)
    yield replace(endless, patiences=TOTAL_IN_PATIENCES)
    half = whole(200, b'{"choices": [')
    yield Fault("malformed", "F43", "200 with malformed JSON", broken, script=lambda _: iter([half]))
    yield Fault("html", "F44", "200 with a page of HTML", broken, script=_html)
    yield Fault("empty", "F44", "200 with an empty body", broken, script=lambda _: iter([whole(200, b"")]))
    yield Fault("error-in-200", "F36", "200 with an error inside", (FAILED, NOBODY), PLAIN, script=_error_in_200)


def _streams() -> Iterator[Fault]:
    late = partial(Fault, forms=STREAM, outlook="interrupted")
    early = partial(Fault, forms=STREAM)
    none = (said(502, "upstream_empty_stream", "upstream_stream_interrupted"), NOBODY)
    unread = (said(502, "bad_event"), NOBODY)
    broken = (said(200, "bad_event"),)
    yield early(
        "error-event", "F36", "error event before content", (FAILED, NOBODY), script=partial(_stream, 0, _FAILED)
    )
    yield early(
        "silent", "F29", "stream begins, nothing follows", (LATE, NOBODY), script=partial(_stream, 0, Ending.HANG)
    )
    yield early("comments", "F42", "comments only, for ever", (LATE, NOBODY), script=_comments)
    yield early("no-events", "F35", "stream ends before it began", none, script=partial(_stream, 0, chunk(b"")))
    yield early("garbage", "F40", "an event that is not JSON", unread, script=partial(_stream, 0, chunk(_GARBAGE)))
    # Whoever else is asked would answer as much.
    large = (said(502, "event_too_large"), NOBODY)
    huge = f"one event of {HUGE_EVENT_PIECES} MiB"
    yield early("huge-event", "F41", huge, large, outlook="rejected", script=_huge_event)
    yield late("reset-late", "F32", "reset after content", INTERRUPTED, script=partial(_stream, 2, Ending.RESET))
    yield late("stall", "F33", "silence after content", STALLED, script=partial(_stream, 2, Ending.HANG))
    cut = partial(_stream, 2, chunk(b""))
    yield late("no-done", "F35", "ends after content, without [DONE]", INTERRUPTED, script=cut)
    told = (said(200, "upstream_error"),)
    yield late("error-late", "F37", "error event after content", told, script=partial(_stream, 2, _FAILED))
    yield late("garbage-late", "F40", "not JSON after content", broken, script=partial(_stream, 2, chunk(_GARBAGE)))
    braces = late("garbage-inside", "F40", "not JSON between braces, after content", broken, script=_inside)
    yield replace(braces, may_pass=IN_BRACES)


_GARBAGE = b"data: {oops\n\n"
_FAILED = chunk(event({"error": {"message": "Chaos.", "type": "server_error", "param": None, "code": None}})) + chunk(
    b""
)


def _say(number: int, code: str | None, headers: dict[str, str], _: Asked) -> Iterator[Step]:
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
    for number, content in enumerate(events_of(asked)):
        if number == after:
            break
        yield chunk(content)
    yield DRIP_SECONDS
    yield last


def _inside(asked: Asked) -> Iterator[Step]:
    """Yield a sound stream with something broken in its middle."""
    yield head(200, EVENTS, None)
    for number, content in enumerate(events_of(asked)):
        if number == 2:  # on its own, as events come while a model writes
            yield DRIP_SECONDS
            yield chunk(b"data: " + IN_BRACES + b"\n\n")
            yield DRIP_SECONDS
        yield chunk(content)
    yield chunk(b"")


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
