"""What is counted, under which names, and the page that Prometheus reads.

Labels take configured names only, so the number of series is bounded by the configuration. With several worker
processes prometheus_client keeps the figures in memory-mapped files of a shared directory, named by
PROMETHEUS_MULTIPROC_DIR before this module is imported, and the page adds them up.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from gateway.call import Attempt, Flaw, Record, Usage
from gateway.errors import NoDeployment, UpstreamAuthFailed
from gateway.metrics_cache import CacheMetrics
from gateway.metrics_loop import LoopLag
from gateway.metrics_windows import WindowCounts
from gateway.tallies import Spread, Tallies, Tally

CLIENT_GONE = 499  # nginx's word for a caller that left before its answer; only logs and metrics see it
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

# Seconds. Answers of language models take from milliseconds (embeddings) to minutes.
_STATES = ("closed", "half_open", "open", "resting")
_ANSWER_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_OVERHEAD_BUCKETS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1)


class _ModelProcesses(Collector):
    """Reads at each look how often model processes were started again: their parent counts it, not we."""

    def __init__(self, restarts: Callable[[], Iterable[tuple[str, int]]]) -> None:
        self._restarts = restarts

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(
            "gateway_local_worker_restarts", "Times that a model process was started again.", labels=["deployment"]
        )
        for deployment, restarts in self._restarts():
            family.add_metric([deployment], restarts)
        yield family


class Metrics:
    """All figures of one process; `restarts` gives those of the processes of local models, by deployment."""

    def __init__(self, restarts: Callable[[], Iterable[tuple[str, int]]] = tuple) -> None:
        registry = self._registry = CollectorRegistry()
        self._own = CollectorRegistry()  # what is the same in every process
        self._own.register(_ModelProcesses(restarts))
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
            "gateway_attempts",
            "Attempts at deployments, by what became of them.",
            ["deployment", "outcome"],
            registry=registry,
        )
        self._tokens = Counter(
            "gateway_tokens", "Tokens as upstreams counted them.", ["alias", "kind"], registry=registry
        )
        self._transitions = Counter(
            "gateway_breaker_transitions",
            "Changes of a deployment's state, by the new state.",
            ["deployment", "state"],
            registry=registry,
        )
        self._states = Gauge(
            "gateway_deployment_state",
            "0 closed, 1 half open, 2 open, 3 resting; of several workers the worst.",
            ["deployment", "endpoint"],
            multiprocess_mode="livemax",
            registry=registry,
        )
        self._keys_disabled = Counter(
            "gateway_key_disabled",
            "Times that an upstream's key was refused and rests.",
            ["deployment"],
            registry=registry,
        )
        self._spent_budget = Counter(
            "gateway_retry_budget_exhausted",
            "Attempts not made, because the retry budget was spent on deployments that fail.",
            registry=registry,
        )
        self._no_deployment = Counter(
            "gateway_no_deployment",
            "Requests refused because every deployment was resting.",
            ["alias"],
            registry=registry,
        )
        self._disconnects = Counter(
            "gateway_client_disconnect",
            "Callers that left before the end of their answer: in their own body, before the first event, or after it.",
            ["phase"],
            registry=registry,
        )
        self._windows = WindowCounts(registry)
        self._slow_clients = Counter(
            "gateway_slow_client", "Callers that were cut because they read nothing of their answer.", registry=registry
        )
        self._flaws: dict[Flaw, Counter] = {
            "missing_done": Counter(
                "gateway_stream_missing_done",
                "Streams that were finished but for the [DONE] that the gateway added.",
                ["deployment"],
                registry=registry,
            ),
            "invalid_usage": Counter(
                "gateway_usage_invalid", "Answers whose usage could not be read.", ["deployment"], registry=registry
            ),
        }
        self._in_flight = Gauge(
            "gateway_in_flight_requests", "Requests being answered.", multiprocess_mode="livesum", registry=registry
        )
        self._running = 0
        self.cache = CacheMetrics(registry)
        self.loop = LoopLag(registry)
        self._tallies = Tallies()
        self._requests_series: dict[tuple[str, str, int], tuple[Tally, Spread, Spread]] = {}
        self._attempt_series: dict[tuple[str, str], tuple[Tally, Spread]] = {}
        self._first_event_series: dict[str, Spread] = {}
        self._token_series: dict[str, tuple[Tally, Tally, Tally]] = {}

    def begin(self) -> None:
        """Count one request as being answered."""
        self._running += 1

    def end(self) -> None:
        """Count one request as answered; it may be observed later."""
        self._running -= 1

    def note_state(self, deployment: str, state: str, reason: str) -> None:
        """Count that a deployment, named by its label, is in another state now."""
        self._transitions.labels(deployment, state).inc()
        if state == "resting" and reason == UpstreamAuthFailed.code:
            self._keys_disabled.labels(deployment).inc()

    def set_states(self, states: Iterable[tuple[str, str, str]]) -> None:
        """Show the state of each deployment (by its label) at each endpoint; to be called about once a second."""
        for deployment, endpoint, state in states:
            self._states.labels(deployment, endpoint).set(_STATES.index(state))

    def count_spent_budget(self) -> None:
        """Count an attempt that was not made, to spare upstreams that fail."""
        self._spent_budget.inc()

    def count_slow_client(self) -> None:
        """Count a caller that was cut because it read nothing of its answer."""
        self._slow_clients.inc()

    def publish(self) -> None:
        """Put figures that are kept as plain numbers where the page finds them; to be called about once a second."""
        self.settle()
        self._in_flight.set(self._running)

    def settle(self) -> None:
        """Bring the figures up to what was observed."""
        self._tallies.settle()
        self.cache.settle()
        self.loop.settle()

    def observe(self, record: Record, status: int, ended: float) -> None:
        """Take note of one finished request; `ended` is on the clock of `record.started`, in seconds."""
        key = (record.endpoint, record.alias, status)
        requests, durations, overheads = self._requests_series.get(key) or self._bind_request(key)
        duration = ended - record.started
        requests.add()
        durations.observe(duration)
        if status == CLIENT_GONE or record.truncated_tokens or record.is_counted:
            self._count_rarities(record, status)
        if record.usage is not None:
            self._count_tokens(record.alias, record.usage)
        if not record.attempts:
            if record.error == NoDeployment.code:
                self._no_deployment.labels(record.alias).inc()
            return
        for attempt in record.attempts:
            took = attempt.ended - attempt.started
            attempts, times = self._attempt_series.get((attempt.label, attempt.outcome)) or self._bind_attempt(attempt)
            attempts.add()
            times.observe(took)
        sending = ended - record.sent_from if record.sent_from else 0.0  # as long as the caller took to read
        overheads.observe(max(0.0, duration - record.upstream_seconds - sending))
        if record.first_event:
            first_events = self._first_event_series.get(record.alias) or self._bind_first_event(record.alias)
            first_events.observe(record.first_event - record.started)
        for flaw in record.flaws:
            self._flaws[flaw].labels(record.attempts[-1].label).inc()

    def _count_rarities(self, record: Record, status: int) -> None:
        if status == CLIENT_GONE:
            self._disconnects.labels(_phase(record)).inc()
        self._windows.observe(record)

    def _count_tokens(self, alias: str, usage: Usage) -> None:
        prompt, completion, cached = self._token_series.get(alias) or self._bind_tokens(alias)
        prompt.add(usage.prompt_tokens)
        if usage.completion_tokens:
            completion.add(usage.completion_tokens)
        if usage.cached_tokens:
            cached.add(usage.cached_tokens)

    # The library's own look-up of a series by its labels costs as much as the update, so each is looked up once.

    def _bind_request(self, key: tuple[str, str, int]) -> tuple[Tally, Spread, Spread]:
        endpoint, alias, status = key
        tallies = self._tallies
        series = self._requests_series[key] = (
            tallies.counter(self._requests.labels(endpoint, alias, str(status))),
            tallies.histogram(self._duration.labels(endpoint)),
            tallies.histogram(self._overhead.labels(endpoint)),
        )
        return series

    def _bind_attempt(self, attempt: Attempt) -> tuple[Tally, Spread]:
        series = self._attempt_series[(attempt.label, attempt.outcome)] = (
            self._tallies.counter(self._attempts.labels(attempt.label, attempt.outcome)),
            self._tallies.histogram(self._upstream.labels(attempt.label)),
        )
        return series

    def _bind_first_event(self, alias: str) -> Spread:
        series = self._first_event_series[alias] = self._tallies.histogram(self._first_event.labels(alias))
        return series

    def _bind_tokens(self, alias: str) -> tuple[Tally, Tally, Tally]:
        tallies = self._tallies
        series = self._token_series[alias] = (
            tallies.counter(self._tokens.labels(alias, "prompt")),
            tallies.counter(self._tokens.labels(alias, "completion")),
            tallies.counter(self._tokens.labels(alias, "cached")),
        )
        return series

    def render(self) -> bytes:
        """Return the page in Prometheus's text format, added up over all worker processes."""
        self.publish()
        directory = os.environ.get(DIRECTORY_VARIABLE)
        whole = self._registry
        if directory:
            whole = CollectorRegistry()
            MultiProcessCollector(whole, path=directory)  # type: ignore[no-untyped-call]  # the library leaves it untyped
        return generate_latest(whole) + generate_latest(self._own)


def _phase(record: Record) -> str:
    if not record.model:
        return "body"
    return "answer" if record.first_event or record.sent_from else "waiting"


def forget_process(directory: Path, pid: int) -> None:
    """Drop the gauges of a worker process that died; its counters stay, because what it did was done."""
    mark_process_dead(pid, str(directory))  # type: ignore[no-untyped-call]  # the library leaves it untyped
