"""How many tokens a model sees in what a request has as JSON: tools, schemas, parts that are not known.

Texts and messages are counted in `chats.py`.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from gateway.tokens.counters import Counter, size_of
from gateway.tokens.images import MOST

# What is written in base64 is no text to any model; shorter ones are counted as they stand.
_DATA = re.compile(r"data:[\w.+-]{1,100}/[\w.+;=-]{1,100};base64,[A-Za-z0-9+/=_-]{4096,}")
_CHOICES = re.compile(r"\[[^\[\]{}]*\]")


def json_of(value: Any) -> str:
    """Return a value as JSON without spaces; what is nested too deeply for that, in the order of a walk over it."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # nested over 254 levels, or a lone surrogate
        return "".join(_pieces(value))


def count_json(value: Any, counter: Counter) -> int:
    """Return how many tokens JSON has as it stands, with data: URLs of some length as so many images."""
    text, replaced = _DATA.subn("", json_of(value))
    return counter.count(text) + replaced * MOST


def count_declared(value: Any, counter: Counter) -> int:
    """Return about how many tokens a declaration has, however the upstream writes it, never more than bytes.

    OpenAI makes TypeScript of tools, which is shorter than JSON but for choices between many values; others write JSON
    with spaces. Both have a token more than JSON without for about each comma and bracket, choices one more for each.
    """
    text = json_of(value)
    choices: int = sum(choice.count(",") for choice in _CHOICES.findall(text))
    counted = counter.count(text)
    return min(counted + text.count(",") + text.count("{") + text.count("[") + choices, max(size_of(text), counted))


def _pieces(value: Any) -> list[str]:
    """Return what is written in a value, by a walk that is not recursive; the order of members is not kept."""
    pieces: list[str] = []
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            pieces.append("{}")
            pieces.extend(f'"{name}":,' for name in each)
            waiting.extend(each.values())
        elif isinstance(each, list | tuple):
            pieces.append("[" + "," * len(each) + "]")
            waiting.extend(each)
        else:
            pieces.append(f'"{each}"' if isinstance(each, str) else str(each))
    return pieces
