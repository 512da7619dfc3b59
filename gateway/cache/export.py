"""One file of remembered embeddings, for others to begin with: written and read as a stream, every record checked.

The file is the eight bytes of `_HEAD`, then a gzip stream of records: each a byte 1, the lengths of its label and of its
packed entry (`entry.py`), and both. The last record is a byte 0, how many there were and the SHA-256 of all of them. All
numbers are little-endian. Where entries come from and go to is the caller's business.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from gateway.cache.entry import FLOAT_BYTES, HEADER_BYTES, KEY_BYTES, MOST_NUMBERS, SPACE_BYTES, Entry, unpack
from gateway.cache.keys import make_space

LONGEST_LABEL = 1024  # bytes

_MAGIC = b"GWCACHE"
_VERSION = 1
_HEAD = _MAGIC + bytes([_VERSION])
_RECORD, _END = b"\1", b"\0"
_LENGTHS = struct.Struct("<HI")
_COUNT = struct.Struct("<Q")
_KEY_AT, _SPACE_AT = 8, 8 + KEY_BYTES  # where they stand in a packed entry
_MOST_KNOWN = 256
_COMPRESSION = 1  # numbers of vectors are close to noise: more effort takes four times as long for one percent


class ExportError(Exception):
    """The file is not, or not wholly, what was exported; the text is one line and names the record."""


class ExportWriter:
    """Writes one file to `out`, which stays open; nothing but `finish` makes it whole."""

    def __init__(self, out: BinaryIO) -> None:
        out.write(_HEAD)
        self._stream = gzip.GzipFile("", fileobj=out, mode="wb", compresslevel=_COMPRESSION, mtime=0)
        self._digest = hashlib.sha256()
        self._spaces = _Spaces()
        self.count = 0

    def add(self, label: str, packed: bytes) -> bool:
        """Write a packed entry of `provider/model`; return whether it fits, for others are left out."""
        name = label.encode()
        if not 0 < len(name) <= LONGEST_LABEL or packed[_SPACE_AT : _SPACE_AT + SPACE_BYTES] != self._spaces.of(label):
            return False
        record = b"".join((_RECORD, _LENGTHS.pack(len(name), len(packed)), name, packed))
        self._digest.update(record)
        self._stream.write(record)
        self.count += 1
        return True

    def finish(self) -> None:
        """Write how many there were and their checksum."""
        self._stream.write(_END + _COUNT.pack(self.count) + self._digest.digest())
        self._stream.close()


def read_export(source: BinaryIO) -> Iterator[tuple[str, Entry]]:
    """Yield every entry with the `provider/model` it belongs to, each once it was checked by itself.

    Raises ExportError at the first record that is not as it was written, or at the end if the records as a whole are
    not; those that were yielded before are sound.
    """
    head = source.read(len(_HEAD))
    if head[: len(_MAGIC)] != _MAGIC:
        raise ExportError("this is no export of embeddings")
    if head != _HEAD:
        raise ExportError(f"this export has another version than {_VERSION}, the one that is understood")
    with gzip.GzipFile(fileobj=source, mode="rb") as stream:
        yield from _Reading(stream).records()


class _Spaces:
    """The spaces of models, worked out once for each, unless there are more than anybody uses."""

    def __init__(self) -> None:
        self._known: dict[str, bytes] = {}

    def of(self, label: str) -> bytes:
        space = self._known.get(label)
        if space is None:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            space = self._known[label] = make_space(scope="", label=label, revision="", fields={}).id
        return space


class _Reading:
    """A stream of records that is being read; `_number` is the record at hand, from 1."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self._number = 0

    def records(self) -> Iterator[tuple[str, Entry]]:
        spaces = _Spaces()
        while True:
            self._number += 1
            kind = self._read(1)
            if kind == _END:
                self._check_end()
                return
            if kind != _RECORD:
                raise self._damage("it does not begin as a record does")
            self._digest.update(kind)
            label, entry = self._record()
            if entry.space != spaces.of(label):
                raise self._damage("it belongs to another model than it says")
            yield label, entry

    def _record(self) -> tuple[str, Entry]:
        lengths = self._read(_LENGTHS.size)
        of_label, of_entry = _LENGTHS.unpack(lengths)
        if not 0 < of_label <= LONGEST_LABEL or of_entry > HEADER_BYTES + MOST_NUMBERS * FLOAT_BYTES:
            raise self._damage("its length cannot be")
        name, packed = self._read(of_label), self._read(of_entry)
        for part in (lengths, name, packed):
            self._digest.update(part)
        entry = unpack(packed, packed[_KEY_AT : _KEY_AT + KEY_BYTES])
        if entry is None:
            raise self._damage("its checksum or its form is wrong")
        if not all(map(math.isfinite, struct.unpack(f"<{entry.dimensions}f", entry.vector))):
            raise self._damage("one of its numbers is none")
        try:
            return name.decode(), entry
        except UnicodeDecodeError:
            raise self._damage("the name of its model is no text") from None

    def _check_end(self) -> None:
        (count,) = _COUNT.unpack(self._read(_COUNT.size))
        told = self._read(self._digest.digest_size)
        if count != self._number - 1:
            raise ExportError(f"the file has {self._number - 1} records and says that it had {count}")
        if told != self._digest.digest():
            raise ExportError(f"the records are not those that were exported; each of the {count} is sound by itself")
        if self._read_some(1):
            raise ExportError(f"after record {count}, the last, the file goes on")

    def _read(self, size: int) -> bytes:
        found = self._read_some(size)
        if len(found) < size:
            raise self._damage("the file ends in it")
        return found

    def _read_some(self, size: int) -> bytes:
        try:
            return self._stream.read(size)
        except EOFError:
            raise self._damage("the file ends in it") from None
        except (zlib.error, gzip.BadGzipFile):
            raise self._damage("it cannot be unpacked") from None

    def _damage(self, reason: str) -> ExportError:
        return ExportError(f"record {self._number}: {reason}")
