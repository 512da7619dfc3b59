"""What a model says besides its answer: thoughts between `<think>` tags and calls of tools between `<tool_call>` tags.

Pure. Only the forms are read that a template itself shows; text that does not keep to them is told as content.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gateway.worker.batching.text import beginning_of_one

Kind = Literal["content", "reasoning", "call"]
THINK, THOUGHT, CALL, CALLED = "<think>", "</think>", "<tool_call>", "</tool_call>"


@dataclass(frozen=True, slots=True)
class Part:
    """Some text of one kind; of a call it is the JSON object with its `name` and `arguments`."""

    kind: Kind
    text: str


class Speech:
    """Splits the text of one answer.

    `thinks` is "inside" when the prompt already began a thought, "maybe" when the answer may begin with one.
    """

    def __init__(self, thinks: Literal["no", "maybe", "inside"] = "no", *, calls: bool = False) -> None:
        self._mode = {"no": self._content, "maybe": self._opening, "inside": self._thought}[thinks]
        self._calls = calls
        self._text = ""
        self._skips_space = thinks == "inside"
        self._parts: list[Part] = []

    def add(self, text: str) -> list[Part]:
        """Return what is certain now."""
        self._text += text
        if self._skips_space:
            self._text = self._text.lstrip()
            self._skips_space = not self._text
        while self._text and self._mode():
            pass
        parts, self._parts = self._parts, []
        return parts

    def finish(self) -> list[Part]:
        """Return the rest; a call that was cut off is content."""
        text, self._text = self._text, ""
        if self._mode == self._call:
            text = CALL + text
        kind: Kind = "reasoning" if self._mode == self._thought else "content"
        return [Part(kind, text)] if text else []

    # Each mode returns whether it is to be looked at the text again.

    def _opening(self) -> bool:
        begun = self._text.lstrip()
        if begun.startswith(THINK):
            self._text = begun.removeprefix(THINK).lstrip()
            self._skips_space = not self._text
            self._mode = self._thought
        elif THINK.startswith(begun):
            return False
        else:
            self._mode = self._content
        return True

    def _thought(self) -> bool:
        return self._until(THOUGHT, "reasoning", self._content)

    def _content(self) -> bool:
        if self._calls:
            return self._until(CALL, "content", self._call)
        self._tell("content", self._text)
        self._text = ""
        return False

    def _until(self, tag: str, kind: Kind, following: Any) -> bool:
        before, found, after = self._text.partition(tag)
        if found:
            self._tell(kind, before.rstrip())
            self._text = after.lstrip()
            self._skips_space = not self._text
            self._mode = following
            return True
        certain = len(self._text) - beginning_of_one(self._text, (tag,), len(tag))
        certain = len(self._text[:certain].rstrip())  # the space before a tag belongs to neither
        self._tell(kind, self._text[:certain])
        self._text = self._text[certain:]
        return False

    def _call(self) -> bool:
        inner, found, after = self._text.partition(CALLED)
        if not found:
            return False
        if read_call(inner) is None:
            self._tell("content", CALL + inner + CALLED)
        else:
            self._tell("call", inner)
        self._text = after.lstrip()
        self._skips_space = not self._text
        self._mode = self._content
        return True

    def _tell(self, kind: Kind, text: str) -> None:
        if text:
            self._parts.append(Part(kind, text))


def read_call(text: str) -> tuple[str, str] | None:
    """Return the name and the arguments as JSON of a call, None when it is none."""
    try:
        call = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(call, Mapping) or not isinstance(call.get("name"), str):
        return None
    arguments = call.get("arguments", call.get("parameters", {}))
    if not isinstance(arguments, Mapping):
        return None
    return call["name"], json.dumps(arguments, ensure_ascii=False)
