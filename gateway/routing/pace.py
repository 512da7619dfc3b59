"""How fast a deployment answers: one moving average, and whether it is far slower than it used to be.

Pure arithmetic over samples; who is asked because of it is decided in `order.py`.
"""

from __future__ import annotations

NEWEST_WEIGHT = 0.3  # of the newest sample in the average: three slow answers are enough to show
_USUAL_WEIGHT = 0.03
_FEWEST_SAMPLES = 10
_TIMES_SLOWER, _SECONDS_SLOWER = 4.0, 1.0
LOOK_AGAIN_SECONDS = 5.0
HALF_LIFE_SECONDS = 30.0


class Pace:
    """The seconds that answers take to begin; `now` is on one monotonic clock."""

    __slots__ = ("_average", "_look_again", "_sampled", "_samples", "_usual", "is_slow")

    def __init__(self) -> None:
        self._average = 0.0
        self._usual = 0.0
        self._samples = 0
        self._sampled = 0.0
        self._look_again = 0.0
        self.is_slow = False

    def note(self, seconds: float, now: float) -> None:
        """Take one sample."""
        self._sampled = now
        if self._samples == 0:
            self._average = self._usual = seconds
        self._samples += 1
        if seconds <= self._bound:
            if self.is_slow:  # one good answer is enough to come back
                self.is_slow, self._average = False, seconds
            self._usual += _USUAL_WEIGHT * (seconds - self._usual)
        self._average += NEWEST_WEIGHT * (seconds - self._average)
        if self._samples >= _FEWEST_SAMPLES and self._average > self._bound and not self.is_slow:
            self.is_slow = True
            self._look_again = now + LOOK_AGAIN_SECONDS

    def expected(self, now: float) -> float:
        """Return how long an answer is likely to take; unknown counts as 0.0, and what is old fades towards it.

        So a deployment that nobody asked yet, or that was slow half a minute ago, is tried again.
        """
        if not self._samples:
            return 0.0
        return float(self._average * 0.5 ** ((now - self._sampled) / HALF_LIFE_SECONDS))

    def is_shunned(self, now: float) -> bool:
        """Tell whether others should be asked first; every few seconds one caller is let through to look again."""
        if not self.is_slow:
            return False
        if now >= self._look_again:
            self._look_again = now + LOOK_AGAIN_SECONDS
            return False
        return True

    @property
    def _bound(self) -> float:
        return _TIMES_SLOWER * self._usual + _SECONDS_SLOWER
