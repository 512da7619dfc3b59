"""How inputs are divided into requests, and what each of them counts for."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from gateway.dispatch.flights import Flight
from gateway.dispatch.loads import Load, Part, divide, share_cut, share_tokens
from gateway.routing import Deployment, Route
from gateway.tokens import Piece
from tests.support.deployments import make_deployments

LENGTHS = st.lists(st.integers(1, 50), min_size=1, max_size=30)


def make_loads(lengths: list[int]) -> list[Load]:
    return [Load(Flight(b"", "x"), (Piece("x", length),)) for length in lengths]


def limit_to(deployment: Deployment, inputs: int | None, tokens: int | None) -> Deployment:
    return replace(deployment, max_batch_inputs=inputs, max_batch_tokens=tokens)


def make_part(lengths: list[int]) -> Part:
    return [(load, 0) for load in make_loads(lengths)]


@given(
    lengths=LENGTHS,
    most_inputs=st.one_of(st.none(), st.integers(1, 5)),
    most_tokens=st.one_of(st.none(), st.integers(1, 100)),
)
def test_parts_keep_the_order_and_the_limits_of_every_deployment(
    lengths: list[int], most_inputs: int | None, most_tokens: int | None
) -> None:
    first, second = make_deployments("a/m", "b/m")
    limited = (limit_to(first, most_inputs, None), limit_to(second, None, most_tokens))
    loads = make_loads(lengths)

    parts = list(divide(loads, Route("vectors", "vectors", "priority", limited)))

    assert [load for part in parts for load, _ in part] == loads
    for part in parts:
        assert most_inputs is None or len(part) <= most_inputs
        assert most_tokens is None or len(part) == 1 or sum(load.pieces[0].tokens for load, _ in part) <= most_tokens


@given(lengths=LENGTHS, tokens=st.integers(0, 2**40))
def test_shares_add_up(lengths: list[int], tokens: int) -> None:
    assert sum(share_tokens(make_part(lengths), tokens)) == tokens
    assert sum(share_cut(make_part(lengths), tokens, window=25)) == tokens


def test_only_what_may_be_over_the_window_was_cut() -> None:
    assert share_cut(make_part([10, 30, 60]), 15, window=20) == [0, 3, 12]
    assert share_cut(make_part([10, 10]), 5, window=20) == [3, 2]


def test_what_is_said_to_have_no_tokens_shares_all_the_same() -> None:
    assert share_tokens(make_part([0, 0]), 3) == [2, 1]
