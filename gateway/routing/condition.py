"""The health of one deployment: a circuit breaker, the rests it asked for, what it is doing, how fast it is.

A state machine without tasks and timers: it is asked and told, and looks at the clock when it is. Which error means
what is decided in `health.py`.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Literal

from gateway.routing.pace import Pace

# `closed` is well; `half_open` lets one caller find out whether it is again; `resting` was asked for or is our own mistake.
State = Literal["closed", "open", "half_open", "resting"]

_WINDOW = 20
_FULL = (1 << _WINDOW) - 1
OPENS_AFTER_OF_WINDOW = 10
FORGET_SECONDS = 30.0  # a failure older than this says nothing about now
PROBE_SECONDS = 10.0  # a probe that says nothing for so long is not waited for alone: one more call finds out
# Where failures came fast, a probe that outlives them by far may be a good sign: another follows sooner.
_FAST_SECONDS, _OUTLIVES_TIMES, _OUTLIVES_SECONDS = 1.0, 4.0, 0.5
_OTHERS_SECONDS = 60.0  # a caller that was seen so lately may be left to find out
_PRECEDENCE_SECONDS = 2.0  # how much longer, at most, it is left to others
_NEVER = float("-inf")


class Condition:
    """What is known of one deployment now; `now` and moments are seconds on one monotonic clock."""

    __slots__ = (
        "_blamed",
        "_blamed_at",
        "_failed",
        "_failed_within",
        "_opened",
        "_opens_after",
        "_other_well",
        "_others_seen",
        "_outcomes",
        "_probes",
        "_probing_since",
        "_rested",
        "_shut_until",
        "_shuts",
        "_troubled",
        "_well_at",
        "_well_by",
        "account",
        "failures",
        "in_flight",
        "is_open",
        "is_spotless",
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

    def __init__(self, label: str, account: Hashable, opens_after: int) -> None:
        self.label = label
        self.account = account
        self.in_flight = 0
        self.is_spotless = True  # nothing bad is remembered: the usual road needs no more than this
        self.failures = 0  # since the last good answer
        self.is_open = False
        self.openings = 0  # since it was last well, without those by which one caller only repeats itself
        self.wake = 0.0  # when an open breaker lets somebody try
        self.rest_until = 0.0
        self.rests = 0  # since the last good answer
        self.reason = ""
        self.shown: State = "closed"
        self.plain_pace, self.stream_pace = Pace(), Pace()
        self._opens_after = opens_after
        self._outcomes = 0  # the last 20, newest lowest, 1 for a failure
        self._troubled = _NEVER  # when it last failed or asked for a rest, if it did not answer since
        self._failed_within = 0.0  # how long the last failure took to show
        self._failed = self._opened = self._rested = _NEVER
        self._probes = 0  # calls that are finding out now
        self._probing_since = _NEVER  # when the first of them began
        self._blamed = ""  # the caller whose call last opened the breaker or met with an overload
        self._blamed_at = _NEVER
        self._others_seen = _NEVER  # when a caller that is not blamed was last seen while something bad was remembered
        self._well_by = ""  # whose call was answered last
        self._well_at = self._other_well = _NEVER  # when it was, and when somebody else's was
        self._shut_until, self._shuts = 0.0, 0  # of the blamed caller alone, and how often in a row

    def state(self, now: float) -> State:
        if now < self.rest_until:
            return "resting"
        if not self.is_open:
            return "closed"
        return "half_open" if now >= self.wake else "open"

    def look_over(self, now: float) -> None:
        """Find out whether anything bad is still remembered."""
        is_well = self.shown == "closed" and self.state(now) == "closed" and now >= self._shut_until
        self.is_spotless = is_well and not (self.failures or self._outcomes or self.rests)

    def note_well(self, caller: str, now: float) -> None:
        """Take note that a call of `caller` was answered: on the usual road, so there is no more to it."""
        if caller != self._well_by:
            self._other_well, self._well_by = self._well_at, caller
        self._well_at = now

    def may_ask(self, now: float, caller: str = "", *, alone: bool = False) -> bool:
        """Tell whether a call of `caller` may go to it: while it is half open one, and slowly more if that is silent.

        Where it is `alone`, so that there is nobody else to ask, all may once the first has outlived the failures.
        """
        if caller != self._blamed:
            self._others_seen = now
        elif now < self._shut_until:
            return False
        if now < self.rest_until:
            return False
        if not self.is_open:
            return True
        if now < self._wakes_for(caller, now):
            return False
        is_outlived = self._probes and now - self._probing_since >= self._probe_seconds
        return bool(alone and is_outlived) or self._probes < self._most_probes(now)

    def _wakes_for(self, caller: str, now: float) -> float:
        """Return when the breaker lets `caller` try: others before the one whose requests may be what fails."""
        if caller == self._blamed and now - self._others_seen < _OTHERS_SECONDS:
            return self.wake + min(self.wake - self._opened, _PRECEDENCE_SECONDS)
        return self.wake

    def give_precedence(self, now: float) -> None:
        """Let others come before the blamed caller when the rest is over, if there are any."""
        if now - self._others_seen < _OTHERS_SECONDS:
            self._shut_until = self.rest_until + min(self.rest_until - now, _PRECEDENCE_SECONDS)

    def _are_others_well(self, now: float) -> bool:
        """Tell whether a caller that is not blamed was answered lately."""
        at = self._well_at if self._well_by != self._blamed else self._other_well
        return now - at < _OTHERS_SECONDS

    def _most_probes(self, now: float) -> int:
        """Return how many calls may be finding out at once: each further one waits twice as long as the one before."""
        if not self._probes:
            return 1
        return 1 + int(math.log2(1.0 + (now - self._probing_since) / self._probe_seconds))

    @property
    def _probe_seconds(self) -> float:
        if self._failed_within < _FAST_SECONDS:
            return _OUTLIVES_TIMES * self._failed_within + _OUTLIVES_SECONDS
        return PROBE_SECONDS

    def is_doubtful(self, now: float) -> bool:
        """Tell whether the last that was heard of it lately was bad."""
        return now - self._troubled < FORGET_SECONDS

    def wait_seconds(self, now: float, caller: str | None = None) -> float:
        """Return how long it certainly is not to be asked (by `caller`), 0.0 if it may be now or a probe is on its way."""
        wakes = 0.0
        if self.is_open:
            wakes = self.wake if caller is None else self._wakes_for(caller, now)
        if caller is not None and caller == self._blamed:
            wakes = max(wakes, self._shut_until)
        return max(0.0, self.rest_until - now, wakes - now)

    def begin(self, now: float) -> bool:
        """Count a call as being answered by it; return whether it is the probe of a half-open breaker."""
        self.in_flight += 1
        if self.is_open:
            if not self._probes:
                self._probing_since = now
            self._probes += 1
        return self.is_open

    def end(self, *, probed: bool) -> None:
        self.in_flight -= 1
        if probed:
            self.release_probe()

    def release_probe(self) -> None:
        """Let the next call find out, if there is still something to find out."""
        if self._probes:  # not one of before it opened again
            self._probes -= 1

    def succeed(self, began: float) -> None:
        """Take note that it answered a call begun then: whatever it said, it is alive.

        A call from before the breaker opened, or from before a rest, tells nothing of how it is now.
        """
        if self._outcomes:
            self._outcomes = (self._outcomes << 1) & _FULL
        if self.is_open:
            if began <= self._opened:
                return
            self.is_open, self.openings = False, 0
            self._outcomes = self._probes = 0
        self.failures = 0
        if began > self._rested:
            self.rests = 0
            self._troubled = _NEVER

    def fail(self, now: float, began: float) -> bool:
        """Take note that a call begun then failed; return whether the breaker is to open, or to stay so for longer."""
        self.is_spotless = False
        self._failed_within = now - began
        if began - self._failed > FORGET_SECONDS:  # not by its end: calls that hang for longer fail in a row too
            self.failures = self._outcomes = 0
        self._failed = self._troubled = now
        self.failures += 1
        self._outcomes = ((self._outcomes << 1) | 1) & _FULL
        if self.is_open:
            return began >= self.wake  # a call that was on its way when it opened tells nothing new
        return self.failures >= self._opens_after or self._outcomes.bit_count() >= OPENS_AFTER_OF_WINDOW

    def blames_alone(self, now: float, caller: str) -> bool:
        """Tell whether what `caller` is about to close to all is better shut for it alone.

        It did so lately already, and others were answered: then it is its requests that fail.
        """
        is_known = caller == self._blamed and not self.is_open and now - self._blamed_at < _OTHERS_SECONDS
        return is_known and self._are_others_well(now)

    def shut(self, now: float, seconds: float) -> None:
        """Keep the blamed caller out for so long, twice as long each time in a row, and count anew for all."""
        self._shuts = self._shuts + 1 if now - self._shut_until < FORGET_SECONDS else 0
        self._shut_until = now + min(FORGET_SECONDS, seconds * 2.0**self._shuts)
        self._blamed_at = now
        self.failures = self._outcomes = 0

    def blame(self, now: float, caller: str) -> None:
        """Count an opening by a call of `caller`.

        One that fails again while others are answered says the same once more: it does not make the rest longer for all.
        """
        is_news = caller != self._blamed or not self.openings
        if is_news or not self._are_others_well(now):
            self.openings += 1
        self.accuse(now, caller)

    def accuse(self, now: float, caller: str) -> None:
        """Remember whose call it was that made it rest."""
        if caller != self._blamed:
            self._blamed, self._others_seen = caller, self._blamed_at  # the one blamed before was there then
            self._shut_until, self._shuts = 0.0, 0
        self._blamed_at = now

    def open(self, now: float, seconds: float, reason: str) -> None:
        self.is_open, self.wake, self.reason = True, now + seconds, reason
        self._opened = now
        self._probes = 0

    def rest(self, now: float, seconds: float, reason: str) -> None:
        """Leave it alone at least for so long; a shorter rest does not cut a longer one."""
        self.is_spotless = False
        self._rested = self._troubled = now
        self.rests += 1
        if now + seconds > self.rest_until:
            self.rest_until, self.reason = now + seconds, reason
