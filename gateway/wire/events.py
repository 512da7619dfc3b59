"""One server-sent event, or a block of whole ones with LF line ends, as bytes: reading, writing, and finding the way.

What an event means for its stream is the scanner's business (`sse.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

# Inside a JSON string the quotes would be escaped, so these match keys only.
_FINISHED = re.compile(rb'"finish_reason"\s*:\s*"')
_NO_ERROR = re.compile(rb'"error"\s*:\s*null')
_NOWHERE: Sequence[int] = ()
_NO_OBJECTS = (b"", b"[DONE]")
_SMALL_EVENT_BYTES = 4096
_LAST_EVENTS = 8  # one would do for the end, two for usage or an error before it; the rest is for odd upstreams


def encode_event(payload: dict[str, Any]) -> bytes:
    """Return one event; raises TypeError for what is nested deeper than is written, though it could be read."""
    return b"data: " + orjson.dumps(payload) + b"\n\n"


def is_usual_event(block: bytes) -> bool:
    """Tell at little cost whether a block is one small event, sound and with nothing in it that must be read."""
    return (
        len(block) < _SMALL_EVENT_BYTES
        and block.startswith(b"data: {")
        and block.find(b"}\n\n") == len(block) - 3
        and block.isascii()
        and b'"error"' not in block
        and b'"usage"' not in block
        and b"[DONE]" not in block
    )


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


def error_in(payload: dict[str, Any]) -> Any:
    """Return what an answer or event that is an error says, something falsy for any other.

    Older vLLM has no `error` but says `"object": "error"` of the whole.
    """
    return payload if payload.get("object") == "error" else payload.get("error")


def find_errors(block: bytes, begin: int, tail: int) -> list[int]:
    """Return where `block` may say from `begin` on that something failed; before `tail` only in the usual spelling.

    Searched from behind, in which Python skips more than twice as much: all of a large block costs as much as the rest
    of its inspection.
    """
    if block.rfind(b'error":', begin, tail) >= 0:
        tail = begin
    return [found for found in find_all(block, b'"error"', tail) if not _NO_ERROR.match(block, found)]


def is_finishing(block: bytes) -> bool:
    """Tell whether some choice ends in a block of whole events."""
    return _FINISHED.search(block) is not None


def finished_choices(block: bytes) -> set[int]:
    """Return the indices of the choices that end in a block of whole events."""
    events = (block[event_start(block, at) : block.find(b"\n\n", at) + 2] for at in _places_of_ends(block))
    return {index for event in events for index in _finished_in(parse_event(data_of(event)))}


def _places_of_ends(block: bytes) -> Iterator[int]:
    return (found.start() for found in _FINISHED.finditer(block))


def _finished_in(chunk: dict[str, Any] | None) -> Iterator[int]:
    for choice in choices_of(chunk or {}):
        index = choice.get("index", 0)
        if choice.get("finish_reason") and isinstance(index, int):
            yield index


def choices_of(chunk: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the choices of a chunk that are objects; upstreams put other things there, too."""
    choices = chunk.get("choices")
    return (choice for choice in choices if isinstance(choice, dict)) if isinstance(choices, list) else iter(())


def tells_something(block: bytes) -> bool:
    """Tell whether a block of whole events holds more than a beginning: text, a tool call, an end.

    The role alone says nothing, nor does a chunk without choices, in which some report on the prompt.
    """
    begin = 0
    while (end := block.find(b"\n\n", begin) + 2) > 1:
        data = data_of(block[begin:end]).strip()
        if data and _is_content(parse_event(data)):
            return True
        begin = end
    return False


def _is_content(chunk: dict[str, Any] | None) -> bool:
    if chunk is None or "choices" not in chunk:
        return True  # [DONE], and what is no chunk of a completion, is not for us to hold back
    for choice in choices_of(chunk):
        delta = choice.get("delta")
        said = [value for key, value in delta.items() if key != "role"] if isinstance(delta, dict) else []
        if choice.get("finish_reason") or choice.get("text") or any(said):
            return True
    return False
