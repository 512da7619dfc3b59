"""What is estimated of images, sounds and files, by what their beginnings say."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.tokens.attachments import attachment_of
from gateway.tokens.images import LOW_DETAIL, MOST, image_tokens


def png(width: int, height: int) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + head + struct.pack(">I", zlib.crc32(b"IHDR" + head))


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\x00" * 8


def jpeg(width: int, height: int, notes: int = 0) -> bytes:
    between = b"".join(b"\xff\xe1" + struct.pack(">H", 60_002) + b"\xff\xc0" * 30_000 for _ in range(notes))
    frame = b"\xff\xc2" + struct.pack(">HBHHB", 17, 8, height, width, 3) + b"\x00" * 9
    return b"\xff\xd8\xff\xe0" + struct.pack(">H", 16) + b"JFIF\x00" + b"\x00" * 9 + between + b"\xff" + frame


def webp(kind: bytes, width: int, height: int) -> bytes:
    if kind == b"VP8 ":
        body = b"\x00\x00\x00\x9d\x01\x2a" + struct.pack("<HH", width, height)
    elif kind == b"VP8L":
        body = b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14)
    else:
        body = b"\x10\x00\x00\x00" + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<I", 100) + b"WEBP" + kind + struct.pack("<I", len(body)) + body + b"\x00" * 8


def url_of(image: bytes) -> str:
    return "data:image/any;base64," + base64.b64encode(image).decode()


@pytest.mark.parametrize(
    ("width", "height", "tokens"),
    [
        (1, 1, 255),  # one tile
        (512, 512, 350),  # a token for 750 pixels
        (1024, 1024, 1399),
        (2048, 4096, 1600),
        (10_000, 10, 765),  # four tiles in a row
        (100_000, 100_000, 1600),
    ],
)
def test_the_greatest_of_the_makers_rules_is_taken(width: int, height: int, tokens: int) -> None:
    assert image_tokens(url_of(png(width, height))) == tokens


@pytest.mark.parametrize(
    "image",
    [
        png(640, 480),
        gif(640, 480),
        jpeg(640, 480),
        jpeg(640, 480, notes=3),
        webp(b"VP8 ", 640, 480),
        webp(b"VP8L", 640, 480),
        webp(b"VP8X", 640, 480),
    ],
)
def test_each_kind_of_image_tells_its_size(image: bytes) -> None:
    assert image_tokens(url_of(image)) == 425


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/cat.png",
        "data:image/png;base64,",
        "data:image/png;base64,????",
        "data:image/png;base64,é",
        "data:image/png,no-base64",
        url_of(png(0, 10)),
        url_of(png(10, 10)[:18]),
        url_of(b"\xff\xd8" + b"\xff" * 300_000),
        url_of(b"\xff\xd8" + b"\xff\xd0" * 150_000),
        url_of(jpeg(640, 480, notes=6)),
        url_of(b"RIFF\x00\x00\x00\x00WEBPVP9 " + b"\x00" * 40),
        "",
    ],
)
def test_an_image_that_does_not_tell_its_size_is_as_large_as_any(url: str) -> None:
    assert image_tokens(url) == MOST


@given(
    beginning=st.sampled_from([b"\xff\xd8", png(9, 9)[:8], b"GIF89a", b"RIFF\0\0\0\0WEBP"]), rest=st.binary(max_size=99)
)
def test_whatever_an_image_says_it_is_estimated(beginning: bytes, rest: bytes) -> None:
    assert 255 <= image_tokens(url_of(beginning + rest)) <= MOST


@pytest.mark.parametrize(
    ("part", "tokens"),
    [
        ({"type": "image_url", "image_url": {"url": "https://example.com/a", "detail": "low"}}, LOW_DETAIL),
        ({"type": "image_url", "image_url": "https://example.com/a"}, MOST),
        ({"type": "image_url", "image_url": None}, MOST),
        ({"type": "image_url"}, MOST),
        ({"type": "image_url", "image_url": {"url": 7}}, MOST),
        ({"type": "input_image", "image_url": url_of(png(512, 512)), "detail": "low"}, LOW_DETAIL),
        ({"type": "image", "source": {"data": base64.b64encode(png(512, 512)).decode()}}, 350),
        ({"type": "file", "file": {"file_id": "file-1"}}, MOST),
        ({"type": "file", "file": {"file_data": "data:application/pdf;base64," + "A" * 64_000}}, 3002),
        ({"type": "file", "file": 7}, MOST),
        ({"type": "input_audio", "input_audio": {"data": "A" * 64_000, "format": "mp3"}}, 12 * 32),
        ({"type": "input_audio", "input_audio": {"data": "é"}}, 32),
        ({"type": "input_audio", "input_audio": None}, 0),
    ],
)
def test_what_a_part_carries_is_estimated_in_each_of_its_forms(part: dict[str, Any], tokens: int) -> None:
    carried = attachment_of(part)

    assert carried is not None
    assert carried.tokens == tokens


def test_a_wav_has_tokens_for_each_of_its_seconds() -> None:
    head = b"RIFF\x00\x00\x00\x00WAVEfmt \x10\x00\x00\x00" + struct.pack("<HHIIHH", 1, 1, 24_000, 48_000, 2, 16)
    data = base64.b64encode(head + b"\x00" * (48_000 * 10 - len(head))).decode()

    carried = attachment_of({"type": "input_audio", "input_audio": {"data": data, "format": "wav"}})

    assert carried is not None
    assert carried.tokens == 320


@pytest.mark.parametrize("part", [{"type": "text", "text": "x"}, {"type": "video"}, {"type": 7}, {}])
def test_texts_and_parts_of_other_kinds_carry_nothing(part: dict[str, Any]) -> None:
    assert attachment_of(part) is None
