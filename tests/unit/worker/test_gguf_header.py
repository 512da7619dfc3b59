"""The header check: T23, no made-up number reaches the native parser."""

from __future__ import annotations

import struct
import time
from io import BytesIO
from pathlib import Path

import gguf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.worker import GgufError, GgufSummary, check_gguf
from gateway.worker.gguf_header import BLOCKS, read_header
from tests.unit.worker.headers import (
    ARCHITECTURE,
    ARRAY,
    BOOL,
    F32,
    STRING,
    U32,
    U64,
    WINDOW,
    header,
    pair,
    tensor,
    text,
    u32,
    u64,
    whole,
)

GOOD = whole(
    pair("tokenizer.chat_template", STRING, text("{{ messages }}")),
    pair("tiny.embedding_length", U32, u32(4)),
    pair("tiny.pooling_type", U32, u32(1)),
    pair("tokenizer.ggml.tokens", ARRAY, u32(STRING) + u64(3) + text("a") + text("bc") + text("")),
    pair("tokenizer.ggml.scores", ARRAY, u32(F32) + u64(3) + bytes(12)),
)


def read(raw: bytes) -> GgufSummary:
    return read_header(BytesIO(raw), len(raw))


def test_a_good_header_is_summed_up() -> None:
    summary = read(GOOD)

    assert summary == GgufSummary(
        architecture="tiny",
        context_length=64,
        embedding_length=4,
        pooling=1,
        has_chat_template=True,
        tensor_count=1,
    )


def test_what_a_header_does_not_say_is_none() -> None:
    summary = read(header(ARCHITECTURE, pairs=1, tensors=0))

    assert (summary.context_length, summary.pooling, summary.has_chat_template) == (None, None, False)


BAD = {
    "nothing": (b"", "truncated"),
    "another magic": (b"GGML" + GOOD[4:], "not a GGUF file"),
    "a text file": (b"Once upon a time there was a model.", "not a GGUF file"),
    "version 1": (header(ARCHITECTURE, pairs=1, tensors=0, version=1), "version 1"),
    "big-endian": (b"GGUF" + (3).to_bytes(4, "big") + GOOD[8:], "version 50331648"),
    "more tensors than fit": (header(ARCHITECTURE, pairs=1, tensors=1000), "tensor count 1000"),
    "negative tensor count": (header(ARCHITECTURE, pairs=1, tensors=2**64 - 1), "tensor count"),
    "more keys than fit": (header(ARCHITECTURE, pairs=2**40, tensors=0), "key count"),
    "a key longer than the file": (header(u64(2**62), bytes(99), pairs=1, tensors=0), "truncated"),
    "a key without a name": (whole(pair("", U32, u32(1))), "is empty or stands twice"),
    "a key twice": (whole(WINDOW), "stands twice"),
    "a key that is not UTF-8": (header(text(b"\xff\xfe"), u32(U32), u32(1), bytes(9), pairs=1, tensors=0), "UTF-8"),
    "an unknown value type": (whole(pair("x", 13, bytes(8))), "no value type 13"),
    "an array of arrays": (whole(pair("x", ARRAY, u32(ARRAY) + u64(1) + bytes(12))), "no value type 9"),
    "an array longer than the file": (whole(pair("x", ARRAY, u32(U64) + u64(10**6))), "truncated"),
    "an array whose size overflows": (whole(pair("x", ARRAY, u32(U64) + u64(2**61 + 1))), "array length"),
    "a string in an array that overflows": (whole(pair("x", ARRAY, u32(STRING) + u64(1) + u64(2**64 - 8))), "length of"),
    "no architecture": (header(WINDOW, pairs=1, tensors=0), "general.architecture"),
    "an architecture that is a number": (header(pair("general.architecture", U32, u32(1)), pairs=1, tensors=0), "general.arch"),
    "a window of nothing": (header(ARCHITECTURE, pair("tiny.context_length", U32, u32(0)), pairs=2, tensors=0), "context_length"),
    "a window that is yes": (header(ARCHITECTURE, pair("tiny.context_length", BOOL, b"\1"), pairs=2, tensors=0), "context_length"),
    "an alignment that is no power of two": (whole(pair("general.alignment", U32, u32(24))), "general.alignment"),
    "an alignment of nothing": (whole(pair("general.alignment", U32, u32(0))), "general.alignment"),
    "no dimensions": (whole(tensors=(tensor(extents=()),)), "0 dimensions"),
    "five dimensions": (whole(tensors=(tensor(extents=(1,) * 5),)), "5 dimensions"),
    "four billion dimensions": (whole(tensors=(text("t") + u32(2**32 - 1) + bytes(40),)), "dimensions"),
    "an extent of nothing": (whole(tensors=(tensor(extents=(4, 0)),)), "impossible extents"),
    "extents whose product overflows": (whole(tensors=(tensor(extents=(2**33, 2**33)),)), "impossible extents"),
    "extents whose product overflows to something small": (
        whole(tensors=(tensor(extents=(2**32, 2**31, 2, 1)),)),
        "impossible extents",
    ),
    "an unknown tensor type": (whole(tensors=(tensor(kind=4),)), "unknown type 4"),
    "rows that are not whole blocks": (whole(tensors=(tensor(extents=(33,), kind=8),)), "whole blocks"),
    "a name of 64 bytes": (whole(tensors=(tensor(name="n" * 64),)), "length of a tensor name"),
    "a tensor twice": (whole(tensors=(tensor(), tensor(offset=32))), "stands twice"),
    "an offset between the alignments": (whole(tensors=(tensor(offset=8),)), "not aligned"),
    "an offset that overflows": (whole(tensors=(tensor(offset=2**64 - 32),)), "truncated"),
    "weights beyond the end": (whole(tensors=(tensor(extents=(1024, 1024)),)), "truncated: needs at least"),
}  # fmt: skip


@pytest.mark.parametrize(("raw", "complaint"), BAD.values(), ids=BAD.keys())
def test_a_bad_header_is_refused(raw: bytes, complaint: str) -> None:
    with pytest.raises(GgufError, match=complaint):
        read(raw)


@pytest.mark.parametrize("length", range(len(GOOD) - 32))
def test_a_file_cut_anywhere_is_refused(length: int) -> None:
    with pytest.raises(GgufError, match="truncated"):
        read(GOOD[:length])


@given(place=st.integers(0, len(GOOD) - 1), patch=st.binary(min_size=1, max_size=8))
@settings(max_examples=1000, deadline=None)
def test_any_change_gives_a_summary_or_a_refusal(place: int, patch: bytes) -> None:
    changed = GOOD[:place] + patch + GOOD[place + len(patch) :]
    began = time.process_time()

    try:
        read(changed)
    except GgufError as error:
        assert str(error)

    assert time.process_time() - began < 1


@given(st.binary(max_size=200))
def test_any_bytes_after_the_magic_give_a_summary_or_a_refusal(rest: bytes) -> None:
    raw = b"GGUF" + rest

    try:
        read(raw)
    except GgufError as error:
        assert str(error)


def test_the_block_sizes_are_those_of_the_gguf_package() -> None:
    known = {int(kind): sizes for kind, sizes in gguf.GGML_QUANT_SIZES.items()}

    assert known == BLOCKS


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda file: None, "tiny.gguf: no such file"),
        (lambda file: file.mkdir(), "tiny.gguf: not a file"),
        (lambda file: file.write_bytes(b"hello"), "tiny.gguf: not a GGUF file"),
        (lambda file: file.write_bytes(GOOD[:100]), "tiny.gguf: truncated"),
    ],
    ids=["missing", "directory", "text", "cut"],
)
def test_a_file_that_is_no_model_is_named_without_its_directory(tmp_path: Path, make, complaint: str) -> None:
    file = tmp_path / "tiny.gguf"
    make(file)

    with pytest.raises(GgufError, match=complaint) as caught:
        check_gguf(file)

    assert str(tmp_path) not in str(caught.value)


def split_file(directory: Path, number: int, raw: bytes | None = None) -> Path:
    file = directory / f"tiny-{number:05d}-of-00002.gguf"
    file.write_bytes(raw or whole(pair("split.count", 2, struct.pack("<H", 2))))
    return file


def test_all_parts_of_a_split_model_are_checked(tmp_path: Path) -> None:
    first = split_file(tmp_path, 1)
    split_file(tmp_path, 2, b"not a model")

    with pytest.raises(GgufError, match=r"tiny-00002-of-00002\.gguf: not a GGUF file"):
        check_gguf(first)


def test_a_whole_split_model_is_summed_up_by_its_first_part(tmp_path: Path) -> None:
    first = split_file(tmp_path, 1)
    split_file(tmp_path, 2)

    assert check_gguf(first).parts == 2


def test_real_models_pass(chat_gguf: Path, embedding_gguf: Path) -> None:
    chat, embedding = check_gguf(chat_gguf), check_gguf(embedding_gguf)

    assert (chat.architecture, chat.context_length, chat.has_chat_template) == ("llama", 8192, True)
    assert (embedding.architecture, embedding.context_length, embedding.embedding_length) == ("bert", 512, 384)
    assert embedding.pooling == 1
