"""What is written of finished requests: one log line and the metrics, off the road.

A request's end is a list append; the writing is done for many requests at once by a timer, which is cheaper than one by
one (bench/design.md). What is counted and what a line looks like is `metrics.py` and `line` below.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from gateway.call import Record
from gateway.logs import LogSink
from gateway.metrics import Metrics

LONGEST_WAIT_SECONDS = 0.1
LARGEST_BATCH = 64  # about a millisecond of work: no other request waits longer than that


@dataclass(slots=True)
class Finished:
    """One finished request; `ended` is on the clock of its record, `at` in Unix seconds."""

    record: Record
    method: str
    status: int
    ended: float
    at: float


class Journal:
    """Writes log lines and metrics of finished requests in small batches."""

    def __init__(self, metrics: Metrics, sink: LogSink) -> None:
        self._metrics = metrics
        self._sink = sink
        self._waiting: list[Finished] = []
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Count a request as being answered."""
        self._metrics.begin()

    def add(self, finished: Finished) -> None:
        """Take a finished request; it is written within a tenth of a second."""
        self._metrics.end()
        self._waiting.append(finished)
        if len(self._waiting) >= LARGEST_BATCH:
            self.write()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LONGEST_WAIT_SECONDS, self.write)

    def write(self) -> None:
        """Write what is waiting now, so that a metrics page or the end of the process misses nothing."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch, self._waiting = self._waiting, []
        for finished in batch:
            self._metrics.observe(finished.record, finished.status, finished.ended)
            self._sink.put(line(finished))
        self._metrics.settle()


def line(finished: Finished) -> dict[str, Any]:
    """Return the one log line of a request."""
    record, status = finished.record, finished.status
    fields: dict[str, Any] = {
        "time": finished.at,
        "level": "warning" if status >= 500 or (status < 400 and record.error) else "info",
        "event": "request",
        "request_id": record.request_id,
        "method": finished.method,
        "endpoint": record.endpoint,
        "status": status,
        "caller": record.caller,
        "milliseconds": round((finished.ended - record.started) * 1000, 3),
    }
    if record.model:
        fields["model"] = record.model[:200]
        fields["stream"] = record.stream
    if deployment := record.deployment:
        fields["deployment"] = deployment
    if record.attempts:
        fields["attempts"] = len(record.attempts)
        fields["upstream_milliseconds"] = round(record.upstream_seconds * 1000, 3)
    if record.queued is not None:
        fields["queue_milliseconds"] = record.queued.milliseconds
    _tell_tokens(record, fields)
    if record.flaws:
        fields["flaws"] = record.flaws
    if record.error is not None:
        fields["error"] = record.error
        fields["tried"] = [
            {"deployment": attempt.deployment, "outcome": attempt.outcome, "detail": attempt.detail[:300]}
            for attempt in record.attempts
        ]
    return fields


def _tell_tokens(record: Record, fields: dict[str, Any]) -> None:
    """Add what is told of a request's tokens: which were there already, left out, counted."""
    if record.cache is not None:
        fields["cache_hits"], fields["cache_misses"] = record.cache.hits, record.cache.misses
    if record.truncated_tokens:
        fields["truncated_tokens"] = record.truncated_tokens
    if record.max_tokens is not None:
        fields["max_tokens_lowered_to"] = record.max_tokens
    if record.usage is not None:
        fields["prompt_tokens"] = record.usage.prompt_tokens
        fields["completion_tokens"] = record.usage.completion_tokens
