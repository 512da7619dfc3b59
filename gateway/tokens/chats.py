"""How many tokens a request for a chat or a completion has, by its parts.

The figures and where they are from are in design.md. What is done about too many is decided in `chat_fitting.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.tokens.attachments import attachment_of
from gateway.tokens.counters import Counter
from gateway.tokens.structures import count_declared, count_json

_MESSAGE = 3  # begins and ends each message
_NAME = 1
_ANSWER = 3  # begins the answer
_CALL = 8  # around the name and the arguments of one call
_CALLS = 16  # around several calls of one message
_TOOLS = 24  # around all tools; and to choose one
_TOOL = 8
_SCHEMA = 16
TEXTS = frozenset({"text", "input_text", "output_text"})


@dataclass(frozen=True, slots=True)
class ChatCount:
    """Tokens by part: of each message or prompt with its images and what the wire puts around it, tools, schema.

    `images` are within `messages`; `around` is what no part has. Where prompts are answered `apart`, each has the window
    for itself and the longest one counts.
    """

    messages: tuple[int, ...]
    images: int = 0
    tools: int = 0
    schema: int = 0
    around: int = 0
    apart: bool = False

    @property
    def total(self) -> int:
        """Return how many tokens of the window are taken."""
        messages = max(self.messages, default=0) if self.apart else sum(self.messages)
        return messages + self.tools + self.schema + self.around


def count_chat(body: Mapping[str, Any], counter: Counter) -> ChatCount:
    """Return how many tokens a body of chat/completions or of completions has, by part."""
    messages = body.get("messages")
    if not isinstance(messages, list):
        return _count_prompts(body, counter)
    counted = [_count_message(message, counter) for message in messages]
    return ChatCount(
        tuple(tokens for tokens, _ in counted),
        sum(images for _, images in counted),
        _count_tools(body, counter),
        _count_schema(body.get("response_format"), counter),
        _ANSWER,
    )


def most_tokens(body: Mapping[str, Any], size: int) -> int:
    """Return how many tokens a body has at most, without counting: as many as bytes, `size` in all, and what is no text.

    A text has no more tokens than bytes; images are taken by their estimate. No text is looked at.
    """
    tools = len(_list(body.get("tools"))) + len(_list(body.get("functions")))
    most = size + (_TOOLS + _TOOL * tools if tools else 0)
    for message in _list(body.get("messages")):
        content = message.get("content") if isinstance(message, dict) else None
        for part in _list(content):
            carried = attachment_of(part) if isinstance(part, dict) else None
            if carried is not None:
                most += carried.tokens - carried.characters
    return most


def has_several(body: Mapping[str, Any]) -> bool:
    """Tell whether the prompt of a body of completions is a list of prompts, each of which is answered by itself."""
    prompt = body.get("prompt")
    return isinstance(prompt, list) and not (prompt and all(type(token) is int for token in prompt))


def prompts_of(body: Mapping[str, Any]) -> list[Any]:
    """Return the prompts of a body of completions: texts, or lists of token ids."""
    prompt = body.get("prompt")
    if has_several(body):
        return list(_list(prompt))
    return [] if prompt is None else [prompt]


def count_prompt(prompt: object, counter: Counter) -> int:
    """Return how many tokens a text or a list of token ids has."""
    if isinstance(prompt, str):
        return counter.count(prompt)
    return len(prompt) if isinstance(prompt, list) else count_json(prompt, counter)


def _count_prompts(body: Mapping[str, Any], counter: Counter) -> ChatCount:
    counts = tuple(count_prompt(prompt, counter) for prompt in prompts_of(body))
    suffix = body.get("suffix")
    return ChatCount(counts, around=counter.count(suffix) if isinstance(suffix, str) else 0, apart=True)


def _count_message(message: Any, counter: Counter) -> tuple[int, int]:
    """Return the tokens of a message, and how many of them are images."""
    if not isinstance(message, dict):
        return _MESSAGE + count_json(message, counter), 0
    tokens, images = _MESSAGE, 0
    for name, value in message.items():
        if isinstance(value, str):
            tokens += counter.count(value) + (_NAME if name == "name" else 0)
        elif name == "content" and isinstance(value, list):
            counted, images = _count_parts(value, counter)
            tokens += counted
        elif name == "tool_calls" and isinstance(value, list):
            tokens += sum(_count_call(call, counter) for call in value) + (_CALLS if len(value) > 1 else 0)
        elif isinstance(value, dict | list):
            tokens += count_json(value, counter)
    return tokens, images


def _count_parts(parts: Sequence[Any], counter: Counter) -> tuple[int, int]:
    tokens = images = 0
    for part in parts:
        text = text_of(part)
        carried = attachment_of(part) if text is None and isinstance(part, dict) else None
        if text is not None:
            tokens += counter.count(text)
        elif carried is None:
            tokens += count_json(part, counter)
        else:
            tokens += carried.tokens
            images += carried.tokens if carried.is_image else 0
    return tokens, images


def text_of(part: Any) -> str | None:
    """Return the text of a part of a message, None where it is of another kind."""
    if not isinstance(part, dict):
        return None
    kind, text = part.get("type"), part.get("text")
    return text if isinstance(text, str) and isinstance(kind, str) and kind in TEXTS else None


def _count_call(call: Any, counter: Counter) -> int:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        return count_json(call, counter)
    tokens = _CALL
    for value in (call.get("id"), *function.values()):
        tokens += counter.count(value) if isinstance(value, str) else 0 if value is None else count_json(value, counter)
    return tokens


def _count_tools(body: Mapping[str, Any], counter: Counter) -> int:
    tools = [*_list(body.get("tools")), *_list(body.get("functions"))]
    if not tools:
        return 0
    chosen = (body.get(name) for name in ("tool_choice", "function_call"))
    named = sum(count_json(choice, counter) for choice in chosen if isinstance(choice, dict))
    return _TOOLS + named + sum(_TOOL + count_declared(tool, counter) for tool in tools)


def _count_schema(wanted: Any, counter: Counter) -> int:
    schema = wanted.get("json_schema") if isinstance(wanted, dict) else None
    return 0 if schema is None else _SCHEMA + count_declared(schema, counter)


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()
