"""Builders of GGUF headers, good and bad ones."""

from __future__ import annotations

import struct

U32, F32, BOOL, STRING, ARRAY, U64 = 4, 6, 7, 8, 9, 10


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


def pair(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + u32(kind) + value


def tensor(name: str = "t", extents: tuple[int, ...] = (4, 2), kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + u32(len(extents)) + b"".join(map(u64, extents)) + u32(kind) + u64(offset)


ARCHITECTURE = pair("general.architecture", STRING, text("tiny"))
WINDOW = pair("tiny.context_length", U32, u32(64))


def header(*parts: bytes, pairs: int, tensors: int, version: int = 3) -> bytes:
    return b"GGUF" + u32(version) + u64(tensors) + u64(pairs) + b"".join(parts)


def whole(*pairs: bytes, tensors: tuple[bytes, ...] = (tensor(),), payload: int = 64) -> bytes:
    """A file with the usual keys, `pairs` and `tensors`, aligned, with `payload` bytes of weights."""
    made = header(ARCHITECTURE, WINDOW, *pairs, *tensors, pairs=2 + len(pairs), tensors=len(tensors))
    return made + bytes(-len(made) % 32) + bytes(payload)
