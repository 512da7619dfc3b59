from __future__ import annotations

import json
from io import StringIO

import pytest
from rich.console import Console

from bench.measures import Comparison, Series
from bench.ratios import Spread
from bench.report import TOO_BUSY, UNSURE, Row, busy_remark, cpu_row, document, is_within, show, table


def row(ratio: float, bound: float | None, *, is_floor: bool = False) -> Row:
    interval = Spread(ratio, ratio - 0.01, ratio + 0.01)
    return Row("chat", "cpu µs", 100.0, 100.0 * ratio, interval, bound, is_floor=is_floor)


def comparison(raw: list[float], gateway: list[float], waiting: list[float]) -> Comparison:
    calm = [0.0] * len(raw)
    return Comparison(
        {"raw": Series(list(raw), calm, calm), "gateway": Series(list(gateway), calm, list(waiting))}, wanted=len(raw)
    )


def printed(rows: list[Row]) -> str:
    out = StringIO()
    show([table(rows, title="title")], ["remark", ""], Console(file=out, width=160))
    return out.getvalue()


def test_a_cpu_row_gives_microseconds_and_the_median_ratio() -> None:
    found = cpu_row("chat", comparison([1e-4, 2e-4, 1e-4], [1.2e-4, 2.6e-4, 1.2e-4], [0, 0, 0]), bound=1.35)

    assert (found.measure, found.unit, found.bound) == ("chat", "cpu µs", 1.35)
    assert found.raw == pytest.approx(100)
    assert found.value == pytest.approx(120)
    assert found.ratio is not None
    assert found.ratio.median == pytest.approx(1.2)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (row(1.3, 1.35), True),
        (row(1.4, 1.35), False),
        (row(1.4, None), None),
        (row(1.9, 1.8, is_floor=True), True),
        (row(1.7, 1.8, is_floor=True), False),
        (Row("memory", "MB", 40.0, 80.0, bound=90.0, bounded="value"), True),
        (Row("memory", "MB", 40.0, 95.0, bound=90.0, bounded="value"), False),
        (Row("memory", "MB", 40.0, None, bound=90.0, bounded="value"), None),
    ],
)
def test_a_row_knows_whether_its_bound_holds(found: Row, expected: bool | None) -> None:
    assert found.is_within is expected


def test_one_exceeded_bound_is_enough() -> None:
    assert is_within([row(1.3, 1.35), row(9.0, None)])
    assert not is_within([row(1.3, 1.35), row(1.4, 1.35)])


def test_the_table_shows_figures_bound_and_verdict() -> None:
    text = printed([row(1.3, 1.35), row(1.5, 1.35)])

    assert "1.30 (1.29–1.31)" in text
    assert "≤ 1.35" in text
    assert "yes" in text
    assert "NO" in text
    assert "remark" in text


def test_the_table_says_when_the_interval_spans_the_bound() -> None:
    assert UNSURE in printed([row(1.345, 1.35)])
    assert UNSURE not in printed([row(1.2, 1.35)])


def test_only_a_busy_machine_is_remarked_on() -> None:
    assert busy_remark(0.1) == ""
    assert "4.1" in busy_remark(4.1)


def test_the_document_is_json_with_every_turn() -> None:
    found = json.loads(json.dumps(document([row(1.5, 1.35)], {"chat": {"raw": [1e-4]}}, 12.34)))

    assert found["is_within"] is False
    assert found["rows"][0]["ratio"]["median"] == 1.5
    assert found["turns"] == {"chat": {"raw": [1e-4]}}
    assert found["seconds"] == 12.3


def test_turns_in_which_a_system_waited_for_its_core_do_not_count() -> None:
    found = cpu_row("chat", comparison([1.0, 1.0, 1.0], [1.4, 1.4, 1.0], [0.0, 0.01, 0.4]), bound=1.35)

    assert found.ratio is not None
    assert found.ratio.median == pytest.approx(1.4)
    assert found.is_within is False
    assert "2 of 3 turns calm" in found.note


def test_a_machine_too_busy_to_tell_gives_no_verdict_and_does_not_pass() -> None:
    found = cpu_row("chat", comparison([1.0] * 4, [1.1] * 4, [0.0, 0.3, 0.3, 0.3]), bound=1.35)

    assert found.is_within is None
    assert found.is_undecided
    assert not is_within([found])
    assert TOO_BUSY in printed([found])


def test_a_busy_row_without_a_bound_fails_nothing() -> None:
    assert is_within([cpu_row("embedding", comparison([1.0], [2.0], [0.9]))])
