"""The small pure parts: accounting, cores, options, wrk's words, py-spy's samples."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench import options, wrk
from bench.accounting import Meter, busiest, clock_id, cpu_seconds, memory, pinned, snapshot, usable_cores
from bench.canned import CHAT
from bench.local import percentile
from bench.profiling import by_function, lines, scale
from bench.stage import Cores
from bench.systems import BenchError

SAMPLES = [
    "run (app.py:1);load (json.py:10) 3",
    "run (app.py:2);load (json.py:11) 1",
    "run (app.py:2) 4",
    "_bootstrap (threading.py:1);wait (log.py:2) 100",
]


def test_the_clock_of_a_process_is_composed_as_the_kernel_does() -> None:
    assert clock_id(1) == -14


def test_processor_time_only_grows() -> None:
    before = cpu_seconds(os.getpid())

    assert cpu_seconds(os.getpid()) >= before
    assert Meter(os.getpid()).read() >= before


def test_the_tree_of_this_process_holds_it() -> None:
    assert os.getpid() in snapshot(os.getpid())
    assert memory(os.getpid()).resident > 1_000_000


def test_the_workers_are_those_that_worked_most() -> None:
    assert busiest({10: 0.1, 11: 9.0, 12: 8.0}, 2) == [11, 12]


def test_pinning_ends_with_its_block() -> None:
    before = usable_cores()

    with pinned(before[:1]):
        inside = usable_cores()

    assert inside == before[:1]
    assert usable_cores() == before


@pytest.mark.parametrize(
    ("usable", "measured", "expected"),
    [
        ([0], 1, Cores((), ())),
        ([0, 1], 1, Cores((0,), (1,))),
        ([2, 3, 5, 7], 1, Cores((2,), (3, 5))),
        ([0, 1, 2, 3], 2, Cores((0, 1), (2, 3))),
        ([0, 1], 2, Cores((), ())),
    ],
)
def test_cores_are_divided_between_measured_and_rest(usable: list[int], measured: int, expected: Cores) -> None:
    assert Cores.divide(usable, measured) == expected


def test_soak_without_a_number_means_fifty_thousand() -> None:
    assert options.parse([]).soak == 0
    assert options.parse(["--soak"]).soak == 50_000
    assert options.parse(["--soak", "1000", "--json", "f"]).json == Path("f")


def test_wrk_is_told_to_send_the_same_request() -> None:
    text = wrk.script(CHAT)

    assert CHAT.body.decode() in text
    assert f"wrk.path = '{CHAT.path}'" in text


def test_wrks_summary_is_a_tally() -> None:
    tally = wrk.read('Running\n\n{"requests": 100, "microseconds": 2000000, "errors": 0}\n', CHAT)

    assert (tally.answered, tally.faults, tally.per_second) == (100, [], 50.0)


def test_wrks_errors_are_faults() -> None:
    assert wrk.read('{"requests": 100, "microseconds": 1, "errors": 3}', CHAT).faults


def test_wrk_that_says_nothing_is_an_error() -> None:
    with pytest.raises(BenchError, match="unable to connect"):
        wrk.read("unable to connect", CHAT)


def test_samples_are_counted_by_function_and_only_on_the_main_thread() -> None:
    found, total = by_function(SAMPLES)

    assert total == 8
    assert found == {"run (app.py": 8, "load (json.py": 4}


def test_samples_are_scaled_to_microseconds_per_request() -> None:
    assert scale(SAMPLES, 200.0) == {"run (app.py": 200.0, "load (json.py": 100.0}
    assert scale([], 200.0) == {}


def test_functions_are_listed_by_what_the_gateway_spends() -> None:
    found = lines({"a": 1.0}, {"a": 2.0, "b": 5.0})

    assert [line.split() for line in found[1:]] == [["0.0", "5.0", "+5.0", "b"], ["1.0", "2.0", "+1.0", "a"]]


def test_a_percentile_of_a_histogram_is_found_within_its_bucket() -> None:
    buckets = {0.001: 90.0, 0.002: 98.0, 0.004: 100.0, float("inf"): 100.0}

    assert percentile(buckets, 0.99) == pytest.approx(0.003)
    assert percentile(buckets, 0.5) == pytest.approx(0.001 * 50 / 90)
