"""What a GGUF file says of its model, for people: parameters, window, quantisation, template, memory.

Only headers that `gateway.worker.check_gguf` found right are read here, so sizes in them are believed.
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Literal

DEFAULT_WINDOW = 8192  # tokens; as the worker plans, unless the configuration says otherwise
DEFAULT_SLOTS = 4
BYTES_OF_A_KEPT_NUMBER = 2  # of keys and values, f16
WORKING_BYTES = 96 << 20  # the process and its buffers, as for a small model; more with a large vocabulary
LONGEST_SHOWN = 80

_STRING, _ARRAY = 8, 9
_SCALARS = MappingProxyType(dict(zip((*range(8), 10, 11, 12), "BbHhIif?Qqd", strict=True)))
_QUANTISATIONS = MappingProxyType(
    {
        0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
        12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS",
        20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M",
        28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Facts:
    """`window` in tokens, None if unsaid; `memory` in bytes with the usual settings, `requests` at a time."""

    title: str
    architecture: str
    parameters: int
    window: int | None
    quantisation: str
    template: Literal["none", "without tools", "with tools"]
    size: int
    memory: int
    used_window: int
    requests: int


def read_facts(files: tuple[Path, ...]) -> Facts:
    """Return what the parts of a checked model say of it; raises OSError."""
    read = [_read(path) for path in files]
    values, _ = read[0]
    architecture = str(values.get("general.architecture", ""))
    window = _number(values, f"{architecture}.context_length")
    used = min(window or DEFAULT_WINDOW, DEFAULT_WINDOW)
    embeds = f"{architecture}.pooling_type" in values
    requests = 1 if embeds else DEFAULT_SLOTS
    size = sum(path.stat().st_size for path in files)
    kept = 0 if embeds else _kept_bytes(values, architecture) * used * requests
    return Facts(
        title=shown(values.get("general.name")),
        architecture=shown(architecture),
        parameters=sum(count for _, count in read),
        window=window,
        quantisation=_QUANTISATIONS.get(_number(values, "general.file_type", -1) or 0, "unknown"),
        template=_template(values.get("tokenizer.chat_template")),
        size=size,
        memory=size + kept + WORKING_BYTES,
        used_window=used,
        requests=requests,
    )


def shown(text: object) -> str:
    """Return text out of a file fit for a terminal: one line, no control characters, not long."""
    line = "".join(letter for letter in str(text or "") if letter.isprintable())
    return line if len(line) <= LONGEST_SHOWN else f"{line[:LONGEST_SHOWN]}…"


def _template(text: object) -> Literal["none", "without tools", "with tools"]:
    if not isinstance(text, str):
        return "none"
    return "with tools" if re.search(r"\btools\b", text) else "without tools"


def _kept_bytes(values: dict[str, Any], architecture: str) -> int:
    """Return the bytes that keys and values of one token take, 0 where the header does not say."""

    def number(key: str, default: int | None = None) -> int | None:
        return _number(values, f"{architecture}.{key}", default)

    layers, heads, width = number("block_count"), number("attention.head_count"), number("embedding_length")
    if not (layers and heads and width):
        return 0
    length = width // heads
    key = number("attention.key_length", length) or length
    value = number("attention.value_length", length) or length
    return layers * (number("attention.head_count_kv", heads) or heads) * (key + value) * BYTES_OF_A_KEPT_NUMBER


def _number(values: dict[str, Any], key: str, default: int | None = None) -> int | None:
    value = values.get(key, default)
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def _read(path: Path) -> tuple[dict[str, Any], int]:
    """Return the scalar values of a header and how many parameters its tensors have."""
    with path.open("rb") as stream:
        _magic, _version, tensors, keys = struct.unpack("<4sIQQ", stream.read(24))
        values = {_text(stream): _value(stream, _u32(stream)) for _ in range(keys)}
        parameters = 0
        for _ in range(tensors):
            _text(stream)
            extents = struct.unpack(f"<{(dimensions := _u32(stream))}Q", stream.read(8 * dimensions))
            parameters += math.prod(extents)
            stream.seek(12, 1)  # type and offset
    return values, parameters


def _u32(stream: BinaryIO) -> int:
    return int(struct.unpack("<I", stream.read(4))[0])


def _u64(stream: BinaryIO) -> int:
    return int(struct.unpack("<Q", stream.read(8))[0])


def _text(stream: BinaryIO) -> str:
    return stream.read(_u64(stream)).decode("utf-8", "replace")


def _value(stream: BinaryIO, kind: int) -> Any:
    """Return a scalar or a string; arrays are walked over and become None."""
    if kind == _STRING:
        return _text(stream)
    if kind != _ARRAY:
        scalar = struct.Struct("<" + _SCALARS[kind])
        return scalar.unpack(stream.read(scalar.size))[0]
    kind, count = _u32(stream), _u64(stream)
    if kind == _STRING:
        for _ in range(count):
            stream.seek(_u64(stream), 1)
    else:
        stream.seek(count * struct.calcsize("<" + _SCALARS[kind]), 1)
    return None
