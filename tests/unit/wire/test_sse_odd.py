"""Events that are JSON but not what anybody writes: the scanner reads what it can of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.wire import DONE_EVENT, SseScanner


def event(**payload: Any) -> bytes:
    return b"data: " + json.dumps(payload).encode() + b"\n\n"


@pytest.mark.parametrize("index", [[], {}, None, "0", 1.5, [[1]]], ids=str)
def test_a_role_of_a_choice_without_a_number_is_the_first_choices(index: Any) -> None:
    scanner = SseScanner(keep_usage=False)
    first = event(choices=[{"index": index, "delta": {"role": "assistant"}}])

    relayed = scanner.feed(first) + scanner.feed(event(choices=[{"index": 0, "delta": {"role": "assistant"}}]))

    assert relayed.count(b'"role"') == 1
    assert scanner.feed(DONE_EVENT) == DONE_EVENT


@pytest.mark.parametrize("choices", [1, True, {"0": {}}, "text", [1], [None]], ids=str)
def test_choices_that_are_no_list_of_objects_have_no_roles(choices: Any) -> None:
    scanner = SseScanner(keep_usage=False)
    odd = event(choices=choices)

    assert scanner.feed(odd) == odd


def test_a_long_error_right_before_the_end_is_noticed() -> None:
    scanner = SseScanner(keep_usage=False)
    scanner.feed(event(choices=[{"index": 0, "delta": {"content": "a"}}]))
    scanner.feed(event(choices=[{"index": 0, "delta": {"content": "b"}}]))

    relayed = scanner.feed(event(error={"message": "x" * 5000}) + DONE_EVENT)

    assert relayed == b""
    assert scanner.error == {"message": "x" * 5000}
