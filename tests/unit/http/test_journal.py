"""Finished requests are written up in batches, and nothing is missing when somebody looks."""

from __future__ import annotations

import io
import json

from gateway.call import Record
from gateway.http import Journal
from gateway.http.journal import LARGEST_BATCH, Finished
from gateway.logs import LogSink
from gateway.metrics import Metrics


class Desk:
    """A journal with its metrics and its log."""

    def __init__(self) -> None:
        self.stream = io.BytesIO()
        self.metrics = Metrics()
        self.sink = LogSink(self.stream)
        self.journal = Journal(self.metrics, self.sink)

    def serve(self, count: int = 1, status: int = 200) -> None:
        for _ in range(count):
            self.journal.begin()
            self.journal.add(Finished(Record("req_1", 5.0, "/healthz"), "GET", status, 5.25, 1_700_000_000.0))

    def counted(self) -> float:
        for line in self.metrics.render().decode().splitlines():
            if line.startswith("gateway_requests_total"):
                return float(line.split(" ")[-1])
        return 0.0


async def test_a_request_is_written_when_it_is_asked_for() -> None:
    desk = Desk()
    desk.serve()
    before = desk.counted()

    desk.journal.write()
    desk.sink.close()

    assert (before, desk.counted()) == (0, 1)
    line = json.loads(desk.stream.getvalue())
    assert (line["status"], line["milliseconds"], line["level"]) == (200, 250.0, "info")


async def test_a_full_batch_is_written_at_once() -> None:
    desk = Desk()

    desk.serve(LARGEST_BATCH)

    assert desk.counted() == LARGEST_BATCH
    desk.sink.close()


async def test_writing_nothing_does_nothing() -> None:
    desk = Desk()

    desk.journal.write()
    desk.journal.write()
    desk.sink.close()

    assert desk.stream.getvalue() == b""


async def test_a_failure_of_the_server_is_a_warning() -> None:
    desk = Desk()
    desk.serve(status=503)

    desk.journal.write()
    desk.sink.close()

    assert json.loads(desk.stream.getvalue())["level"] == "warning"
