"""Retries at deployments that fail stay within a tenth of the calls, and three."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.budget import RetryBudget


def test_rare_failures_find_three_attempts_at_the_start() -> None:
    budget = RetryBudget(0.1)
    allowed = 0

    while not budget.is_spent:
        budget.charge()
        allowed += 1

    assert allowed == 3


@given(st.lists(st.booleans(), max_size=400))
def test_what_is_wasted_never_exceeds_a_tenth_of_the_calls_and_three(wishes: list[bool]) -> None:
    budget = RetryBudget(0.1)
    calls = wasted = 0

    for wants_more in wishes:
        budget.add_call()
        calls += 1
        if wants_more and not budget.is_spent:
            budget.charge()
            wasted += 1

    assert wasted <= 0.1 * calls + 3


def test_a_budget_of_nothing_allows_nothing() -> None:
    budget = RetryBudget(0.0)
    budget.add_call()

    assert budget.is_spent
