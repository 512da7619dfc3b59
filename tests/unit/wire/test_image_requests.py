"""What is said of a request for images, and what is read of answers and streams of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.call import Usage
from gateway.errors import InvalidRequest
from gateway.wire import EventTooLarge, ImageScanner, check_image, has_images, read_image_usage

COMPLETED = "image_generation.completed"
LARGE = "A" * 200_000


def asked(**fields: Any) -> dict[str, Any]:
    return {"model": "image", "prompt": "a lighthouse", **fields}


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def feed_all(scanner: ImageScanner, raw: bytes, size: int) -> bytes:
    """Return what a scanner gives back of bytes that come in pieces of `size`, as long as it takes them."""
    given_back = b""
    for start in range(0, len(raw), size):
        if not scanner.is_over:
            given_back += scanner.feed(raw[start : start + size])
    return given_back


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({}, "prompt", "missing_required_parameter"),
        (asked(prompt=None), "prompt", "missing_required_parameter"),
        (asked(prompt=""), "prompt", "empty_string"),
        (asked(prompt=5), "prompt", "invalid_type"),
        (asked(prompt=["a"]), "prompt", "invalid_type"),
        (asked(prompt={"a": 1}), "prompt", "invalid_type"),
        (asked(prompt="a" * 32_001), "prompt", "string_above_max_length"),
        (asked(model=""), "model", "empty_string"),
        (asked(model=5), "model", "invalid_type"),
        (asked(n=0), "n", "integer_below_min_value"),
        (asked(n=11), "n", "integer_above_max_value"),
        (asked(n=1.5), "n", "invalid_type"),
        (asked(n=True), "n", "invalid_type"),
        (asked(n="2"), "n", "invalid_type"),
        (asked(size=1024), "size", "invalid_type"),
        (asked(quality=1), "quality", "invalid_type"),
        (asked(style=[]), "style", "invalid_type"),
        (asked(response_format="png"), "response_format", "invalid_value"),
        (asked(response_format={"type": "url"}), "response_format", "invalid_value"),
        (asked(background=False), "background", "invalid_type"),
        (asked(moderation=0), "moderation", "invalid_type"),
        (asked(output_format=1), "output_format", "invalid_type"),
        (asked(output_compression=-1), "output_compression", "integer_below_min_value"),
        (asked(output_compression=101), "output_compression", "integer_above_max_value"),
        (asked(partial_images=-1), "partial_images", "integer_below_min_value"),
        (asked(partial_images=4), "partial_images", "integer_above_max_value"),
        (asked(stream=1), "stream", "invalid_type"),
        (asked(stream_options=[]), "stream_options", "invalid_type"),
        (asked(user=5), "user", "invalid_type"),
    ],
)
def test_a_wrong_image_request_is_told_its_field(body: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_image(body)

    assert (caught.value.param, caught.value.code) == (param, code)
    assert param in caught.value.message


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (["a"], "Invalid type for 'prompt': expected a string, but got an array instead."),
        (
            "é" * 32_001,
            "Invalid 'prompt': string too long. Expected a string with maximum length 32000, "
            "but got a string with length 32001 instead.",
        ),
    ],
)
def test_a_wrong_prompt_is_told_in_openais_words(prompt: Any, message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_image(asked(prompt=prompt))

    assert caught.value.message == message


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "é" * 32_000},
        {"n": 1},
        {"n": 10},
        {"output_compression": 0, "partial_images": 0},
        {"output_compression": 100, "partial_images": 3},
        {"size": "1792x1024", "quality": "ultra", "style": "anime", "output_format": "gif"},
        {"response_format": "url"},
        {"response_format": "b64_json"},
        {"steps": "many", "seed": -1, "safety": {"a": [None]}},
        dict.fromkeys(["model", "n", "size", "quality", "style", "response_format", "background", "moderation"]),
        dict.fromkeys(["output_format", "output_compression", "partial_images", "stream", "user", "stream_options"]),
    ],
)
def test_a_right_image_request_is_left_as_it_is(fields: dict[str, Any]) -> None:
    body = asked(**fields)

    check_image(body)

    assert body == asked(**fields)


def test_the_model_may_be_left_out() -> None:
    check_image({"prompt": "a"})


@given(
    st.dictionaries(
        st.sampled_from(["prompt", "model", "n", "size", "stream", "response_format", "partial_images", "steps"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=5,
        ),
    )
)
def test_any_object_is_taken_or_refused_by_name(body: dict[str, Any]) -> None:
    try:
        check_image(body)
    except InvalidRequest as error:
        assert error.param in body or error.param == "prompt"
    else:
        assert body["prompt"]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ({"data": [{"b64_json": "QQ=="}]}, True),
        ({"data": [{"url": "https://a"}, {"b64_json": "QQ==", "url": None}]}, True),
        ({}, False),
        ({"data": None}, False),
        ({"data": []}, False),
        ({"data": {"b64_json": "QQ=="}}, False),
        ({"data": "QQ=="}, False),
        ({"data": ["QQ=="]}, False),
        ({"data": [None]}, False),
        ({"data": [{"b64_json": ""}]}, False),
        ({"data": [{"url": "https://a"}, {}]}, False),
    ],
)
def test_an_answer_is_images_when_each_item_has_one(reply: dict[str, Any], expected: bool) -> None:
    assert has_images(reply) is expected


@pytest.mark.parametrize(
    ("reported", "usage"),
    [
        ({"input_tokens": 7, "output_tokens": 4160, "total_tokens": 4167}, Usage(7, 4160)),
        ({"input_tokens": 7, "output_tokens": 1, "input_tokens_details": {"cached_tokens": 3}}, Usage(7, 1, 3)),
        ({"input_tokens": 7, "output_tokens": 1, "input_tokens_details": {"text_tokens": 7}}, Usage(7, 1)),
        ({"input_tokens": 7}, Usage(7, 0)),
        ({"prompt_tokens": 7, "completion_tokens": 1}, Usage(7, 1)),
        ({"input_tokens": -1}, None),
        ({"input_tokens": "7"}, None),
        ({}, None),
        (None, None),
        ("7", None),
    ],
)
def test_usage_of_images_has_names_of_its_own(reported: Any, usage: Usage | None) -> None:
    assert read_image_usage(reported) == usage


@pytest.mark.parametrize("size", [1, 7, 4096, 10_000_000])
def test_a_stream_is_given_back_as_it_came_however_it_is_cut(size: int) -> None:
    raw = event("image_generation.partial_image", b64_json="AA") + event(COMPLETED, b64_json="BB")
    raw = raw if size < 4096 else raw.replace(b"AA", LARGE.encode()).replace(b"BB", LARGE.encode())
    scanner = ImageScanner()

    given_back = feed_all(scanner, raw, size)

    assert given_back == raw
    assert (scanner.done, scanner.finished, scanner.error, scanner.broken) == (True, True, None, False)


def test_what_comes_after_the_last_image_is_not_given_back() -> None:
    scanner = ImageScanner()
    last = event(COMPLETED, b64_json="A")

    assert scanner.feed(last + b"data: [DONE]\n\n") == last
    assert scanner.done


def test_a_picture_may_have_the_words_of_an_end_in_a_field_of_the_callers() -> None:
    scanner = ImageScanner()
    tricky = event("image_generation.partial_image", revised_prompt=COMPLETED, note='"error"', b64_json=LARGE)

    assert scanner.feed(tricky) == tricky
    assert not scanner.is_over


def test_usage_of_several_images_is_added_up() -> None:
    scanner = ImageScanner(images=3)
    usage = {"input_tokens": 7, "output_tokens": 100}

    scanner.feed(event(COMPLETED, usage=usage) + event(COMPLETED, usage=None))
    assert not scanner.is_over
    scanner.feed(event(COMPLETED, usage=usage))

    assert scanner.done
    assert scanner.usage == Usage(14, 200)


def test_comments_before_the_first_image_are_dropped_and_later_ones_kept() -> None:
    scanner = ImageScanner()
    partial = event("image_generation.partial_image", b64_json="A")

    assert scanner.feed(b"\xef\xbb\xbf: ping\n\n: ping\n\n") == b""
    assert not scanner.started
    assert scanner.feed(partial + b": ping\n\n") == partial + b": ping\n\n"


@pytest.mark.parametrize("end", [b"data: [DONE]\n\n", b"data: {\n\n", b"data: [1]\n\n"])
def test_what_is_no_event_of_an_object_breaks_the_stream(end: bytes) -> None:
    scanner = ImageScanner()
    partial = event("image_generation.partial_image", b64_json="A")

    assert scanner.feed(partial + end) == partial
    assert (scanner.broken, scanner.done, scanner.finished) == (True, False, False)


def test_an_error_is_noted_and_taken_out() -> None:
    scanner = ImageScanner()
    partial = event("image_generation.partial_image", b64_json="A")

    assert scanner.feed(partial + event("error", error={"message": "no"})) == partial
    assert scanner.error == {"message": "no"}


def test_an_event_may_have_64_megabytes_and_no_more() -> None:
    scanner = ImageScanner()
    megabyte = b"A" * 1024 * 1024
    scanner.feed(b'data: {"b64_json":"')
    for _ in range(63):
        scanner.feed(megabyte)

    with pytest.raises(EventTooLarge):
        scanner.feed(megabyte)
