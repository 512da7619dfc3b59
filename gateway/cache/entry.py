"""One remembered vector, and the bytes it is outside of this process's memory.

What is read back was written by somebody else, an older version or a failing disk: whatever does not fit to the byte is
no entry. Where entries are kept, and for how long, is decided elsewhere.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

KEY_BYTES = 32
SPACE_BYTES = 8
FLOAT_BYTES = 4
MOST_NUMBERS = 1 << 20  # as many dimensions as a request may ask for

_MAGIC = b"GWVE"
_VERSION = 1
_FLOAT32 = 1
_HEAD = struct.Struct(f"<4sBBH{KEY_BYTES}s{SPACE_BYTES}sIIIQQ")
_CHECK = struct.Struct("<I")
HEADER_BYTES = _HEAD.size + _CHECK.size


@dataclass(frozen=True, slots=True)
class Entry:
    """What is remembered of one input.

    `key` and `space` come from `keys.py`. `vector` is float32, little-endian. `tokens` are the upstream's count of the
    input or the input's share of it, `cut` those of them that were over the model's window. `created` and `until` are
    Unix seconds; `until` is 0 where only the tiers limit its life.
    """

    key: bytes
    space: bytes
    vector: bytes
    tokens: int = 0
    cut: int = 0
    created: int = 0
    until: int = 0

    @property
    def dimensions(self) -> int:
        return len(self.vector) // FLOAT_BYTES


def pack(entry: Entry) -> bytes:
    """Return the entry as bytes of its own: header, checksum over all else, numbers."""
    head = _HEAD.pack(
        _MAGIC,
        _VERSION,
        _FLOAT32,
        0,
        entry.key,
        entry.space,
        entry.dimensions,
        entry.tokens,
        entry.cut,
        entry.created,
        entry.until,
    )
    return b"".join((head, _CHECK.pack(zlib.crc32(entry.vector, zlib.crc32(head))), entry.vector))


def unpack(packed: bytes | memoryview, key: bytes) -> Entry | None:
    """Return the entry of `key` that these bytes are, None where they are anything else."""
    if len(packed) <= HEADER_BYTES:
        return None
    view = memoryview(packed)
    magic, version, kind, spare, found, space, dimensions, tokens, cut, created, until = _HEAD.unpack_from(view)
    if (magic, version, kind, spare) != (_MAGIC, _VERSION, _FLOAT32, 0) or found != key:
        return None
    vector = view[HEADER_BYTES:]
    (check,) = _CHECK.unpack_from(view, _HEAD.size)
    if len(vector) != dimensions * FLOAT_BYTES or check != zlib.crc32(vector, zlib.crc32(view[: _HEAD.size])):
        return None
    return Entry(found, space, vector.tobytes(), tokens, cut, created, until)
