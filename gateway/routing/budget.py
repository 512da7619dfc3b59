"""How many attempts may be wasted on deployments that just failed, so that an outage is not multiplied by retries."""

from __future__ import annotations

FLOOR = 3.0  # attempts that are there from the start, so that rare failures never find the budget empty
CAP = 100.0


class RetryBudget:
    """Every call adds `ratio` of an attempt; every further attempt that fails takes one."""

    __slots__ = ("_balance", "_ratio")

    def __init__(self, ratio: float) -> None:
        self._ratio = ratio
        self._balance = FLOOR if ratio else 0.0

    @property
    def is_spent(self) -> bool:
        return self._balance < 1.0

    def add_call(self) -> None:
        if self._balance < CAP:
            self._balance += self._ratio

    def charge(self) -> None:
        """Take one attempt; never below nothing, so that the end of an outage is noticed soon."""
        self._balance = max(0.0, self._balance - 1.0)
