"""What makes two inputs the same: a digest over everything that a vector depends on, one by one and with their lengths.

The encoding of an answer is not among it: the numbers are the same.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from gateway.cache.entry import SPACE_BYTES

_SCHEMA = b"gateway embedding 1"
_LENGTH = struct.Struct(">Q")
# What a vector does not depend on, or what the key has in a place of its own.
_APART = frozenset({"input", "model", "encoding_format", "user", "stream", "dimensions", "input_type"})

Input = str | list[int]


@dataclass(frozen=True, slots=True)
class Space:
    """What all inputs of a request have in common: whose they are, which model, asked in which way.

    `label` is `provider/model` for people; `id` stands for it in entries.
    """

    label: str
    id: bytes
    dimensions: int | None
    _common: Any = field(compare=False, repr=False)  # the digest so far; hashlib has no public type for it

    @property
    def identity(self) -> bytes:
        """Return what all keys of this space have in common and no other space has: 32 bytes."""
        return bytes(self._common.digest())

    def key(self, given: Input) -> bytes:
        """Return the key of one input: 32 bytes, never the same for a text and a list of token ids."""
        return self.keys((given,))[0]

    def keys(self, inputs: Iterable[Input]) -> list[bytes]:
        """Return the key of each input."""
        copy, length = self._common.copy, _LENGTH.pack
        keys: list[bytes] = []
        for given in inputs:
            digest = copy()
            if isinstance(given, str):
                content = given.encode()
                digest.update(_TEXT + length(len(content)) + content)
            else:
                content = struct.pack(f"<{len(given)}I", *given)
                digest.update(_TOKENS + length(len(content)) + content)
            keys.append(digest.digest())
        return keys


def make_space(*, scope: str, label: str, revision: str, fields: Mapping[str, Any], policy: str = "") -> Space:
    """Return the space of a request with these `fields`, as its deployment would be sent them.

    `scope` is "" where all callers share, else the caller's name; `label` is `provider/model`; `revision` changes when
    the model behind that name does; `policy` says what becomes of inputs that are too long.
    """
    rest = {name: value for name, value in fields.items() if name not in _APART and value is not None}
    dimensions = fields.get("dimensions")
    digest = hashlib.sha256(
        _framed(
            _SCHEMA,
            scope.encode(),
            label.encode(),
            revision.encode(),
            b"" if dimensions is None else str(dimensions).encode(),
            orjson.dumps(fields.get("input_type")),
            policy.encode(),
            orjson.dumps(rest, option=orjson.OPT_SORT_KEYS),
        )
    )
    return Space(label, hashlib.sha256(label.encode()).digest()[:SPACE_BYTES], dimensions, digest)


def _framed(*parts: bytes) -> bytes:
    return b"".join(piece for part in parts for piece in (_LENGTH.pack(len(part)), part))


_TEXT, _TOKENS = _framed(b"text"), _framed(b"tokens")
