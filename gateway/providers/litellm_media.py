"""Media that are named instead of sent: litellm would fetch them from inside the gateway's network.

Everything in a message is taken for such a name that looks like one, but what is known to be content: litellm has
many fields that it fetches or forwards, and new versions have more.
"""

from __future__ import annotations

import re
from typing import Any

from gateway.errors import UpstreamRejected

_ADDRESS = re.compile(r"\s*(?:[A-Za-z][A-Za-z0-9+.-]*:/|//|files/)")
_ADDRESS_IN_BASE64 = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.-]*:/")  # // is a good beginning of base64
# Beside the content of a message; the marks an answer had, which say where it was quoted from, may come back.
_NO_MEDIA = frozenset({"annotations", "function_call", "name", "role", "tool_call_id", "tool_calls"})
# Strings that are content, or words about it, wherever they are. A list or object of these names is looked into.
_CONTENT = frozenset({"content", "context", "filename", "signature", "text", "thinking", "title"})
_QUOTES = frozenset({"citations"})  # of a text that an upstream answered


def check_media(messages: Any) -> None:
    """Raise UpstreamRejected for the first message that names media by an address."""
    for index, message in enumerate(messages if isinstance(messages, list) else ()):
        parts = [value for name, value in message.items() if name not in _NO_MEDIA and not isinstance(value, str)]
        if any(_names_media(part) for part in parts):
            raise UpstreamRejected(
                "This upstream takes media as data: URLs only; the gateway fetches nothing for a caller.",
                param=f"messages[{index}].content",
                code="invalid_image_url",
            )


def _names_media(value: Any) -> bool:
    if isinstance(value, list):
        return any(_names_media(inner) for inner in value)
    if isinstance(value, dict):
        return "file_id" in value or any(_is_named(name, inner, value) for name, inner in value.items())
    return isinstance(value, str) and _ADDRESS.match(value) is not None


def _is_named(name: str, value: Any, owner: dict[str, Any]) -> bool:
    """Tell whether a field of `owner` names media; its `data` is base64, or text where it says so."""
    if name in _QUOTES and owner.get("type") == "text":
        return False
    if not isinstance(value, str):
        return _names_media(value)
    if name == "data":
        return owner.get("type") != "text" and _ADDRESS_IN_BASE64.match(value) is not None
    return name not in _CONTENT and _names_media(value)
