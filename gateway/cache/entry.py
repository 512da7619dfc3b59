"""One remembered vector, and the bytes it is outside of this process's memory.

What is read back was written by somebody else, an older version or a failing disk: whatever does not fit to the byte is
no entry. Where entries are kept, and for how long, is decided elsewhere.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

try:
    from isal.isal_zlib import crc32
except ImportError:  # not built for every platform; it is zlib's own sum, seven times as fast
    from zlib import crc32

KEY_BYTES = 32
SPACE_BYTES = 8
FLOAT_BYTES = 4
MOST_NUMBERS = 1 << 20  # as many dimensions as a request may ask for

_MAGIC = b"GWVE"
_VERSION = 1
_FLOAT32 = 1
_START = struct.pack("<4sBBH", _MAGIC, _VERSION, _FLOAT32, 0)
_HEAD = struct.Struct(f"<8s{KEY_BYTES}s{SPACE_BYTES}sIIIQQ")
_CHECK = struct.Struct("<I")
_WHOLE_HEAD = struct.Struct(_HEAD.format + "I")
HEADER_BYTES = _HEAD.size + _CHECK.size


class Entry(NamedTuple):
    """What is remembered of one input.

    `key` and `space` come from `keys.py`. `vector` is float32, little-endian. `tokens` are the upstream's count of the
    input or the input's share of it, `cut` those of them that were over the model's window. `created` and `until` are
    Unix seconds; `until` is 0 where only the tiers limit its life. A tuple, because sixty are made for one request.
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
        _START,
        entry.key,
        entry.space,
        entry.dimensions,
        entry.tokens,
        entry.cut,
        entry.created,
        entry.until,
    )
    return b"".join((head, _CHECK.pack(crc32(entry.vector, crc32(head))), entry.vector))


def unpack(packed: bytes | memoryview, key: bytes) -> Entry | None:
    """Return the entry of `key` that these bytes are, None where they are anything else."""
    if len(packed) <= HEADER_BYTES:
        return None
    start, found, space, dimensions, tokens, cut, created, until, check = _WHOLE_HEAD.unpack_from(packed)
    if start != _START or found != key:
        return None
    vector = bytes(packed[HEADER_BYTES:])
    if len(vector) != dimensions * FLOAT_BYTES or check != crc32(vector, crc32(packed[: _HEAD.size])):
        return None
    return Entry(found, space, vector, tokens, cut, created, until)
