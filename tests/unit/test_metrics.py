"""Figures are right, their labels bounded, and one page adds up several processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.call import Attempt, Record, Usage
from gateway.metrics import Metrics


def read(page: bytes) -> dict[tuple[str, ...], float]:
    """Return every sample by its name and its label values in the alphabet's order, buckets left out."""
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
        if not sample.name.endswith("_bucket")
    }


def make_record(alias: str = "small", model: str = "any", **fields: Any) -> Record:
    return Record("req_1", 100.0, "/v1/chat/completions", alias=alias, model=model, **fields)


def make_attempt(seconds: float, outcome: str = "ok", label: str = "lab/tiny", began: float = 0.0) -> Attempt:
    return Attempt("lab/tiny", label, 100.0 + began, 100.0 + began + seconds, outcome)


def observe(metrics: Metrics, record: Record, status: int = 200, ended: float = 110.0) -> None:
    metrics.begin()
    metrics.end()
    metrics.observe(record, status, ended)


def test_a_request_counts_with_its_duration_overhead_and_tokens() -> None:
    metrics = Metrics()
    record = make_record(
        attempts=[make_attempt(2, "upstream_timeout"), make_attempt(7, began=2)], usage=Usage(9, 12, 4)
    )

    observe(metrics, record)

    page = read(metrics.render())
    assert page["gateway_requests_total", "/v1/chat/completions", "200", "small"] == 1
    assert page["gateway_request_duration_seconds_sum", "/v1/chat/completions"] == pytest.approx(10)
    assert page["gateway_overhead_duration_seconds_sum", "/v1/chat/completions"] == pytest.approx(1)
    assert page["gateway_attempts_total", "lab/tiny", "upstream_timeout"] == 1
    assert page["gateway_attempts_total", "lab/tiny", "ok"] == 1
    assert page["gateway_upstream_duration_seconds_sum", "lab/tiny"] == pytest.approx(9)
    assert page["gateway_tokens_total", "prompt", "small"] == 9
    assert page["gateway_tokens_total", "completion", "small"] == 12
    assert page["gateway_tokens_total", "cached", "small"] == 4


def test_attempts_at_one_time_are_no_overhead_twice() -> None:
    metrics = Metrics()

    observe(metrics, make_record(attempts=[make_attempt(6), make_attempt(4, began=1), make_attempt(2, began=5)]))

    page = read(metrics.render())
    assert page["gateway_overhead_duration_seconds_sum", "/v1/chat/completions"] == pytest.approx(3)


def test_a_stream_counts_its_first_event_and_its_waiting_as_the_upstreams() -> None:
    metrics = Metrics()

    observe(metrics, make_record(attempts=[make_attempt(2)], first_event=102.5, stream_seconds=7.0))

    page = read(metrics.render())
    assert page["gateway_first_event_seconds_sum", "small"] == pytest.approx(2.5)
    assert page["gateway_overhead_duration_seconds_sum", "/v1/chat/completions"] == pytest.approx(1)


def test_a_request_that_asked_nobody_has_no_overhead_and_no_attempts() -> None:
    metrics = Metrics()

    observe(metrics, make_record("other"), status=404)

    page = read(metrics.render())
    assert page["gateway_requests_total", "/v1/chat/completions", "404", "other"] == 1
    assert page.get(("gateway_overhead_duration_seconds_count", "/v1/chat/completions"), 0) == 0
    assert not [key for key in page if key[0].startswith(("gateway_attempts", "gateway_upstream"))]


def test_overhead_is_never_negative() -> None:
    metrics = Metrics()

    observe(metrics, make_record(attempts=[make_attempt(50)]))

    assert read(metrics.render())["gateway_overhead_duration_seconds_sum", "/v1/chat/completions"] == 0


def test_what_is_in_flight_goes_up_and_comes_back() -> None:
    metrics = Metrics()

    metrics.begin()
    metrics.begin()
    during = read(metrics.render())
    for _ in range(2):
        metrics.end()
    after = read(metrics.render())

    assert (during["gateway_in_flight_requests",], after["gateway_in_flight_requests",]) == (2, 0)


def test_a_thousand_requests_of_the_same_kind_make_no_new_series() -> None:
    metrics = Metrics()
    observe(metrics, make_record(attempts=[make_attempt(1)], usage=Usage(1, 1)))
    before = len(read(metrics.render()))

    for _ in range(1000):
        observe(metrics, make_record(attempts=[make_attempt(1)], usage=Usage(1, 1)))

    page = read(metrics.render())
    assert len(page) == before
    assert page["gateway_tokens_total", "prompt", "small"] == 1001


WORKER = """
import sys
from gateway.call import Attempt, Record, Usage
from gateway.metrics import Metrics

metrics = Metrics()
for _ in range(int(sys.argv[1])):
    attempt = Attempt("lab/tiny", "lab/tiny", 0.0, 2.0)
    metrics.observe(Record("r", 0.0, "/v1/x", alias="small", attempts=[attempt], usage=Usage(3, 4)), 200, 2.5)
metrics.begin()
metrics.publish()
sys.stdout.write("ready\\n")
sys.stdout.flush()
sys.stdin.readline()
sys.stdout.write(metrics.render().decode())
sys.stdout.flush()
sys.stdin.readline()
"""


def start(directory: Path, count: int) -> subprocess.Popen[str]:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(directory)}
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(count)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_the_page_of_one_worker_adds_up_all_of_them(tmp_path: Path) -> None:
    with start(tmp_path, 2) as first, start(tmp_path, 3) as second:
        assert first.stdin is not None
        assert first.stdout is not None
        assert second.stdout is not None
        assert (first.stdout.readline(), second.stdout.readline()) == ("ready\n", "ready\n")

        first.stdin.write("\n")
        first.stdin.close()
        page = read(first.stdout.read().encode())
        second.communicate("\n\n")

    assert page["gateway_requests_total", "/v1/x", "200", "small"] == 5
    assert page["gateway_tokens_total", "completion", "small"] == 20
    assert page["gateway_upstream_duration_seconds_sum", "lab/tiny"] == pytest.approx(10)
    assert page["gateway_in_flight_requests",] == 2


@pytest.mark.parametrize(
    ("record", "phase"),
    [
        (make_record(model=""), "body"),
        (make_record(), "waiting"),
        (make_record(attempts=[make_attempt(1, "cancelled")]), "waiting"),
        (make_record(attempts=[make_attempt(1)], first_event=101.0), "answer"),
    ],
    ids=["body", "waiting for others", "waiting", "answer"],
)
def test_a_caller_that_left_is_counted_by_when_it_did(record: Record, phase: str) -> None:
    metrics = Metrics()

    observe(metrics, record, status=499)

    assert read(metrics.render())["gateway_client_disconnect_total", phase] == 1


def test_requests_that_nobody_could_be_asked_for_are_counted_by_alias() -> None:
    metrics = Metrics()

    observe(metrics, make_record(error="no_healthy_deployment"), status=503)
    observe(metrics, make_record(error="server_shutting_down"), status=503)

    assert read(metrics.render())["gateway_no_deployment_total", "small"] == 1


def test_changes_of_a_deployments_state_and_spent_budgets_are_counted() -> None:
    metrics = Metrics()

    metrics.note_state("lab/tiny", "open", "upstream_error")
    metrics.note_state("lab/tiny", "open", "upstream_error")
    metrics.note_state("lab/tiny", "resting", "upstream_auth_failed")
    metrics.set_states([("lab/tiny", "embeddings", "open"), ("lab/tiny", "chat/completions", "closed")])
    metrics.count_spent_budget()

    page = read(metrics.render())
    assert page["gateway_breaker_transitions_total", "lab/tiny", "open"] == 2
    assert page["gateway_retry_budget_exhausted_total",] == 1
    assert page["gateway_key_disabled_total", "lab/tiny"] == 1
    assert page["gateway_deployment_state", "embeddings", "lab/tiny"] == 2
    assert page["gateway_deployment_state", "chat/completions", "lab/tiny"] == 0
