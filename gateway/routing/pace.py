"""How fast a deployment answers: one moving average, and whether it is far slower than it used to be.

Pure arithmetic over samples; who is asked because of it is decided in `order.py`.
"""

from __future__ import annotations

NEWEST_WEIGHT = 0.3  # of the newest sample in the average
_USUAL_WEIGHT, _USUAL_WEIGHT_OF_SLOW = 0.03, 0.003
_FEWEST_SAMPLES = 10
_SLOW_IN_A_ROW = 8  # a caller with long prompts is slow now and then; an upstream that is, is so for everybody
_TIMES_SLOWER, _SECONDS_SLOWER = 4.0, 1.0
LOOK_AGAIN_SECONDS = 5.0
STALE_SECONDS = 30.0


class Pace:
    """The seconds that answers take to begin; `now` is on one monotonic clock."""

    __slots__ = ("_look_again", "_sampled", "_samples", "_slow_in_a_row", "_usual", "average", "is_slow")

    def __init__(self) -> None:
        self.average = 0.0
        self._usual = 0.0
        self._samples = 0
        self._sampled = 0.0
        self._slow_in_a_row = 0
        self._look_again = 0.0
        self.is_slow = False

    def note(self, seconds: float, now: float) -> None:
        """Take one sample."""
        self._sampled = now
        if self._samples == 0:
            self.average = self._usual = seconds
        self._samples += 1
        weight = _USUAL_WEIGHT_OF_SLOW  # what stays slow becomes the usual in the end, so that nobody is out for ever
        if seconds <= _TIMES_SLOWER * self._usual + _SECONDS_SLOWER:
            weight = _USUAL_WEIGHT
            self._slow_in_a_row = 0
            if self.is_slow:  # one good answer is enough to come back
                self.is_slow, self.average = False, seconds
        else:
            self._slow_in_a_row += 1
            if self._slow_in_a_row >= _SLOW_IN_A_ROW and self._samples >= _FEWEST_SAMPLES and not self.is_slow:
                self.is_slow = True
                self._look_again = now + LOOK_AGAIN_SECONDS
        self._usual += weight * (seconds - self._usual)
        self.average += NEWEST_WEIGHT * (seconds - self.average)

    def is_known(self, now: float) -> bool:
        """Tell whether there is a sample of the last half minute."""
        return self._samples > 0 and now - self._sampled < STALE_SECONDS

    def is_shunned(self, now: float) -> bool:
        """Tell whether others should be asked first; every few seconds one caller is let through to look again."""
        if not self.is_slow:
            return False
        if now >= self._look_again:
            self._look_again = now + LOOK_AGAIN_SECONDS
            return False
        return True
