"""One vector for a text that was embedded in parts."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.pooling import UNIT_TOLERANCE, pool

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


def packed(*numbers: float) -> bytes:
    return struct.pack(f"<{len(numbers)}f", *numbers)


def numbers_of(vector: bytes) -> tuple[float, ...]:
    return struct.unpack(f"<{len(vector) // 4}f", vector)


def unit(*numbers: float) -> bytes:
    length = math.hypot(*numbers)
    return packed(*(number / length for number in numbers))


@st.composite
def parts(draw: st.DrawFn) -> tuple[list[bytes], list[int]]:
    size = draw(st.integers(1, 8))
    rows = draw(st.lists(st.lists(FINITE, min_size=size, max_size=size), min_size=1, max_size=6))
    weights = draw(st.lists(st.integers(1, 10**7), min_size=len(rows), max_size=len(rows)))
    return [packed(*row) for row in rows], weights


@given(parts())
def test_the_mean_of_finite_vectors_lies_between_them(given_parts: tuple[list[bytes], list[int]]) -> None:
    vectors, weights = given_parts
    rows = [numbers_of(vector) for vector in vectors]
    all_unit = all(abs(math.sqrt(math.fsum(n * n for n in row)) - 1) <= UNIT_TOLERANCE for row in rows)

    pooled = numbers_of(pool(vectors, weights))

    assert all(map(math.isfinite, pooled))
    if not all_unit:
        for place, number in enumerate(pooled):
            column = [row[place] for row in rows]
            slack = 1e-6 * max(map(abs, column)) + 1e-44
            assert min(column) - slack <= number <= max(column) + slack


@given(st.lists(st.lists(st.floats(0.125, 1, width=32), min_size=3, max_size=3), min_size=2, max_size=6))
def test_unit_vectors_give_a_unit_vector(rows: list[list[float]]) -> None:
    vectors = [unit(*row) for row in rows]

    pooled = numbers_of(pool(vectors, range(1, len(rows) + 1)))

    assert math.hypot(*pooled) == pytest.approx(1.0, abs=1e-6)


def test_longer_parts_count_more() -> None:
    pooled = numbers_of(pool([packed(0.0, 4.0), packed(8.0, 0.0)], [3, 1]))

    assert pooled == (2.0, 3.0)


def test_opposite_unit_vectors_give_zero_and_not_nan() -> None:
    pooled = numbers_of(pool([packed(1.0, 0.0), packed(-1.0, 0.0)], [1, 1]))

    assert pooled == (0.0, 0.0)


def test_the_largest_numbers_do_not_run_over() -> None:
    largest = packed(3.4028234663852886e38)

    assert pool([largest] * 3, [10**9] * 3) == largest


def test_one_vector_is_kept_to_the_bit() -> None:
    almost_unit = packed(0.6, 0.8001)

    assert pool([almost_unit], [5]) == almost_unit


@pytest.mark.parametrize(
    ("vectors", "weights"),
    [([], []), ([packed(1.0)], [0]), ([packed(1.0)], [1, 2]), ([packed(1.0), packed(1.0, 2.0)], [1, 1])],
)
def test_what_cannot_be_pooled_is_an_error(vectors: list[bytes], weights: list[int]) -> None:
    with pytest.raises(ValueError, match="expected vectors"):
        pool(vectors, weights)
