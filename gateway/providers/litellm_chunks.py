"""What litellm streams, put into the chunks that OpenAI's clients expect.

Pure: takes in litellm's pieces one by one and gives events; waiting for pieces is in `litellm_stream.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.call import Usage
from gateway.providers.litellm_images import pictures_of
from gateway.providers.litellm_parts import (
    Thoughts,
    audio_of,
    call_of,
    legacy_call_of,
    plain,
    refusal_of,
    source_in,
)
from gateway.providers.litellm_reply import (
    NO_ARGUMENTS,
    completion_id,
    finish_reason,
    is_of_upstream,
    logprobs_of,
    usage_of,
    without_untold,
)
from gateway.wire import DONE_EVENT, encode_event, read_usage


class _Choice:
    __slots__ = (
        "block",
        "calls",
        "finish",
        "hidden",
        "index",
        "latest",
        "legacy",
        "length",
        "silent",
        "sources",
        "thoughts",
    )

    def __init__(self, index: int) -> None:
        self.index = index
        self.finish: str | None = None
        self.calls: dict[int, tuple[str, int]] = {}  # upstream's index -> id and our index of its latest call
        self.latest = -1
        self.silent: set[int] = set()  # calls of which no arguments came yet
        self.hidden: set[int] = set()  # upstream's indices of the calls it answers itself
        self.legacy = False  # whether a function was called in the form that came before tools
        self.length = 0  # characters of text so far
        self.block = 0  # where in them the upstream's latest block of text begins
        self.sources: list[dict[str, Any]] = []
        self.thoughts = Thoughts()

    def closing(self) -> dict[str, Any]:
        """Return what is only said when it is whole; clients that put pieces together want an index in each item."""
        whole = {"thinking_blocks": self.thoughts.blocks, "annotations": self.sources}
        return {
            name: [{"index": index, **item} for index, item in enumerate(items)]
            for name, items in whole.items()
            if items
        }

    @property
    def reason(self) -> str:
        told = self.finish or "stop"
        if self.legacy and told in ("stop", "tool_calls"):
            return "function_call"
        return finish_reason(told, has_calls=self.latest >= 0)


class Chunks:
    """One stream's chunks: each choice's role first and its finish last, the usage in the end if it was asked for.

    `signs` says that this upstream continues thoughts that are sent back to it.
    """

    def __init__(self, model: str, *, wants_usage: bool, signs: bool = False) -> None:
        self._model = model
        self._signs = signs
        self._thought = False
        self._wants_usage = wants_usage
        self._head: dict[str, Any] | None = None
        self._choices: dict[int, _Choice] = {}
        self._usage: dict[str, Any] | None = None

    @property
    def usage(self) -> Usage | None:
        return read_usage(without_untold(self._usage, thought=self._thought))

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

    def note_finishes(self, told: Mapping[int, str]) -> None:
        """Take in why choices ended, by index, where litellm lost it."""
        for index, reason in told.items():
            if index in self._choices and self._choices[index].finish is None:
                self._choices[index].finish = reason

    def closing(self) -> bytes:
        """Return the end of a good stream."""
        events = []
        for choice in self._choices.values():
            for index in sorted(choice.silent):
                delta = {"index": index, "function": {"arguments": NO_ARGUMENTS}}
                events.append(self._event(choice, {"tool_calls": [delta]}))
            events += [self._event(choice, {name: items}) for name, items in choice.closing().items()]
            events.append(self._event(choice, {}, choice.reason))
        usage = without_untold(self._usage, thought=self._thought)
        if self._wants_usage and self._head is not None and usage is not None:
            events.append(encode_event({**self._head, "choices": [], "usage": usage}))
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
        self._note_parts(choice, delta)
        content = getattr(delta, "content", None)
        said: list[dict[str, Any]] = [
            {"reasoning_content": _thought(delta)},
            {"content": content},
            {"refusal": refusal_of(delta)},
            {"images": pictures_of(delta)},
            {"audio": audio_of(delta)},
            {"function_call": legacy_call_of(delta)},
        ]
        for part in said:
            if any(part.values()):
                events += self._event(choice, part, logprobs=logprobs_of(told) if "content" in part else None)
        for call in getattr(delta, "tool_calls", None) or ():
            if not _is_hidden(choice, call):
                events += self._event(choice, {"tool_calls": [_call_delta(choice, call)]})
        if told.finish_reason and choice.finish in (None, "stop"):  # Google's pieces say stop before and after the end
            choice.finish = told.finish_reason
        return events

    def _note_parts(self, choice: _Choice, delta: Any) -> None:
        """Note what is said at the end, or only counts."""
        thoughts = getattr(delta, "thinking_blocks", None)
        self._thought = self._thought or bool(thoughts or _thought(delta))
        if self._signs:
            choice.thoughts.feed(thoughts)
        if getattr(delta, "function_call", None) is not None:
            choice.legacy = True
        content = getattr(delta, "content", None) or ""
        choice.length += len(content)
        choice.sources += [plain(source) for source in getattr(delta, "annotations", None) or ()]
        source = source_in(delta, choice.block, choice.length)
        if source is not None:
            choice.sources.append(source)
        elif not content:
            choice.block = choice.length  # a piece without text stands between Anthropic's blocks

    def _event(self, choice: _Choice, delta: dict[str, Any], finish: str | None = None, logprobs: Any = None) -> bytes:
        shaped = {"index": choice.index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        payload = {**(self._head or {}), "choices": [shaped]}
        if self._wants_usage:
            payload["usage"] = None
        return encode_event(payload)


def _thought(delta: Any) -> Any:
    """Return a piece of a thought; pieces of OpenAI's own client have it under the name that the upstream gave it."""
    return getattr(delta, "reasoning_content", None) or getattr(delta, "reasoning", None)


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
    theirs, call = told.index or 0, call_of(told)
    kind = call["type"]
    said = call[kind]
    field = "arguments" if kind == "function" else "input"
    known = choice.calls.get(theirs)
    if known is not None and told.id in (None, "", known[0]):
        if said[field]:
            choice.silent.discard(known[1])
        return {"index": known[1], kind: {field: said[field]}}
    choice.latest += 1
    choice.calls[theirs] = (told.id or "", choice.latest)
    if not said[field] and kind == "function":
        choice.silent.add(choice.latest)
    return {"index": choice.latest, "id": told.id or f"call_{choice.latest}", **call}


def _larger(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    merged = {**before, **now}
    for name in before.keys() & now.keys():
        is_group = isinstance(now[name], dict)
        merged[name] = _larger(before[name], now[name]) if is_group else max(before[name], now[name])
    return merged
