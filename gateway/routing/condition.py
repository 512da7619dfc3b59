"""The health of one deployment: a circuit breaker, the rests it asked for, what it is doing, how fast it is.

A state machine without tasks and timers: it is asked and told, and looks at the clock when it is. Which error means
what is decided in `health.py`.
"""

from __future__ import annotations

from typing import Literal

from gateway.routing.pace import Pace

# `closed` is well; `half_open` lets one caller find out whether it is again; `resting` was asked for or is our own mistake.
State = Literal["closed", "open", "half_open", "resting"]

_WINDOW = 20
_FULL = (1 << _WINDOW) - 1
OPENS_AFTER_OF_WINDOW = 10
FORGET_SECONDS = 30.0  # a failure older than this says nothing about now


class Condition:
    """What is known of one deployment now; `now` and moments are seconds on one monotonic clock."""

    __slots__ = (
        "_failed_at",
        "_opens_after",
        "_outcomes",
        "_probing",
        "failures",
        "in_flight",
        "is_open",
        "label",
        "openings",
        "plain_pace",
        "reason",
        "rest_until",
        "rests",
        "shown",
        "stream_pace",
        "wake",
    )

    def __init__(self, label: str, opens_after: int) -> None:
        self.label = label
        self.in_flight = 0
        self.failures = 0  # since the last good answer
        self.is_open = False
        self.openings = 0  # since it was last well
        self.wake = 0.0  # when an open breaker lets somebody try
        self.rest_until = 0.0
        self.rests = 0  # since the last good answer
        self.reason = ""
        self.shown: State = "closed"
        self.plain_pace, self.stream_pace = Pace(), Pace()
        self._opens_after = opens_after
        self._outcomes = 0  # the last 20, newest lowest, 1 for a failure
        self._failed_at = 0.0
        self._probing = False

    def state(self, now: float) -> State:
        if now < self.rest_until:
            return "resting"
        if not self.is_open:
            return "closed"
        return "half_open" if now >= self.wake else "open"

    def may_ask(self, now: float) -> bool:
        """Tell whether a call may go to it: while it is half open one at a time."""
        if now < self.rest_until:
            return False
        return not self.is_open or (now >= self.wake and not self._probing)

    def wait_seconds(self, now: float) -> float:
        """Return how long it certainly is not to be asked, 0.0 if it may be now or a probe is on its way."""
        return max(0.0, self.rest_until - now, self.wake - now if self.is_open else 0.0)

    def begin(self) -> bool:
        """Count a call as being answered by it; return whether it is the probe of a half-open breaker."""
        self.in_flight += 1
        if self.is_open and not self._probing:
            self._probing = True
            return True
        return False

    def end(self, *, probed: bool) -> None:
        self.in_flight -= 1
        if probed:
            self.release_probe()

    def release_probe(self) -> None:
        """Let the next call find out, if there is still something to find out."""
        self._probing = False

    def succeed(self) -> None:
        """Take note that it answered: whatever it said, it is alive."""
        self.failures = 0
        if self._outcomes:
            self._outcomes = (self._outcomes << 1) & _FULL
        if self.is_open or self.rests:
            self.is_open, self.openings, self.rests = False, 0, 0
            self._outcomes = 0

    def fail(self, now: float) -> bool:
        """Take note of a failure; return whether the breaker is to open, or to stay so for longer."""
        if now - self._failed_at > FORGET_SECONDS:
            self.failures = self._outcomes = 0
        self._failed_at = now
        self.failures += 1
        self._outcomes = ((self._outcomes << 1) | 1) & _FULL
        if self.is_open:
            return now >= self.wake  # a call that was on its way when it opened tells nothing new
        return self.failures >= self._opens_after or self._outcomes.bit_count() >= OPENS_AFTER_OF_WINDOW

    def open(self, until: float, reason: str) -> None:
        self.is_open, self.wake, self.reason = True, until, reason
        self.openings += 1

    def rest(self, until: float, reason: str) -> None:
        """Leave it alone at least until then; a shorter rest does not cut a longer one."""
        if until > self.rest_until:
            self.rest_until, self.reason = until, reason
