"""A check of a GGUF file's header, made before the native parser sees the file.

llama.cpp's parser has been overflowed by made-up counts and sizes more than once, so every number that it will trust is
compared with the length of the file first. Reads the header only, allocates no more than one string of it at a time, and
needs nothing but the standard library. What must not live here: reading tensors, or anything that knows an engine.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

Value = str | int | float | bool | None

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MOST_TENSORS = 1 << 20
MOST_KEYS = 1 << 16
MOST_DIMENSIONS = 4  # GGML_MAX_DIMS
LONGEST_NAME_BYTES = 63  # GGML_MAX_NAME is 64 with its closing zero
LONGEST_KEY_BYTES = 65_535
LONGEST_STRING_BYTES = 16 << 20
LARGEST_HEADER_BYTES = 128 << 20  # 262,144 tokens with scores and merges take about 15 MiB
LARGEST_ALIGNMENT = 1 << 20
LARGEST_CONTEXT = (1 << 31) - 1
LARGEST_COUNT = (1 << 63) - 1
SMALLEST_KEY_BYTES = 8 + 1 + 4 + 1  # length, name, type, value
SMALLEST_TENSOR_BYTES = 8 + 1 + 4 + 8 + 4 + 8  # length, name, dimensions, one extent, type, offset

_STRING = 8
_ARRAY = 9
_SCALARS = {
    kind: struct.Struct("<" + letter) for kind, letter in zip((*range(8), 10, 11, 12), "BbHhIif?Qqd", strict=True)
}
# Tensor type → elements in a block, bytes of a block (ggml.h; the same table as gguf.GGML_QUANT_SIZES, which a test compares).
BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 40),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292),
    16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82),
    23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2),
    34: (256, 54), 35: (256, 66), 39: (32, 17), 40: (64, 36), 41: (128, 18),
}  # fmt: skip
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_MATTERS = {
    "damaged": "its file is damaged",
    "damaged or truncated": "its file is damaged",
    "no such file": "its file is missing",
    "not a GGUF file": "its file is not a GGUF file",
    "truncated": "its file is damaged: truncated",
}
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")


class GgufError(Exception):
    """The file is not a GGUF file that may be loaded; the text is one clause without the file's directory.

    `matter` says no more than what kind of fault it is, with nothing that stands in the file or names it.
    """

    def __init__(self, reason: str, matter: str = "") -> None:
        super().__init__(reason)
        self.matter = matter or _MATTERS.get(reason.partition(":")[0], "its file cannot be loaded")


@dataclass(frozen=True, slots=True)
class GgufSummary:
    """What a header says of its model; `context_length` in tokens, `pooling` as in llama.h (1 = mean), None if unsaid."""

    architecture: str
    context_length: int | None
    embedding_length: int | None
    pooling: int | None
    has_chat_template: bool
    tensor_count: int
    parts: int = 1


def check_gguf(path: Path) -> GgufSummary:
    """Return the summary of the model at `path`, whose further parts, if it has any, are checked as well.

    Raises GgufError.
    """
    first = _check_file(path)
    for number in range(1, first.parts + 1) if first.parts > 1 else ():
        _check_file(_part(path, number, first.parts))
    return first


def read_header(stream: BinaryIO, length: int) -> GgufSummary:
    """Read the header at the start of `stream`, whose file is `length` bytes long; raises GgufError."""
    reader = _Reader(stream, length)
    if reader.take(4, "magic") != MAGIC:
        raise GgufError("not a GGUF file")
    version = reader.u32("version")
    if version not in VERSIONS:
        raise GgufError(f"GGUF version {version} is not supported (2 and 3 are)")
    tensor_count, key_count = reader.u64("tensor count"), reader.u64("key count")
    _bound("tensor count", tensor_count, min(MOST_TENSORS, length // SMALLEST_TENSOR_BYTES))
    _bound("key count", key_count, min(MOST_KEYS, length // SMALLEST_KEY_BYTES))
    values = _read_values(reader, key_count)
    tensors = list(_read_tensors(reader, tensor_count))
    _check_extents(tensors, _alignment(values), reader.position, length)
    return _summary(values, tensor_count)


class _Reader:
    """Reads little-endian fields and never past the end of the file, nor past what a header may be long."""

    def __init__(self, stream: BinaryIO, length: int) -> None:
        self._stream = stream
        self._length = length
        self.position = 0

    def take(self, count: int, what: str) -> bytes:
        self._advance(count, what)
        taken = self._stream.read(count)
        if len(taken) != count:
            raise GgufError(f"truncated: the file ends inside its {what}")
        return taken

    def skip(self, count: int, what: str) -> None:
        self._advance(count, what)
        self._stream.seek(count, 1)

    def u32(self, what: str) -> int:
        return int(_U32.unpack(self.take(4, what))[0])

    def u64(self, what: str) -> int:
        return int(_U64.unpack(self.take(8, what))[0])

    def text(self, what: str, longest: int) -> str:
        size = self.u64(what)
        if size > self._length - self.position:
            raise GgufError(f"truncated: a {what} of {size} bytes in a file of {self._length}")
        _bound(f"length of a {what}", size, longest)
        try:
            return self.take(size, what).decode("utf-8")
        except UnicodeDecodeError:
            raise GgufError(f"damaged: a {what} is not UTF-8") from None

    def skip_texts(self, count: int, what: str) -> None:
        for _ in range(count):
            size = self.u64(what)
            _bound(f"length of a {what}", size, LONGEST_STRING_BYTES)
            self.skip(size, what)

    def _advance(self, count: int, what: str) -> None:
        self.position += count
        if self.position > self._length:
            raise GgufError(f"truncated: the file ends inside its {what}")
        _bound("header length", self.position, LARGEST_HEADER_BYTES)


def _read_values(reader: _Reader, count: int) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for _ in range(count):
        key = reader.text("key", LONGEST_KEY_BYTES)
        if not key or key in values:
            raise GgufError(f"damaged: the key '{key[:64]}' is empty or stands twice")
        values[key] = _read_value(reader, reader.u32("value type"))
    return values


def _read_value(reader: _Reader, kind: int) -> Value:
    """Return a scalar or a string; arrays are walked over and become None."""
    if kind == _STRING:
        return reader.text("value", LONGEST_STRING_BYTES)
    if kind == _ARRAY:
        _skip_array(reader)
        return None
    scalar = _scalar(kind)
    value: Value = scalar.unpack(reader.take(scalar.size, "value"))[0]
    return value


def _skip_array(reader: _Reader) -> None:
    kind, count = reader.u32("array type"), reader.u64("array length")
    _bound("array length", count, LARGEST_HEADER_BYTES)
    if kind == _STRING:
        reader.skip_texts(count, "string of an array")
    else:
        reader.skip(count * _scalar(kind).size, "array")


def _scalar(kind: int) -> struct.Struct:
    found = _SCALARS.get(kind)
    if found is None:
        raise GgufError(f"damaged: there is no value type {kind}")
    return found


def _read_tensors(reader: _Reader, count: int) -> Iterator[tuple[int, int]]:
    """Yield the offset and the size of each tensor, in bytes."""
    seen: set[str] = set()
    for _ in range(count):
        name = reader.text("tensor name", LONGEST_NAME_BYTES)
        if name in seen:
            raise GgufError(f"damaged: the tensor '{name}' stands twice")
        seen.add(name)
        dimensions = reader.u32("tensor dimensions")
        if not 1 <= dimensions <= MOST_DIMENSIONS:
            raise GgufError(f"damaged: the tensor '{name}' has {dimensions} dimensions")
        extents = [reader.u64("tensor extent") for _ in range(dimensions)]
        size = _tensor_bytes(name, extents, reader.u32("tensor type"))
        yield reader.u64("tensor offset"), size


def _tensor_bytes(name: str, extents: list[int], kind: int) -> int:
    if kind not in BLOCKS:
        raise GgufError(f"the tensor '{name}' has the unknown type {kind}")
    elements, size = BLOCKS[kind]
    count = math.prod(extents)
    if not 1 <= count <= LARGEST_COUNT or max(extents) > LARGEST_COUNT:
        raise GgufError(f"damaged: the tensor '{name}' has impossible extents")
    if extents[0] % elements:
        raise GgufError(f"damaged: the rows of the tensor '{name}' are not whole blocks")
    return count // elements * size


def _check_extents(tensors: list[tuple[int, int]], alignment: int, header_end: int, length: int) -> None:
    start = -(-header_end // alignment) * alignment
    for offset, size in tensors:
        if offset % alignment:
            raise GgufError("damaged: a tensor is not aligned")
        if start + offset + size > length:
            raise GgufError(f"truncated: needs at least {start + offset + size} bytes, has {length}")


def _alignment(values: dict[str, Value]) -> int:
    alignment = values.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 1 <= alignment <= LARGEST_ALIGNMENT or alignment & (alignment - 1):
        raise GgufError("damaged: general.alignment is not a power of two")
    return alignment


def _summary(values: dict[str, Value], tensor_count: int) -> GgufSummary:
    architecture = values.get("general.architecture")
    if not isinstance(architecture, str) or not architecture:
        raise GgufError("damaged: general.architecture is missing")
    parts = _count(values, "split.count", (1 << 16) - 1)
    return GgufSummary(
        architecture=architecture,
        context_length=_count(values, f"{architecture}.context_length", LARGEST_CONTEXT),
        embedding_length=_count(values, f"{architecture}.embedding_length", LARGEST_CONTEXT),
        pooling=_count(values, f"{architecture}.pooling_type", 1 << 16, least=0),
        has_chat_template=isinstance(values.get("tokenizer.chat_template"), str),
        tensor_count=tensor_count,
        parts=parts or 1,
    )


def _count(values: dict[str, Value], key: str, most: int, least: int = 1) -> int | None:
    value = values.get(key)
    if key not in values:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise GgufError(f"damaged: {key} is not a number from {least} to {most}")
    return value


def _bound(what: str, value: int, most: int) -> None:
    if value > most:
        raise GgufError(f"damaged or truncated: {what} {value} is more than {most}")


def _check_file(path: Path) -> GgufSummary:
    try:
        length = _length(path)
        with path.open("rb") as stream:
            return read_header(stream, length)
    except OSError as error:
        raise GgufError(f"{path.name}: {error.strerror or error}") from error
    except GgufError as error:
        raise GgufError(f"{path.name}: {error}", error.matter) from None


def _length(path: Path) -> int:
    if not path.exists():
        raise GgufError("no such file")
    if not path.is_file():  # a pipe would keep us waiting
        raise GgufError("not a file")
    return path.stat().st_size


def _part(path: Path, number: int, parts: int) -> Path:
    name, found = _PART.subn(f"-{number:05d}-of-{parts:05d}.gguf", path.name)
    if not found:
        raise GgufError(f"{path.name}: one of {parts} parts, but not named like …-00001-of-{parts:05d}.gguf")
    return path.with_name(name)
