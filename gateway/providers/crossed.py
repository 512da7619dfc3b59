"""Answers of the other kind: one whole completion where a stream was asked for, and a stream where a whole one was.

Some upstreams, and caches before them, ignore `stream`. What they meant is clear, so it is put into the asked form;
what does not make sense is None here and an error in `openai.py`. Chat and legacy completions only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.wire import DONE_EVENT, data_of, encode_event, error_in, parse_event

Object = dict[str, Any]

LONGEST_STREAM = 4 * 1024 * 1024  # bytes, some 18,000 tokens: a tenth of a second in which no other call is served
MOST_EVENTS = 32 * 1024  # as long again, were they all empty

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_OF_CHOICES = frozenset({"choices", "usage", "object"})
_TOLD_ONCE = frozenset({"id", "type", "name", "role", "index"})  # repeated by some in every piece, never in pieces
_RECENT_CALLS = 16  # among which a piece without an index is looked for


class _Text(list[str]):
    """A text that grows by pieces: to put each to what came before would copy all of that again."""


def to_events(completion: Mapping[str, Any], *, wants_usage: bool) -> bytes | None:
    """Return the whole stream that tells the same as `completion`, None where that is no completion or too long a one.

    Raises TypeError for what is nested too deep to be written.
    """
    choices = completion.get("choices")
    if not isinstance(choices, list) or not choices:
        return None
    identity = {key: value for key, value in completion.items() if key not in _OF_CHOICES}
    events: list[bytes] = []
    size = 0
    for position, choice in enumerate(choices):
        pieces = _pieces_of(choice) if isinstance(choice, dict) else None
        if pieces is None:
            return None
        frame = {"index": choice.get("index", position), "logprobs": None, "finish_reason": None}
        identity.setdefault("object", "chat.completion.chunk" if "delta" in pieces[0] else "text_completion")
        for piece in pieces:
            events.append(encode_event({**identity, "choices": [{**frame, **piece}]}))
            size += len(events[-1])
            if size > LONGEST_STREAM:  # each repeats what is told of them all
                return None
    usage = completion.get("usage")
    if wants_usage and isinstance(usage, dict):
        events.append(encode_event({**identity, "choices": [], "usage": usage}))
    return b"".join((*events, DONE_EVENT))


def to_whole(body: bytes) -> Object | None:
    """Return the completion that the stream `body` tells, or its error event; None where that is no whole stream.

    A stream is whole when [DONE] came or every choice was finished. One that is too long to be read is None as well.
    Raises RecursionError for what is nested absurdly deep.
    """
    text = _text_of(body) if len(body) <= LONGEST_STREAM else b""
    if text.count(b"\n\n") > MOST_EVENTS:
        return None
    whole: Object = {}
    choices: dict[Any, Object] = {}
    is_done = False
    for data in _data_in(text):
        if data == b"[DONE]":
            is_done = True
            break
        chunk = parse_event(data)
        if chunk is None:
            return None
        if error_in(chunk):
            return chunk
        if not _take(chunk, whole, choices):
            return None
    return _closed(whole, [choices[index] for index in sorted(choices)], is_done=is_done)


def _closed(whole: Object, choices: list[Object], *, is_done: bool) -> Object | None:
    if not choices or not (is_done or all(choice["finish_reason"] for choice in choices)):
        return None
    for choice in choices:
        _join(choice)
        choice["finish_reason"] = _reason_of(choice)
    is_chat = "message" in choices[0]
    return {**whole, "object": "chat.completion" if is_chat else "text_completion", "choices": choices}


def _pieces_of(choice: Mapping[str, Any]) -> tuple[Object, ...] | None:
    """Return what the chunks of one choice say: its beginning, all of its content, its end."""
    reason = _reason_of(choice)
    logprobs = choice.get("logprobs")
    message = choice.get("message")
    if isinstance(message, dict):
        delta = {key: value for key, value in message.items() if key != "role" and value is not None}
        if isinstance(delta.get("tool_calls"), list):
            calls = delta["tool_calls"]
            delta["tool_calls"] = [
                {"index": index, **call} for index, call in enumerate(calls) if isinstance(call, dict)
            ]
        begin = {"role": message.get("role") or "assistant", "content": "" if "content" in delta else None}
        return {"delta": begin}, {"delta": delta, "logprobs": logprobs}, {"delta": {}, "finish_reason": reason}
    if isinstance(choice.get("text"), str):
        return {"text": choice["text"], "logprobs": logprobs}, {"text": "", "finish_reason": reason}
    return None


def _reason_of(choice: Mapping[str, Any]) -> str:
    """Return why the choice ended; clients rely on a word."""
    reason, message = choice.get("finish_reason"), choice.get("message")
    if isinstance(reason, str) and reason:
        return reason
    return "tool_calls" if isinstance(message, dict) and message.get("tool_calls") else "stop"


def _text_of(body: bytes) -> bytes:
    return body.removeprefix(_BYTE_ORDER_MARK).replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _data_in(text: bytes) -> Iterator[bytes]:
    return (data for event in text.split(b"\n\n") if (data := data_of(event + b"\n\n").strip()))


def _take(chunk: Object, whole: Object, choices: dict[Any, Object]) -> bool:
    """Add one chunk to what was told before; False where its choices make no sense."""
    for key, value in chunk.items():
        if key == "usage":
            whole["usage"] = value if isinstance(value, dict) else whole.get("usage")
        elif key not in _OF_CHOICES and value is not None:
            whole.setdefault(key, value)
    told = chunk.get("choices") or ()
    return isinstance(told, list | tuple) and all(_take_choice(each, choices) for each in told)


def _take_choice(told: Any, choices: dict[Any, Object]) -> bool:
    index = told.get("index", 0) if isinstance(told, dict) else None
    if type(index) is not int:
        return False
    choice = choices.setdefault(index, {"index": index, "logprobs": None, "finish_reason": None})
    if isinstance(told.get("delta"), dict):
        message = choice.setdefault("message", {"role": "assistant", "content": None})
        _add(message, {key: value for key, value in told["delta"].items() if key != "role"})
    elif isinstance(told.get("text"), str):
        _add(choice, {"text": told["text"]})
    else:
        return False
    choice["finish_reason"] = told.get("finish_reason") or choice["finish_reason"]
    if isinstance(told.get("logprobs"), dict):
        choice["logprobs"] = choice["logprobs"] or {}
        _add(choice["logprobs"], told["logprobs"])
    return True


def _add(whole: Object, more: Mapping[str, Any]) -> None:
    """Add pieces to what they are pieces of: texts and lists grow, objects field by field, of the rest the last counts."""
    for key, value in more.items():
        known = whole.get(key)
        if value is None:
            whole.setdefault(key, None)
        elif key == "tool_calls" and isinstance(value, list):
            _add_calls(whole, value)
        elif isinstance(value, str) and key not in _TOLD_ONCE:
            _add_text(whole, key, value)
        elif isinstance(value, dict):
            whole[key] = known if isinstance(known, dict) else {}
            _add(whole[key], value)
        elif isinstance(value, list) and isinstance(known, list):
            known.extend(value)
        elif known is None or type(known) is not type(value):
            whole[key] = value


def _add_text(whole: Object, key: str, piece: str) -> None:
    known = whole.get(key)
    if isinstance(known, _Text):
        known.append(piece)
    else:
        whole[key] = _Text((piece,))


def _add_calls(whole: Object, pieces: list[Any]) -> None:
    """Add pieces of calls to those of the same index; whole ones have no index."""
    calls = whole.get("tool_calls")
    if not isinstance(calls, list):
        calls = whole["tool_calls"] = []
    for piece in pieces:
        if not isinstance(piece, dict):
            continue
        index = piece.get("index")
        place = index if type(index) is int and 0 <= index <= len(calls) else _place_of(piece, calls)
        if place == len(calls):
            calls.append({"type": "function"})
        _add(calls[place], {key: piece[key] for key in piece if key != "index"})


def _place_of(piece: Object, calls: list[Object]) -> int:
    """Return where the call of this piece stands, or where the next is to stand."""
    first = max(0, len(calls) - _RECENT_CALLS)
    return next((place for place in range(first, len(calls)) if calls[place].get("id") == piece.get("id")), len(calls))


def _join(whole: Object) -> None:
    """Make plain texts of what grew by pieces."""
    for key, value in whole.items():
        if isinstance(value, _Text):
            whole[key] = "".join(value)
        elif isinstance(value, dict):
            _join(value)
        elif key == "tool_calls" and isinstance(value, list):
            for call in value:
                _join(call)
