"""What deployments turned out to take, against what is known of them: remembered for a while, and within bounds.

One request that an upstream judged oddly, or a sentence that only quoted its caller, must not have everybody's requests
cut for good. How a request is fitted is decided in `windows.py`, how a sentence is read in `limits.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateway.routing.limits import ToldLimit

FORGET_SECONDS = 600.0  # then one request is refused and sent once more, and it is learnt again if it still holds
_LEAST_TOKENS = 512  # no model for chats takes less
_LEAST_SHARE = 16  # of the window that is known, as its divisor; who told of less is asked again each time
_MOST_RATIO = 2.0
_MOST_DEPLOYMENTS = 1000  # callers may spell out models, and so make up deployments


@dataclass(slots=True)
class Learnt:
    """What a deployment turned out to take; `ratio` is how many tokens it sees for one that is counted here."""

    until: float
    window: int | None = None
    most_input: int | None = None
    ratio: float = 1.0


class Corrections:
    """Remembers what deployments told; `clock` tells seconds that never run back."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._learnt: dict[str, Learnt] = {}

    def of(self, deployment: str) -> Learnt | None:
        """Return what is remembered of a deployment."""
        learnt = self._learnt.get(deployment)
        if learnt is not None and learnt.until <= self._clock():
            del self._learnt[deployment]
            return None
        return learnt

    def note(self, deployment: str, told: ToldLimit, ratio: float, known: int | None) -> None:
        """Remember what a deployment told, whose window was taken to be the `known` one, unless it cannot be.

        What is learnt later does not prolong what was learnt before: all of it is forgotten together.
        """
        least = max(_LEAST_TOKENS, (known or 0) // _LEAST_SHARE)
        window, most_input = (limit if (limit or 0) >= least else None for limit in (told.window, told.most_input))
        if window is None and most_input is None:
            return
        learnt = self.of(deployment)
        if learnt is None:
            if len(self._learnt) >= _MOST_DEPLOYMENTS:
                self._learnt.pop(next(iter(self._learnt)))  # the one that was learnt longest ago
            learnt = self._learnt[deployment] = Learnt(self._clock() + FORGET_SECONDS)
        learnt.window = smallest(learnt.window, window)
        learnt.most_input = smallest(learnt.most_input, most_input)
        learnt.ratio = max(learnt.ratio, min(ratio, _MOST_RATIO))


def smallest(*limits: int | None) -> int | None:
    """Return the smallest of the limits that are known, None where none is."""
    return min((limit for limit in limits if limit is not None), default=None)
