"""Which deployments are resting, and until when.

One instance for a process; everything else about a deployment is frozen. Times are seconds on the clock given.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.errors import UpstreamAuthFailed, UpstreamError, UpstreamRateLimited

UNSTATED_REST_SECONDS = 1.0  # a rate limit that names no time
AUTH_REST_SECONDS = 300.0  # a refused key is refused until somebody changes it


class Health:
    """Remembers failures that say "leave me alone for a while"."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._resting_until: dict[str, float] = {}

    def rest_seconds(self, deployment: str) -> float:
        """Return how long `deployment` still rests, 0.0 when it may be asked."""
        if not self._resting_until:
            return 0.0
        return max(0.0, self._resting_until.get(deployment, 0.0) - self._clock())

    def note_failure(self, deployment: str, error: UpstreamError) -> None:
        if isinstance(error, UpstreamRateLimited):
            rest = error.retry_after or UNSTATED_REST_SECONDS
        elif isinstance(error, UpstreamAuthFailed):
            rest = AUTH_REST_SECONDS
        else:
            return
        until = self._clock() + rest
        self._resting_until[deployment] = max(until, self._resting_until.get(deployment, 0.0))

    def note_success(self, deployment: str) -> None:
        if self._resting_until:
            self._resting_until.pop(deployment, None)
