"""What is counted, under which names, and the page that Prometheus reads.

Labels take configured names only, so the number of series is bounded by the configuration. With several worker
processes prometheus_client keeps the figures in memory-mapped files of a shared directory, named by
PROMETHEUS_MULTIPROC_DIR before this module is imported, and the page adds them up.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from gateway.call import Record

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

# Seconds. Answers of language models take from milliseconds (embeddings) to minutes.
_ANSWER_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_OVERHEAD_BUCKETS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1)


class Metrics:
    """All figures of one process."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self._requests = Counter(
            "gateway_requests", "Requests answered.", ["endpoint", "alias", "status"], registry=registry
        )
        self._duration = Histogram(
            "gateway_request_duration_seconds",
            "From the request's head to the last byte of its answer.",
            ["endpoint"],
            buckets=_ANSWER_BUCKETS,
            registry=registry,
        )
        self._overhead = Histogram(
            "gateway_overhead_duration_seconds",
            "The part of a request's duration in which no upstream was waited for.",
            ["endpoint"],
            buckets=_OVERHEAD_BUCKETS,
            registry=registry,
        )
        self._upstream = Histogram(
            "gateway_upstream_duration_seconds",
            "From asking a deployment to its whole plain answer or the first event of its stream.",
            ["deployment"],
            buckets=_ANSWER_BUCKETS,
            registry=registry,
        )
        self._first_event = Histogram(
            "gateway_first_event_seconds",
            "From a stream request's head to its first event, failed attempts included.",
            ["alias"],
            buckets=_ANSWER_BUCKETS,
            registry=registry,
        )
        self._attempts = Counter(
            "gateway_attempts", "Attempts at deployments, by what became of them.", ["deployment", "outcome"], registry=registry
        )
        self._tokens = Counter(
            "gateway_tokens", "Tokens as upstreams counted them.", ["alias", "kind"], registry=registry
        )
        self.in_flight = Gauge(
            "gateway_in_flight_requests", "Requests being answered.", multiprocess_mode="livesum", registry=registry
        )
        self._bound: dict[tuple[str, ...], Any] = {}

    def observe(self, endpoint: str, record: Record, status: int, ended: float) -> None:
        """Count one finished request; `ended` is on the clock of `record.started`, in seconds."""
        self._child(self._requests, endpoint, record.alias, str(status)).inc()
        duration = ended - record.started
        self._child(self._duration, endpoint).observe(duration)
        if not record.attempts:
            return
        for attempt in record.attempts:
            took = attempt.ended - attempt.started
            self._child(self._attempts, attempt.label, attempt.outcome).inc()
            self._child(self._upstream, attempt.label).observe(took)
        self._child(self._overhead, endpoint).observe(max(0.0, duration - record.upstream_seconds))
        if record.stream and record.first_event:
            self._child(self._first_event, record.alias).observe(record.first_event - record.started)
        usage = record.usage
        if usage is not None:
            self._child(self._tokens, record.alias, "prompt").inc(usage.prompt_tokens)
            if usage.completion_tokens:
                self._child(self._tokens, record.alias, "completion").inc(usage.completion_tokens)
            if usage.cached_tokens:
                self._child(self._tokens, record.alias, "cached").inc(usage.cached_tokens)

    def render(self) -> bytes:
        """Return the page in Prometheus's text format, added up over all worker processes."""
        directory = os.environ.get(DIRECTORY_VARIABLE)
        if not directory:
            return generate_latest(self._registry)
        whole = CollectorRegistry()
        MultiProcessCollector(whole, path=directory)  # type: ignore[no-untyped-call]  # the library leaves it untyped
        return generate_latest(whole)

    def _child(self, metric: Counter | Histogram, *labels: str) -> Any:
        """Return the series of `labels`; the library's own lookup costs as much as the update itself."""
        key = (metric._name, *labels)
        child = self._bound.get(key)
        if child is None:
            child = self._bound[key] = metric.labels(*labels)
        return child


def forget_process(directory: Path, pid: int) -> None:
    """Drop the gauges of a worker process that died; its counters stay, because what it did was done."""
    mark_process_dead(pid, str(directory))  # type: ignore[no-untyped-call]  # the library leaves it untyped
