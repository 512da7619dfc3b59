"""What is gathered and settled reads like what the library counts one by one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from gateway.tallies import Tallies

BUCKETS = (0.5, 1, 10)
amounts = st.floats(0, 20) | st.sampled_from([0.0, *map(float, BUCKETS)])


def page(registry: CollectorRegistry) -> list[bytes]:
    return [line for line in generate_latest(registry).splitlines() if b"_created" not in line]


@given(st.lists(st.lists(amounts, max_size=5), max_size=4))
def test_a_histogram_reads_as_if_each_amount_had_been_observed_by_itself(batches: list[list[float]]) -> None:
    expected, gathered = CollectorRegistry(), CollectorRegistry()
    one_by_one = Histogram("seconds", "S.", ["who"], buckets=BUCKETS, registry=expected).labels("a")
    tallies = Tallies()
    spread = tallies.histogram(Histogram("seconds", "S.", ["who"], buckets=BUCKETS, registry=gathered).labels("a"))

    for batch in batches:
        for amount in batch:
            spread.observe(amount)
            one_by_one.observe(amount)
        tallies.settle()

    assert [line for line in page(gathered) if b"_sum" not in line] == [
        line for line in page(expected) if b"_sum" not in line
    ]
    sums = [float(line.split()[-1]) for found in (gathered, expected) for line in page(found) if b"_sum" in line]
    assert abs(sums[0] - sums[1]) < 1e-9


def test_a_counter_shows_what_was_added_before_the_last_settling() -> None:
    registry = CollectorRegistry()
    counter = Counter("things", "T.", registry=registry)
    tallies = Tallies()
    first, second = tallies.counter(counter), tallies.counter(counter)

    first.add()
    first.add(2)
    second.add(4)
    before = registry.get_sample_value("things_total")
    tallies.settle()
    tallies.settle()

    assert (before, registry.get_sample_value("things_total")) == (0, 7)
