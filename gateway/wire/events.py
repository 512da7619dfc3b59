"""One server-sent event, or a block of whole ones with LF line ends, as bytes: reading, writing, and finding the way.

What an event means for its stream is the scanner's business (`sse.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

_NOWHERE: Sequence[int] = ()
_NO_OBJECTS = (b"", b"[DONE]")
_LAST_EVENTS = 8  # one would do for the end, two for usage or an error before it; the rest is for odd upstreams


def encode_event(payload: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(payload) + b"\n\n"


def unsound(block: bytes, begin: int, *, closely: bool) -> list[int]:
    """Return where the events begin, from `begin` on, whose data is neither a JSON object nor [DONE].

    Parsing every event would cost more than relaying it: a block whose events all have an object's first and last
    brace and are UTF-8 is taken to be sound; not `closely`, one that is UTF-8.
    """
    if _is_text(block) and (not closely or _looks_sound(block)):
        return []
    found: list[int] = []
    while (end := block.find(b"\n\n", begin) + 2) > 1:
        data = data_of(block[begin:end])
        if parse_event(data) is None and data.strip() not in _NO_OBJECTS:
            found.append(begin)
        begin = end
    return found


def _looks_sound(block: bytes) -> bool:
    return (
        block.startswith(b"data: {")
        and block.endswith(b"}\n\n")
        and block.count(b"\n\n") == block.count(b"}\n\ndata: {") + 1
    )


def _is_text(block: bytes) -> bool:
    if block.isascii():
        return True
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return True


def find_all(block: bytes, word: bytes, begin: int) -> Sequence[int]:
    """Return every place of `word` in `block` from `begin` on."""
    position = block.find(word, begin)
    if position < 0:
        return _NOWHERE
    found = []
    while position >= 0:
        found.append(position)
        position = block.find(word, position + 1)
    return found


def last_events(block: bytes) -> int:
    """Return where the last events of a block begin."""
    before, *events = block.rsplit(b"\n\n", _LAST_EVENTS + 1)
    return len(before) + 2 if len(events) > _LAST_EVENTS else 0


def event_start(block: bytes, position: int) -> int:
    """Return where the event that `position` lies in begins."""
    before = block.rfind(b"\n\n", 0, position)
    return before + 2 if before >= 0 else 0


def data_of(event: bytes) -> bytes:
    """Return the data of one event, its lines joined."""
    if event.startswith(b"data: ") and event.find(b"\n") == len(event) - 2:
        return event[6:-2]
    lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines)


def parse_event(data: bytes) -> dict[str, Any] | None:
    """Return the JSON object in an event's data, None if it is anything else."""
    try:
        payload = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return payload if isinstance(payload, dict) else None
