"""How many tokens a model sees in an image, by its size, which is read from the beginning of its data.

Nothing is fetched, and no image is decoded. Which parts of a message are images is decided in `attachments.py`.
"""

from __future__ import annotations

import math
import struct
from base64 import b64decode

LOW_DETAIL = 85
# Claude's most; OpenAI's rules give 1,445 (tiles) and 1,536 (patches) at most.
MOST = 1600
_DATA = ";base64,"
_LONGEST_HEAD = 200  # characters of a data: URL before its data
_BEGINNING = 64  # bytes, in which all kinds but JPEG tell their size
_JPEG_BEGINNINGS = (
    4096,
    80 * 1024,
    256 * 1024,
)  # bytes; the size of a JPEG is behind its camera's notes and its colours
_MOST_SEGMENTS = 1024  # of a JPEG; a file that is made to have more tells nothing
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # the marks behind which a JPEG tells its size
_BARE = frozenset({0x01, *range(0xD0, 0xD9)})  # marks that nothing follows

Size = tuple[int, int]


def image_tokens(url: str, *, detail: object = None) -> int:
    """Return about how many tokens an image has: by the size in a data: URL, else the most that any has.

    The greatest by three makers' rules, since it is not known here who is asked. OpenAI: 85, and 170 for each tile of 512
    pixels once the image is shrunk into 2048 by 2048 and its shorter side to 768 (gpt-4o); one for each patch of 32 pixels
    up to 1,536 (gpt-4.1, o4-mini; its smaller models multiply that). Anthropic: a token for 750 pixels, up to 1,600.
    `detail` "low" has 85 (OpenAI; gpt-4o-mini bills its images thirtyfold, which is not followed).
    """
    if detail == "low":
        return LOW_DETAIL
    size = _size_in(url)
    return MOST if size is None else _tokens_of(*size)


def base64_tokens(data: str) -> int:
    """Return about how many tokens an image has whose base64 stands by itself."""
    size = _size_of(data)
    return MOST if size is None else _tokens_of(*size)


def _tokens_of(width: int, height: int) -> int:
    patches = min(1536, math.ceil(width / 32) * math.ceil(height / 32))
    return max(_tiled(width, height), patches, min(MOST, math.ceil(width * height / 750)))


def _tiled(width: int, height: int) -> int:
    shrink = min(1.0, 2048 / max(width, height))
    shrink *= min(1.0, 768 / (min(width, height) * shrink))
    # What is a hair over a tile by rounding alone is not; a side has at least one.
    across, down = (max(1, math.ceil(round(side * shrink) / 512)) for side in (width, height))
    return 85 + 170 * across * down


def _size_in(url: str) -> Size | None:
    start = url.find(_DATA, 0, _LONGEST_HEAD) if url[:5].lower() == "data:" else -1
    return None if start < 0 else _size_of(url, start + len(_DATA))


def _size_of(data: str, start: int = 0) -> Size | None:
    """Return the width and height in pixels of the image whose base64 begins at a place, None where it does not say."""
    try:
        beginning = _decoded(data, start, _BEGINNING)
        if beginning.startswith(b"\xff\xd8"):
            size = next(filter(None, (_jpeg(_decoded(data, start, enough)) for enough in _JPEG_BEGINNINGS)), None)
        else:
            size = _in_beginning(beginning)
    except (ValueError, struct.error):  # not what it says it is, or cut short
        return None
    return size if size is not None and min(size) > 0 else None


def _decoded(data: str, start: int, size: int) -> bytes:
    taken = data[start : start + (size + 2) // 3 * 4]
    return b64decode(taken + "=" * (-len(taken) % 4))


def _in_beginning(beginning: bytes) -> Size | None:
    if beginning.startswith(b"\x89PNG\r\n\x1a\n"):
        return struct.unpack_from(">II", beginning, 16)
    if beginning.startswith((b"GIF87a", b"GIF89a")):
        return struct.unpack_from("<HH", beginning, 6)
    if beginning.startswith(b"RIFF") and beginning[8:12] == b"WEBP":
        return _webp(beginning)
    return None


def _webp(beginning: bytes) -> Size | None:
    kind = beginning[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", beginning, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        (packed,) = struct.unpack_from("<I", beginning, 21)
        return (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":
        sides = beginning[24:30]
        return int.from_bytes(sides[:3], "little") + 1, int.from_bytes(sides[3:], "little") + 1
    return None


def _jpeg(beginning: bytes) -> Size | None:
    place = 2
    for _ in range(_MOST_SEGMENTS):
        if place + 9 > len(beginning) or beginning[place] != 0xFF:
            return None
        mark = beginning[place + 1]
        if mark in _FRAMES:
            height, width = struct.unpack_from(">HH", beginning, place + 5)
            return width, height
        if mark == 0xFF or mark in _BARE:
            place += 1 if mark == 0xFF else 2
        else:
            place += 2 + max(2, int.from_bytes(beginning[place + 2 : place + 4], "big"))
    return None
