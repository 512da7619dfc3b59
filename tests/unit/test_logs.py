"""Log lines leave the road at once, without secrets, and a reader that is away costs only lines."""

from __future__ import annotations

import asyncio
import io
import json
import os
import threading
from typing import Any

import pytest

from gateway.logs import MOST_WAITING, LogSink, event, format_time


def make_line(**fields: Any) -> dict[str, Any]:
    return {"time": 1_700_000_000.25, "event": "request", **fields}


def read(stream: io.BytesIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


class Blocked(io.RawIOBase):
    """A stream whose reader does not read until `released`."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.released = threading.Event()
        self.written = b""

    def writable(self) -> bool:
        return True

    def write(self, text: Any) -> int:
        self.entered.set()
        self.released.wait(10)
        self.written += bytes(text)
        return len(text)


async def test_closing_writes_what_is_waiting_in_its_order() -> None:
    stream = io.BytesIO()
    sink = LogSink(stream)

    for number in range(5):
        sink.put(make_line(number=number))
    sink.close()

    assert [line["number"] for line in read(stream)] == [0, 1, 2, 3, 4]
    assert read(stream)[0]["time"] == "2023-11-14T22:13:20.250Z"


async def test_lines_are_written_without_closing_too() -> None:
    reading, writing = os.pipe()
    with open(reading, "rb") as source, open(writing, "wb", buffering=0) as stream:  # noqa: PTH123  # descriptors
        sink = LogSink(stream)  # type: ignore[arg-type]  # a raw file is as good as a buffered one here

        sink.put(make_line(number=1))
        line = await asyncio.get_running_loop().run_in_executor(None, source.readline)
        sink.close()

    assert json.loads(line)["number"] == 1


SECRETS = ["sk-canary-0123456789", 'quoted"and\\slashed', "ключ-секрет", "sk-canary-0123456789-longer"]


@pytest.mark.parametrize("secret", SECRETS)
async def test_a_secret_is_blotted_out_wherever_it_stands(secret: str) -> None:
    stream = io.BytesIO()
    sink = LogSink(stream, SECRETS)

    sink.put(make_line(detail=f"<{secret}>", **{secret: {"deep": [secret]}}))
    sink.close()

    assert read(stream)[0]["detail"] == "<***>"
    assert read(stream)[0]["***"] == {"deep": ["***"]}


async def test_a_placeholder_key_does_not_blot_out_words() -> None:
    stream = io.BytesIO()
    sink = LogSink(stream, ["x", "", "none"])

    sink.put(make_line(text="next: none"))
    sink.close()

    assert read(stream)[0]["text"] == "next: none"


async def test_a_line_that_cannot_be_written_as_json_does_not_end_the_log() -> None:
    stream = io.BytesIO()
    sink = LogSink(stream)

    sink.put(make_line(odd={1, 2}))
    sink.put(make_line(broken="\ud800"))
    sink.put(make_line(number=2))
    sink.close()

    assert [line.get("number") for line in read(stream)][-1] == 2


async def test_a_reader_that_does_not_read_costs_counted_lines_and_no_time() -> None:
    stream = Blocked()
    sink = LogSink(stream)  # type: ignore[arg-type]  # writes and flushes are all it needs
    sink.put(make_line(number=0))
    await asyncio.get_running_loop().run_in_executor(None, stream.entered.wait, 5)

    for number in range(1, MOST_WAITING + 11):
        sink.put(make_line(number=number))
    dropped = sink.dropped
    stream.released.set()
    sink.close()

    assert 10 <= dropped <= 110
    lines = [json.loads(line)["number"] for line in stream.written.splitlines()]
    assert lines == list(range(MOST_WAITING + 11 - dropped))


async def test_a_reader_that_is_gone_costs_counted_lines() -> None:
    stream = io.BytesIO()
    stream.close()
    sink = LogSink(stream)

    sink.put(make_line())
    sink.put(make_line())
    sink.close()

    assert sink.dropped == 2


async def test_a_sink_that_was_never_used_has_no_thread() -> None:
    before = threading.active_count()

    LogSink(io.BytesIO()).close()

    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "1970-01-01T00:00:00.000Z"), (1_700_000_000.9999, "2023-11-14T22:13:20.999Z")],
)
def test_times_are_rfc_3339_in_utc(seconds: float, text: str) -> None:
    assert format_time(seconds) == text


def test_an_event_is_one_line_of_json_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    event("started", port=8080, level="warning")

    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["port"], line["level"]) == ("started", 8080, "warning")
