"""The checks of the contract: what they take and what they must refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.contract import assert_error_obeys_contract, assert_stream_obeys_contract, parse_sse

Events = list[str]


def _chunk(delta: dict[str, Any], finish: str | None = None, **fields: Any) -> str:
    choice = {"index": fields.pop("index", 0), "delta": delta, "finish_reason": finish}
    identity = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return json.dumps({**identity, "choices": [choice], **fields})


ROLE = _chunk({"role": "assistant", "content": ""})
HELLO = _chunk({"content": "Hello"})
FINISH = _chunk({}, "stop")
USAGE = _chunk({}, choices=[], usage={"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2})
CALL = {"index": 0, "id": "1", "type": "function", "function": {"name": "f", "arguments": ""}}
RIGHT = [ROLE, HELLO, FINISH, "[DONE]"]


def test_a_right_stream_passes() -> None:
    assert_stream_obeys_contract(RIGHT)
    assert_stream_obeys_contract([ROLE, HELLO, FINISH, USAGE, "[DONE]"], include_usage=True)
    assert_stream_obeys_contract([ROLE, _chunk({"tool_calls": [CALL]}), FINISH, "[DONE]"])


@pytest.mark.parametrize(
    ("events", "options", "complaint"),
    [
        ([], {}, "empty"),
        (RIGHT[:-1], {}, r"not with \[DONE\]"),
        ([*RIGHT, "[DONE]"], {}, "more than once"),
        ([ROLE, '{"error": {}}', "[DONE]"], {}, "error event"),
        ([ROLE, _chunk({}, object="chunk"), FINISH, "[DONE]"], {}, "object is"),
        ([ROLE, _chunk({}, id="d"), FINISH, "[DONE]"], {}, "id changes"),
        ([ROLE, _chunk({}, model="n"), FINISH, "[DONE]"], {}, "model changes"),
        ([ROLE, _chunk({}, created=1.5), FINISH, "[DONE]"], {}, "created is not always int"),
        ([ROLE, ROLE, FINISH, "[DONE]"], {}, "not assistant once"),
        ([HELLO, FINISH, "[DONE]"], {}, "not assistant once"),
        ([HELLO, ROLE, FINISH, "[DONE]"], {}, "does not begin with its role"),
        ([ROLE, HELLO, "[DONE]"], {}, "finish reasons"),
        ([ROLE, FINISH, FINISH, "[DONE]"], {}, "finish reasons"),
        ([ROLE, FINISH, HELLO, "[DONE]"], {}, "goes on after"),
        ([ROLE, _chunk({}, "eos"), "[DONE]"], {}, "finishes with 'eos'"),
        ([ROLE, HELLO, FINISH, USAGE, "[DONE]"], {}, "usage where it does not belong"),
        ([ROLE, FINISH, _chunk({}, choices=[]), "[DONE]"], {}, "empty choices"),
        (RIGHT, {"include_usage": True}, "the usage chunk has choices"),
        ([ROLE, USAGE, FINISH, "[DONE]"], {"include_usage": True}, "the usage chunk has choices"),
        (RIGHT, {"n": 2}, "the choices are not 0 to 1"),
        (
            [_chunk({"role": "assistant"}, "stop", index=1), ROLE, FINISH, "[DONE]"],
            {"n": 2},
            "first choice to come is 1",
        ),
        ([ROLE, _chunk({"tool_calls": [{**CALL, "index": 1}]}), FINISH, "[DONE]"], {}, "comes as number 0"),
        ([ROLE, *[_chunk({"tool_calls": [CALL]})] * 2, FINISH, "[DONE]"], {}, "comes again"),
        ([ROLE, _chunk({"tool_calls": [{"id": "1"}]}), FINISH, "[DONE]"], {}, "without index"),
        ([ROLE, _chunk({"annotations": [{"a": 1}]}), FINISH, "[DONE]"], {}, "without index"),
    ],
)
def test_a_wrong_stream_is_refused(events: Events, options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        assert_stream_obeys_contract(events, **options)


@pytest.mark.parametrize(
    ("raw", "events"),
    [
        (b"data: a\n\ndata:b\r\n\r\ndata: c\r\r", ["a", "b", "c"]),
        (b"\xef\xbb\xbfdata: a\n\n", ["a"]),
        (b": ping\n\nevent: x\nid: 1\ndata: a\ndata: b\n\n", ["a\nb"]),
        (b"data: a\n\ndata: cut\n", ["a"]),
        (b"data: a\n\ndata: cut", ["a"]),
        (b"data\n\n", [""]),
        (b"data:  two spaces: and colons\n\n", [" two spaces: and colons"]),
        (b"", []),
    ],
)
def test_events_are_read_by_the_standard(raw: bytes, events: Events) -> None:
    assert parse_sse(raw) == events


@pytest.mark.parametrize(
    "change",
    [
        lambda error: {"detail": "no"},
        lambda error: {"error": "text"},
        lambda error: {"error": {**error, "message": ""}},
        lambda error: {"error": {**error, "code": 400}},
        lambda error: {"error": {key: error[key] for key in ("message", "type", "code")}},
        lambda error: {"error": error, "trace": "…"},
    ],
)
def test_a_wrong_error_is_refused(change: Callable[[dict[str, Any]], Any]) -> None:
    error = {"message": "No.", "type": "server_error", "param": None, "code": None}
    assert_error_obeys_contract({"error": error})

    with pytest.raises(AssertionError):
        assert_error_obeys_contract(change(error))
