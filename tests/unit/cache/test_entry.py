"""An entry comes back to the bit, or not at all."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
import zlib
from importlib.util import find_spec

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cache import Entry, pack, unpack
from gateway.cache.entry import HEADER_BYTES

CORRUPTIONS = 10_000
SPOILT_BYTES = (0x00, 0xFF, 0x01, 0x80)  # beside the ones that dice make: what disks and wires tend to leave

entries = st.builds(
    Entry,
    key=st.binary(min_size=32, max_size=32),
    space=st.binary(min_size=8, max_size=8),
    vector=st.integers(1, 64).flatmap(lambda numbers: st.binary(min_size=4 * numbers, max_size=4 * numbers)),
    tokens=st.integers(0, 2**32 - 1),
    cut=st.integers(0, 2**32 - 1),
    created=st.integers(0, 2**64 - 1),
    until=st.integers(0, 2**64 - 1),
)


def make_entry(numbers: int = 256) -> Entry:
    dice = random.Random(numbers)
    vector = struct.pack(f"<{numbers}f", *(dice.gauss(0, 1) for _ in range(numbers)))
    return Entry(dice.randbytes(32), dice.randbytes(8), vector, 12, 3, 1_800_000_000, 1_800_000_300)


@given(entries)
def test_what_was_packed_is_unpacked_to_the_bit(entry: Entry) -> None:
    packed = pack(entry)

    assert unpack(packed, entry.key) == unpack(memoryview(packed), entry.key) == entry
    assert len(packed) == HEADER_BYTES + len(entry.vector)


def test_ten_thousand_spoilt_bytes_give_no_entry_and_no_failure() -> None:
    entry, dice = make_entry(), random.Random(6)
    packed = pack(entry)

    for trial in range(CORRUPTIONS):
        place = trial % len(packed)
        spoilt = bytearray(packed)
        others = [byte for byte in SPOILT_BYTES if byte != packed[place]]
        spoilt[place] = dice.choice([*others, packed[place] ^ dice.randrange(1, 256)])

        assert unpack(bytes(spoilt), entry.key) is None, f"byte {place} became {spoilt[place]}"


def test_every_byte_with_every_bit_turned_gives_no_entry() -> None:
    entry = make_entry(numbers=2)
    packed = pack(entry)

    for place in range(len(packed)):
        for bit in range(8):
            spoilt = bytearray(packed)
            spoilt[place] ^= 1 << bit

            assert unpack(bytes(spoilt), entry.key) is None


def test_a_part_of_an_entry_is_none_and_neither_is_more_than_one() -> None:
    entry = make_entry(numbers=8)
    packed = pack(entry)

    for length in range(len(packed)):
        assert unpack(packed[:length], entry.key) is None
    for tail in (b"\0", b"\0" * 4, packed):
        assert unpack(packed + tail, entry.key) is None


@given(st.binary(max_size=2 * HEADER_BYTES))
def test_bytes_of_any_kind_are_no_entry(found: bytes) -> None:
    assert unpack(found, bytes(32)) is None


def test_an_entry_under_another_key_is_none() -> None:
    entry = make_entry()

    assert unpack(pack(entry), bytes(32)) is None


@pytest.mark.parametrize("place", [4, 5, 6], ids=["version", "kind of number", "spare"])
def test_an_entry_of_another_version_is_none_even_if_its_checksum_is_right(place: int) -> None:
    entry = make_entry(numbers=4)
    head = bytearray(pack(entry)[: HEADER_BYTES - 4])
    head[place] += 1
    check = struct.pack("<I", zlib.crc32(entry.vector, zlib.crc32(head)))

    assert unpack(bytes(head) + check + entry.vector, entry.key) is None


@pytest.mark.parametrize("absent", [(), ("isal",)], ids=["isal", "zlib"])
@pytest.mark.parametrize("numbers", [1, 16, 1536, 60_000])
def test_what_one_process_packs_another_reads_whichever_checksum_it_has(absent: tuple[str, ...], numbers: int) -> None:
    entry = make_entry(numbers=numbers)
    asked = (
        f"import sys; sys.modules.update(dict.fromkeys({absent!r}))\n"
        "from gateway.cache.entry import crc32, pack, unpack\n"
        "packed = sys.stdin.buffer.read()\n"
        "print(crc32.__module__, pack(unpack(packed, packed[8:40])) == packed)"
    )

    told = subprocess.run([sys.executable, "-c", asked], input=pack(entry), capture_output=True, check=True)

    is_there = not absent and find_spec("isal") is not None
    assert told.stdout.decode().split() == ["isal.isal_zlib" if is_there else "zlib", "True"]
