"""The tiers' figures are right, with one process and with several."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gateway.cache import Counts, TierState
from gateway.metrics_cache import CacheMetrics


def read(page: str) -> dict[tuple[str, ...], float]:
    """Return every sample by its name and its labels' values in the alphabet's order."""
    return {
        (sample.name.removeprefix("gateway_"), *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def page_of(registry: CollectorRegistry) -> dict[tuple[str, ...], float]:
    return read(generate_latest(registry).decode())


def test_what_happens_in_the_tiers_is_counted() -> None:
    registry = CollectorRegistry()
    metrics = CacheMetrics(registry)
    counts: Counts = metrics

    counts.looked_up("memory", 60, 4)
    counts.looked_up("memory", 4, 0)
    counts.looked_up("disk", 0, 4)
    counts.evicted("memory", 3, "size")
    counts.evicted("disk", 2, "expired")
    counts.failed("redis", "read")
    counts.damaged("disk", "entry")
    before = page_of(registry)
    metrics.settle()

    assert before.get(("embedding_cache_lookups_total", "hit", "memory"), 0) == 0
    assert page_of(registry) == {
        ("embedding_cache_lookups_total", "hit", "memory"): 64,
        ("embedding_cache_lookups_total", "memory", "miss"): 4,
        ("embedding_cache_lookups_total", "disk", "miss"): 4,
        ("embedding_cache_evictions_total", "memory", "size"): 3,
        ("embedding_cache_evictions_total", "disk", "expired"): 2,
        ("embedding_cache_errors_total", "read", "redis"): 1,
        ("embedding_cache_damaged_total", "disk", "entry"): 1,
    }


def test_what_the_tiers_hold_is_shown_where_it_is_known() -> None:
    registry = CollectorRegistry()
    metrics = CacheMetrics(registry)

    metrics.show([TierState("memory", 5, 500), TierState("disk", 7, 700), TierState("redis", None, None)])

    assert page_of(registry) == {
        ("embedding_cache_entries", "memory"): 5,
        ("embedding_cache_bytes", "memory"): 500,
        ("embedding_cache_entries", "disk"): 7,
        ("embedding_cache_bytes", "disk"): 700,
    }


def test_redis_is_up_or_down_once_it_is_known_and_never_without_one() -> None:
    registry = CollectorRegistry()
    metrics = CacheMetrics(registry)
    counts: Counts = metrics

    counts.is_up("disk", up=True)
    without = page_of(registry)
    counts.is_up("redis", up=True)
    up = page_of(registry)
    counts.is_up("redis", up=False)

    assert without == {}
    assert up == {("redis_up",): 1}
    assert page_of(registry) == {("redis_up",): 0}


def test_a_thousand_look_ups_make_no_new_series() -> None:
    registry = CollectorRegistry()
    metrics = CacheMetrics(registry)

    for _ in range(1000):
        metrics.looked_up("memory", 1, 1)
    metrics.settle()

    assert page_of(registry) == {
        ("embedding_cache_lookups_total", "hit", "memory"): 1000,
        ("embedding_cache_lookups_total", "memory", "miss"): 1000,
    }


WORKER = """
import sys
from prometheus_client import CollectorRegistry
from gateway.cache import TierState
from gateway.metrics_cache import CacheMetrics

metrics = CacheMetrics(CollectorRegistry())
up = sys.argv[1] == "up"
for _ in range(2):  # about once a second
    metrics.looked_up("memory", 3, 1)
    metrics.is_up("redis", up=up)
    metrics.show([TierState("memory", 10, 1000), TierState("disk", 50, 9000)])
    metrics.settle()
    sys.stdout.write("ready\\n")
    sys.stdout.flush()
    sys.stdin.readline()
"""
PAGE = """
import sys
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

registry = CollectorRegistry()
MultiProcessCollector(registry, path=sys.argv[1])
sys.stdout.write(generate_latest(registry).decode())
"""


def test_the_page_adds_up_memory_and_shows_what_is_shared_once(tmp_path: Path) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    with ExitStack() as stack:
        workers = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", WORKER, word],
                    env=environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for word in ("up", "down", "up")
        ]
        for _ in range(2):
            for worker in workers:
                assert worker.stdout is not None
                assert worker.stdin is not None
                assert worker.stdout.readline() == "ready\n"
            if _ == 0:
                for worker in workers:
                    assert worker.stdin is not None
                    worker.stdin.write("\n")
                    worker.stdin.flush()

        text = subprocess.run(
            [sys.executable, "-c", PAGE, str(tmp_path)], env=environment, capture_output=True, text=True, check=True
        ).stdout

        for worker in workers:
            worker.communicate("\n")
    page = read(text)
    assert page["embedding_cache_lookups_total", "hit", "memory"] == 18
    assert page["embedding_cache_entries", "memory"] == 30
    assert page["embedding_cache_entries", "disk"] == 50
    assert page["embedding_cache_bytes", "disk"] == 9000
    assert page["redis_up",] == 0
