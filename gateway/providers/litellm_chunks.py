"""What litellm streams, put into the chunks that OpenAI's clients expect.

Pure: takes in litellm's pieces one by one and gives events; waiting for pieces is in `litellm_stream.py`.
"""

from __future__ import annotations

from typing import Any

from gateway.call import Usage
from gateway.providers.litellm_images import pictures_of
from gateway.providers.litellm_reply import (
    NO_ARGUMENTS,
    completion_id,
    finish_reason,
    is_of_upstream,
    logprobs_of,
    usage_of,
)
from gateway.wire import DONE_EVENT, encode_event, read_usage


class _Choice:
    __slots__ = ("calls", "finish", "hidden", "index", "latest", "silent")

    def __init__(self, index: int) -> None:
        self.index = index
        self.finish: str | None = None
        self.calls: dict[int, tuple[str, int]] = {}  # upstream's index -> id and our index of its latest call
        self.latest = -1
        self.silent: set[int] = set()  # calls of which no arguments came yet
        self.hidden: set[int] = set()  # upstream's indices of the calls it answers itself


class Chunks:
    """One stream's chunks: each choice's role first and its finish last, the usage in the end if it was asked for."""

    def __init__(self, model: str, *, wants_usage: bool) -> None:
        self._model = model
        self._wants_usage = wants_usage
        self._head: dict[str, Any] | None = None
        self._choices: dict[int, _Choice] = {}
        self._usage: dict[str, Any] | None = None

    @property
    def usage(self) -> Usage | None:
        return read_usage(self._usage)

    @property
    def begun(self) -> int:
        """Return how many choices have begun."""
        return len(self._choices)

    @property
    def is_finished(self) -> bool:
        """Tell whether every choice that began also ended."""
        return bool(self._choices) and all(choice.finish is not None for choice in self._choices.values())

    def feed(self, piece: Any) -> bytes:
        """Return the events that a piece of litellm's stands for, b"" if it says nothing new."""
        if isinstance(piece, dict):
            return self._feed_plain(piece)
        self._note_usage(getattr(piece, "usage", None))
        told = getattr(piece, "choices", None) or ()
        if self._head is None and told:
            self._begin(getattr(piece, "id", None), getattr(piece, "created", 0))
        return b"".join([self._feed_choice(choice) for choice in told])

    def closing(self) -> bytes:
        """Return the end of a good stream."""
        events = []
        for choice in self._choices.values():
            for index in sorted(choice.silent):
                delta = {"index": index, "function": {"arguments": NO_ARGUMENTS}}
                events.append(self._event(choice, {"tool_calls": [delta]}))
            finish = finish_reason(choice.finish or "stop", has_calls=choice.latest >= 0)
            events.append(self._event(choice, {}, finish))
        if self._wants_usage and self._head is not None and self._usage is not None:
            events.append(encode_event({**self._head, "choices": [], "usage": self._usage}))
        return b"".join(events) + DONE_EVENT

    def _begin(self, told_id: Any, created: Any) -> None:
        self._head = {
            "id": completion_id(told_id),
            "object": "chat.completion.chunk",
            "created": int(created or 0),
            "model": self._model,
        }

    def _note_usage(self, told: Any) -> None:
        usage = usage_of(told)
        if usage is None:
            return
        # Anthropic tells the prompt at the start and the answer at the end: the larger figure is the later one.
        self._usage = _larger(self._usage or {}, usage)
        self._usage["total_tokens"] = self._usage["prompt_tokens"] + self._usage["completion_tokens"]

    def _feed_plain(self, piece: dict[str, Any]) -> bytes:
        """Take a piece of litellm's older form, of which each empty one stands for nothing."""
        if not (piece.get("text") or piece.get("is_finished")):
            return b""
        if self._head is None:
            self._begin(piece.get("id"), 0)
        choice, events = self._choice(piece.get("index") or 0)
        if piece.get("text"):
            events += self._event(choice, {"content": piece["text"]})
        if piece.get("is_finished"):
            choice.finish = piece.get("finish_reason") or "stop"
        return events

    def _choice(self, index: int) -> tuple[_Choice, bytes]:
        choice = self._choices.get(index)
        if choice is not None:
            return choice, b""
        choice = self._choices[index] = _Choice(index)
        return choice, self._event(choice, {"role": "assistant", "content": "", "refusal": None})

    def _feed_choice(self, told: Any) -> bytes:
        choice, events = self._choice(told.index or 0)
        delta = told.delta
        if thoughts := getattr(delta, "reasoning_content", None):
            events += self._event(choice, {"reasoning_content": thoughts})
        if content := getattr(delta, "content", None):
            events += self._event(choice, {"content": content}, logprobs=logprobs_of(told))
        if pictures := pictures_of(delta):
            events += self._event(choice, {"images": pictures})
        for call in getattr(delta, "tool_calls", None) or ():
            if not _is_hidden(choice, call):
                events += self._event(choice, {"tool_calls": [_call_delta(choice, call)]})
        if told.finish_reason and choice.finish in (None, "stop"):  # Google's pieces say stop before and after the end
            choice.finish = told.finish_reason
        return events

    def _event(self, choice: _Choice, delta: dict[str, Any], finish: str | None = None, logprobs: Any = None) -> bytes:
        shaped = {"index": choice.index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        payload = {**(self._head or {}), "choices": [shaped]}
        if self._wants_usage:
            payload["usage"] = None
        return encode_event(payload)


def _is_hidden(choice: _Choice, told: Any) -> bool:
    """Tell whether a piece belongs to a call that the upstream answers itself; only the first piece has the id."""
    theirs = told.index or 0
    if is_of_upstream(told.id):
        choice.hidden.add(theirs)
    elif told.id:
        choice.hidden.discard(theirs)
    return theirs in choice.hidden


def _call_delta(choice: _Choice, told: Any) -> dict[str, Any]:
    """Return a piece of a tool call: id and name with its first piece only, since clients put pieces together."""
    theirs, arguments = told.index or 0, told.function.arguments or ""
    known = choice.calls.get(theirs)
    if known is not None and told.id in (None, "", known[0]):
        if arguments:
            choice.silent.discard(known[1])
        return {"index": known[1], "function": {"arguments": arguments}}
    choice.latest += 1
    choice.calls[theirs] = (told.id or "", choice.latest)
    if not arguments:
        choice.silent.add(choice.latest)
    function = {"name": told.function.name or "", "arguments": arguments}
    return {"index": choice.latest, "id": told.id or f"call_{choice.latest}", "type": "function", "function": function}


def _larger(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    merged = {**before, **now}
    for name in before.keys() & now.keys():
        is_group = isinstance(now[name], dict)
        merged[name] = _larger(before[name], now[name]) if is_group else max(before[name], now[name])
    return merged
