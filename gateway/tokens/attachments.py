"""What a message carries besides texts, and about how many tokens a model sees in it.

How large an image is, is read in `images.py`; texts are counted in `chats.py`.
"""

from __future__ import annotations

import math
import struct
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.tokens.images import MOST, base64_tokens, image_tokens

# Gemini hears 32 tokens in a second, OpenAI 10.
_A_SECOND = 32
# Where a sound does not tell how many bytes a second of it has: 32 kilobits, which is little even for speech.
_BYTES_A_SECOND = 4000
# A page of a PDF is seen as an image and as its text, some 2,000 tokens together, and has 30 KB or more.
_BYTES_A_TOKEN = 16
_IMAGES = frozenset({"image_url", "input_image", "image"})
_SOUNDS = frozenset({"input_audio"})
_FILES = frozenset({"file", "input_file", "document"})


@dataclass(frozen=True, slots=True)
class Attachment:
    """About how many `tokens` a part has, and how many `characters` of the request are its data."""

    tokens: int
    characters: int
    is_image: bool = False


def attachment_of(part: Mapping[str, Any]) -> Attachment | None:
    """Return what a part of a message carries, None where it is a text or of a kind that is not known."""
    kind = part.get("type")
    if not isinstance(kind, str):
        return None
    if kind in _IMAGES:
        return _image(part)
    if kind in _SOUNDS:
        return _sound(part.get("input_audio"))
    if kind in _FILES:
        return _file(part)
    return None


def _image(part: Mapping[str, Any]) -> Attachment:
    shown = part.get("image_url", part.get("source"))
    fields = shown if isinstance(shown, dict) else {"url": shown, "detail": part.get("detail")}
    data = fields.get("data")  # Anthropic's form
    if isinstance(data, str):
        return Attachment(base64_tokens(data), len(data), is_image=True)
    url = fields.get("url")
    if not isinstance(url, str):
        return Attachment(MOST, 0, is_image=True)
    return Attachment(image_tokens(url, detail=fields.get("detail")), len(url), is_image=True)


def _sound(given: object) -> Attachment:
    data = given.get("data") if isinstance(given, dict) else None
    if not isinstance(data, str):
        return Attachment(0, 0)
    return Attachment(math.ceil(len(data) * 3 / 4 / _bytes_a_second(data)) * _A_SECOND, len(data))


def _bytes_a_second(data: str) -> int:
    """Return how many bytes a second of a WAV has by its own word, else few."""
    try:
        beginning = b64decode(data[:64])
        if beginning[:4] == b"RIFF" and beginning[8:16] == b"WAVEfmt ":
            return max(_BYTES_A_SECOND, int(struct.unpack_from("<I", beginning, 28)[0]))
    except (ValueError, struct.error):  # no base64, which the upstream refuses, or shorter than a head
        return _BYTES_A_SECOND
    return _BYTES_A_SECOND


def _file(part: Mapping[str, Any]) -> Attachment:
    """Return a token for 16 bytes; a file that is named only may have any number, and counts as one page."""
    given = part.get("file", part.get("source", part))
    fields = given if isinstance(given, dict) else {}
    data = next((fields[name] for name in ("file_data", "data") if isinstance(fields.get(name), str)), "")
    return Attachment(max(MOST if not data else 0, math.ceil(len(data) * 3 / 4 / _BYTES_A_TOKEN)), len(data))
