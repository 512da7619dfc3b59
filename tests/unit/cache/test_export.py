"""What is exported is imported to the bit; what was damaged on the way is told of by its record."""

from __future__ import annotations

import gzip
import io
import random
import struct
import tracemalloc
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cache import Entry, make_space, pack
from gateway.cache.export import ExportError, ExportWriter, read_export

HEAD = 8  # bytes before the gzip stream
Records = list[tuple[str, Entry]]


def make_records(count: int, *, numbers: int = 8, labels: tuple[str, ...] = ("lab/small", "lab/große")) -> Records:
    dice = random.Random(count)
    return [make_record(dice, labels[number % len(labels)], numbers) for number in range(count)]


def make_record(dice: random.Random, label: str, numbers: int) -> tuple[str, Entry]:
    space = make_space(scope="", label=label, revision="", fields={})
    vector = struct.pack(f"<{numbers}f", *(dice.gauss(0, 1) for _ in range(numbers)))
    return label, Entry(dice.randbytes(32), space.id, vector, 5, 1, 1_800_000_000, 1_900_000_000)


def export(records: Records) -> bytes:
    out = io.BytesIO()
    writer = ExportWriter(out)
    for label, entry in records:
        assert writer.add(label, pack(entry))
    writer.finish()
    assert writer.count == len(records)
    return out.getvalue()


def read_until_trouble(data: bytes) -> tuple[Records, str]:
    """Return what could be read and what was said of the rest, "" if there was none."""
    found: Records = []
    try:
        found.extend(read_export(io.BytesIO(data)))
    except ExportError as error:
        return found, str(error)
    return found, ""


def remade(data: bytes, plain: bytes) -> bytes:
    """Return an export whose compressed part is in order and holds `plain`."""
    return data[:HEAD] + gzip.compress(plain)


def unpacked(data: bytes) -> bytes:
    return gzip.decompress(data[HEAD:])


@pytest.mark.parametrize("count", [0, 1, 500])
def test_what_was_exported_is_read_to_the_bit_and_in_order(count: int) -> None:
    records = make_records(count)

    assert read_until_trouble(export(records)) == (records, "")


def test_the_same_entries_make_the_same_file() -> None:
    assert export(make_records(3)) == export(make_records(3))


@pytest.mark.parametrize("data", [b"", b"GW", b"PK\3\4 and more", gzip.compress(b"GWCACHE\1")], ids=repr)
def test_another_file_is_no_export(data: bytes) -> None:
    assert read_until_trouble(data) == ([], "this is no export of embeddings")


def test_an_export_of_a_later_version_is_told_of() -> None:
    data = bytearray(export(make_records(1)))
    data[HEAD - 1] = 2

    assert "another version than 1" in read_until_trouble(bytes(data))[1]


def test_a_cut_file_gives_the_records_before_and_names_the_one_it_ends_in() -> None:
    records = make_records(40, numbers=64)
    data = export(records)

    for length in range(HEAD, len(data), 37):
        found, told = read_until_trouble(data[:length])

        assert found == records[: len(found)]
        assert told == f"record {len(found) + 1}: the file ends in it"


@given(st.data())
def test_a_spoilt_byte_anywhere_never_gives_a_record_that_was_not_exported(data: st.DataObject) -> None:
    records = make_records(20)
    exported = bytearray(export(records))
    place = data.draw(st.integers(0, len(exported) - 1))
    exported[place] ^= data.draw(st.integers(1, 255))

    found, told = read_until_trouble(bytes(exported))

    assert found == records[: len(found)]
    assert told or found == records  # gzip's head has bytes without a meaning


def test_a_spoilt_byte_in_what_is_compressed_names_its_record() -> None:
    records = make_records(10)
    exported = export(records)
    plain = bytearray(unpacked(exported))
    plain[len(plain) // 2] ^= 1

    found, told = read_until_trouble(remade(exported, bytes(plain)))

    assert found == records[: len(found)]
    assert told.startswith(f"record {len(found) + 1}: ")
    assert 3 <= len(found) <= 6


def test_a_label_that_is_not_the_entrys_is_told_of() -> None:
    exported = export(make_records(1))
    plain = unpacked(exported).replace(b"lab/small", b"lab/smell")

    assert read_until_trouble(remade(exported, plain)) == ([], "record 1: it belongs to another model than it says")


@pytest.mark.parametrize("label", ["", "lab/other", "x" * 2000], ids=["none", "another", "too long"])
def test_an_entry_without_its_label_is_left_out(label: str) -> None:
    (_, entry), *_ = make_records(1)
    out = io.BytesIO()
    writer = ExportWriter(out)

    taken = writer.add(label, pack(entry))
    writer.finish()

    assert (taken, writer.count) == (False, 0)
    assert read_until_trouble(out.getvalue()) == ([], "")


def test_numbers_that_are_none_are_told_of() -> None:
    label, entry = make_records(1)[0]
    bad = Entry(entry.key, entry.space, struct.pack("<2f", 1.0, float("nan")))

    assert read_until_trouble(export([(label, bad)])) == ([], "record 1: one of its numbers is none")


def test_a_length_that_cannot_be_is_not_believed() -> None:
    exported = export(make_records(1))
    plain = bytearray(unpacked(exported))
    plain[3:7] = b"\xff\xff\xff\xff"

    assert read_until_trouble(remade(exported, bytes(plain))) == ([], "record 1: its length cannot be")


def test_a_record_that_was_taken_out_is_told_of_at_the_end() -> None:
    records = make_records(3)
    exported, shorter = export(records), export(records[1:])
    end = unpacked(exported)[-41:]
    plain = unpacked(shorter)[:-41] + end

    found, told = read_until_trouble(remade(exported, plain))

    assert found == records[1:]
    assert told == "the file has 2 records and says that it had 3"


def test_records_in_another_order_are_told_of_at_the_end() -> None:
    records = make_records(2)
    exported, turned = export(records), export(records[::-1])
    plain = unpacked(turned)[:-41] + unpacked(exported)[-41:]

    found, told = read_until_trouble(remade(exported, plain))

    assert found == records[::-1]
    assert "are not those that were exported; each of the 2 is sound by itself" in told


@pytest.mark.parametrize("tail", [b"x", gzip.compress(b"more")], ids=["bytes", "another stream"])
def test_what_comes_after_the_end_is_told_of(tail: bytes) -> None:
    records = make_records(2)

    found, told = read_until_trouble(export(records) + tail)

    assert found == records
    assert told


def test_memory_stays_flat_however_long_the_file_is() -> None:
    class Sink(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            return len(memoryview(data))  # type: ignore[arg-type]  # whatever gzip gives

    sink: BinaryIO = Sink()  # type: ignore[assignment]  # all that is asked of it is `write`
    one = make_record(random.Random(1), "lab/small", 1536)
    packed = pack(one[1])

    tracemalloc.start()
    writer = ExportWriter(sink)
    for _ in range(600):  # 4 MB
        writer.add(one[0], packed)
    writer.finish()
    writing = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    data = io.BytesIO(export([one] * 600))
    tracemalloc.start()
    count = sum(1 for _ in read_export(data))
    reading = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert count == 600
    assert writing < 1_000_000
    assert reading < 1_000_000


def test_memory_stays_flat_however_many_models_a_file_names() -> None:
    dice = random.Random(1)
    data = io.BytesIO(export([make_record(dice, f"lab/{number:01000}", 1) for number in range(4000)]))

    tracemalloc.start()
    count = sum(1 for _ in read_export(data))
    reading = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert count == 4000
    assert reading < 1_000_000
