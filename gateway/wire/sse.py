"""Server-sent events on their way through: whole events only, as few bytes touched as possible.

A scanner takes the upstream's bytes as they come and gives back whole events to relay. It notices what the gateway
must know (the end, an error, the usage, whether a choice finished) by searching for the few words that can mean it,
and changes only the events that hold one. Reading and writing sockets is not its business.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from typing import Any

from gateway.call import Flaw, Usage
from gateway.wire.events import (
    choices_of,
    data_of,
    encode_event,
    error_in,
    event_start,
    find_all,
    find_errors,
    finished_choices,
    is_finishing,
    is_usual_event,
    last_events,
    parse_event,
    unsound,
)
from gateway.wire.usage import read_usage

DONE_EVENT = b"data: [DONE]\n\n"
MAX_EVENT_BYTES = 16 * 1024 * 1024

_USUAL_END = b"\n\n" + DONE_EVENT
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# Inside a JSON string the quotes would be escaped, so this matches a key only.
_USAGE = re.compile(rb'"usage"\s*:\s*[^n\s]')  # anything but null
_ANY_DATA = re.compile(rb"(?:^|\n)data:")
_SMALL_BLOCK_BYTES = 4096
# A finish reason is followed by little more than the usage; of a slow caller's large blocks no more is kept.
_RECENT_BLOCKS = 8
_RECENT_BYTES = 4096


class EventTooLarge(Exception):
    """One event is larger than MAX_EVENT_BYTES."""


class SseScanner:
    """Cuts raw bytes into whole events with LF line ends.

    `keep_usage` says whether the caller asked for usage: it is always noted and taken out, and given back as the last
    chunk if so. `choices` is how many were asked for. The role of each choice is let through once.
    After each `feed`: `started` (a data event was seen; the first one is always read), `is_over` (nothing more is to be
    relayed) and why: `done` ([DONE] passed), `error` (the object of an error event) or `broken` (an event that had to
    be read is not a JSON object). `usage` is what the upstream counted, once it said so.
    """

    max_event_bytes = MAX_EVENT_BYTES
    # How every scanner begins; most streams change only a few of them.
    is_over = done = started = broken = False
    error: Any = None
    usage: Usage | None = None
    flaws: tuple[Flaw, ...] = ()
    _usage_event = b""
    _held_bytes = 0
    _skip_newline = _has_running_usage = False
    _is_first = True
    _has_running_role: bool | None = None  # not known before the second event

    def __init__(self, *, keep_usage: bool, choices: int = 1) -> None:
        self.keep_usage = keep_usage
        self.choices = choices
        self._given_roles: set[int] = set()
        self._held: list[bytes] = []
        self._recent: deque[bytes] = deque(maxlen=_RECENT_BLOCKS)
        self._ended: set[int] = set()  # of several choices; of one the recent blocks tell
        self._is_usual = type(self) is SseScanner and choices == 1  # no dialect that looks at every event

    def finish(self) -> None:
        """Note that the stream ended as it should."""
        self.done = self.is_over = True

    def break_off(self) -> None:
        """Note that an event that had to be read is not a JSON object."""
        self.broken = self.is_over = True

    def fail(self, error: Any) -> None:
        """Note the object of an error event."""
        self.error = error
        self.is_over = True

    def closing(self) -> bytes:
        """Return the end of a good stream: the usage, if it was asked for and told, and [DONE]."""
        self.finish()
        return self._usage_event + DONE_EVENT

    @property
    def finished(self) -> bool:
        """Tell whether every choice was finished."""
        if self.choices > 1:
            return len(self._ended) >= self.choices
        return any(map(is_finishing, self._recent))

    def recall(self, block: bytes) -> None:
        """Remember of a relayed block what `finished` needs: the end of one, or the ends of several choices."""
        if self.choices > 1:
            self._ended |= finished_choices(block)
        else:
            self._recent.append(block if len(block) <= _RECENT_BYTES else block[-_RECENT_BYTES:])

    def feed(self, chunk: bytes) -> bytes:
        """Take bytes in, give the whole events back; raises EventTooLarge."""
        if self._held or self._skip_newline or b"\r" in chunk or not chunk.endswith(b"\n\n"):
            chunk = self._assemble(chunk)
        return self.inspect(chunk) if chunk else b""

    def end(self) -> bytes:
        """Take note that the upstream's body ended and give back a last event that only lacked its blank line."""
        rest = b"".join(self._held)
        self._held.clear()
        if self.done or not rest.strip():
            return b""
        payload = data_of(rest)
        if payload != b"[DONE]" and parse_event(payload) is None:
            return b""  # cut in the middle: half an event is never relayed
        return self.inspect(rest.rstrip(b"\n") + b"\n\n")

    def _assemble(self, chunk: bytes) -> bytes:
        """Return the whole events that `chunk` completes, in LF form, and hold what is left over."""
        if b"\r" in chunk or self._skip_newline:
            chunk = self._with_plain_newlines(chunk)
        last = self._held[-1][-1:] if self._held else b""
        if b"\n\n" not in last + chunk:  # only where an event ends is anything put together
            return self._hold(chunk)
        chunk = b"".join((*self._held, chunk))
        self._held.clear()
        self._held_bytes = 0
        end = chunk.rfind(b"\n\n") + 2
        self._hold(chunk[end:])
        return chunk[:end]

    def _with_plain_newlines(self, chunk: bytes) -> bytes:
        if self._skip_newline and chunk:
            chunk = chunk.removeprefix(b"\n")  # the second half of a CRLF that was cut in two
            self._skip_newline = False
        if chunk.endswith(b"\r"):
            self._skip_newline = True
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _hold(self, piece: bytes) -> bytes:
        if piece:
            self._held.append(piece)
            self._held_bytes += len(piece)
            if self._held_bytes > self.max_event_bytes:
                raise EventTooLarge
        return b""

    def inspect(self, block: bytes) -> bytes:
        """Return what is to be relayed of a block of whole events; for dialects that need more, to be overridden."""
        if self._has_running_role is False and self._is_usual and is_usual_event(block):
            self._recent.append(block)
            return block
        if self.choices > 1 or not block.endswith(_USUAL_END):
            self.recall(block)
        begin = 0
        if not self.started:
            block, begin = self._begin(block)
            if begin == len(block):
                return block
        if self._has_running_role is None:
            self._look_for_roles(block, begin)
        if len(block) >= _SMALL_BLOCK_BYTES and (whole := self._end_of_usual(block, begin)) is not None:
            return whole
        suspects = self._suspects(block, begin)
        return self._sift(block, suspects) if suspects else block

    def _end_of_usual(self, block: bytes, begin: int) -> bytes | None:
        """Return the end of a stream if it is as usual (text, perhaps the usage, [DONE]), else None."""
        is_usual = self._is_usual and self._has_running_role is False and not self._has_running_usage
        if not (is_usual and block.endswith(_USUAL_END) and block.isascii()):
            return None
        tail = max(begin, event_start(block, len(block) - _SMALL_BLOCK_BYTES))
        if block.find(b'"error"', tail) >= 0 or block.find(b"[DONE]", tail) != len(block) - len(b"[DONE]\n\n"):
            return None
        place = block.find(b'"usage"', tail)
        if place < 0:
            self.finish()
            return block
        start, end = event_start(block, place), len(block) - len(DONE_EVENT)
        if block.find(b"\n\n", start) + 2 != end:
            return None
        told = self._judge(block[start:end])
        return block[:start] + told + (b"" if self.is_over else self.closing())

    def _begin(self, block: bytes) -> tuple[bytes, int]:
        """Read the first data event, and drop what comes before it; return where the rest begins."""
        if self._is_first:
            self._is_first = False
            block = block.removeprefix(_BYTE_ORDER_MARK)
        start = 0
        if not block.startswith(b"data:"):
            data = _ANY_DATA.search(block)
            if data is None:
                return b"", 0
            start = event_start(block, data.end())
        self.started = True
        end = block.index(b"\n\n", start) + 2
        event = block[start:end]
        self._has_running_usage = b'"usage"' in event and _USAGE.search(event) is not None
        first = self._judge(event)
        if first is event and start == 0:
            return block, end  # the usual case: a large block is not copied
        return first + (b"" if self.is_over else block[end:]), len(first)

    def _look_for_roles(self, block: bytes, begin: int) -> None:
        """Learn from the second event whether this upstream repeats the role in each."""
        if not block.startswith(b"data:", begin):
            data = _ANY_DATA.search(block, max(0, begin - 1))
            if data is None:
                return
            begin = data.start()
        self._has_running_role = block.find(b'"role"', begin, block.index(b"\n\n", begin + 1)) >= 0

    def _suspects(self, block: bytes, begin: int) -> Sequence[int]:
        """Return where the events from `begin` on begin that must be read, in their order.

        Searching all of a large block costs as much as relaying it. An end and the usage come last in a stream, so only
        a block's last events are searched for them, and for errors too where the block ends the stream as it should; a
        role in the second event comes again in all, and so does a usage in the first. Of a small block, as it comes
        while a model writes, every event is looked at.
        """
        tail = begin
        is_large = len(block) >= _SMALL_BLOCK_BYTES
        if is_large and not self._has_running_usage:
            tail = max(begin, last_events(block))
        positions: list[int] = unsound(block, begin, closely=not is_large)
        if block.endswith(_USUAL_END):
            positions.append(len(block) - 2)
        else:
            positions += find_all(block, b"[DONE]", tail)
        positions += find_errors(block, tail if is_large and block.endswith(_USUAL_END) else begin, tail)
        positions += [found for found in find_all(block, b'"usage"', tail) if _USAGE.match(block, found)]
        if self._has_running_role:
            positions += find_all(block, b'"role"', begin)
        return sorted({event_start(block, position) for position in positions}) if positions else ()

    def _sift(self, block: bytes, suspects: Sequence[int]) -> bytes:
        whole = memoryview(block)  # so that what is kept is copied once
        kept: list[bytes | memoryview] = []
        position = 0
        for start in suspects:
            end = block.index(b"\n\n", start) + 2
            kept += (whole[position:start], self._judge(block[start:end]))
            position = end
            if self.is_over:
                return b"".join(kept)
        kept.append(whole[position:])
        return b"".join(kept)

    def _judge(self, event: bytes) -> bytes:
        data = data_of(event).strip()
        if not data:
            return event
        if data == b"[DONE]":
            return self.closing()
        payload = parse_event(data)
        if payload is None:
            self.break_off()
            return b""
        if error := error_in(payload):
            self.fail(error)
            return b""
        changed = self._drop_known_roles(payload)
        usage = payload.get("usage")
        if usage is not None:
            changed = True
            self.usage = read_usage(usage)
            self.flaws = () if self.usage is not None else ("invalid_usage",)
            del payload["usage"]
            if self.keep_usage and isinstance(usage, dict):
                self._usage_event = encode_event({**payload, "choices": [], "usage": usage})
            if not payload.get("choices"):
                return b""
        return encode_event(payload) if changed else event

    def _drop_known_roles(self, payload: dict[str, Any]) -> bool:
        """Let each choice's role through once: clients put the deltas' texts together, roles too."""
        changed = False
        for choice in choices_of(payload):
            delta = choice.get("delta")
            if isinstance(delta, dict) and delta.get("role"):
                index = choice["index"] if isinstance(choice.get("index"), int) else 0
                if index in self._given_roles:
                    del delta["role"]
                    changed = True
                self._given_roles.add(index)
        return changed
