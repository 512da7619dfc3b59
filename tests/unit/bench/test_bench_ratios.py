from __future__ import annotations

import pytest

from bench.ratios import ratios, slope, spread, turn


def test_ratios_are_taken_turn_by_turn() -> None:
    found = ratios([3.0, 8.0], [2.0, 4.0])

    assert found == [1.5, 2.0]


def test_ratios_of_unequal_turns_are_refused() -> None:
    with pytest.raises(ValueError):
        ratios([1.0], [1.0, 2.0])


def test_a_burst_of_noise_does_not_move_the_median() -> None:
    found = spread([1.2] * 30 + [9.0] * 8)

    assert found.median == 1.2
    assert found.high == 1.2


def test_the_interval_is_that_of_order_statistics() -> None:
    found = spread([float(number) for number in range(100)])

    assert (found.low, found.median, found.high) == (40.0, 49.5, 60.0)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([2.0], (2.0, 2.0, 2.0)), ([1.0, 3.0], (1.0, 2.0, 3.0)), ([3.0, 1.0, 2.0], (1.0, 2.0, 3.0))],
)
def test_few_values_span_their_whole_interval(values: list[float], expected: tuple[float, float, float]) -> None:
    found = spread(values)

    assert (found.low, found.median, found.high) == expected


def test_no_values_have_no_median() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        spread([])


def test_every_other_turn_goes_backwards() -> None:
    found = [turn("ab", number) for number in range(3)]

    assert found == [["a", "b"], ["b", "a"], ["a", "b"]]


def test_the_slope_is_that_of_the_line() -> None:
    assert slope([(0, 1), (1, 3), (2, 5)]) == pytest.approx(2)


def test_one_point_has_no_slope() -> None:
    assert slope([(1, 1)]) == 0.0
