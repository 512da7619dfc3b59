"""Which deployments may be asked now, and what each error says about that.

One `Healths` for a process; everything else about a deployment is frozen. Times are seconds on the clock given. A
deployment is known by its name, so that all routes that lead to it know the same of it; deployments that share a host
and a key also share the rests that are asked of either. Endpoints are apart: whoever sends a model of text to
`/v1/embeddings` again and again must not take it away from those that chat with it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Any, get_args

from gateway.call import Endpoint
from gateway.errors import (
    EndpointNotServed,
    GatewayError,
    LocalModelUnavailable,
    RequestError,
    UpstreamAuthFailed,
    UpstreamError,
    UpstreamModelMissing,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRejected,
)
from gateway.routing.condition import Condition, State
from gateway.routing.settings import FailoverSettings
from gateway.routing.table import Deployment

AUTH_REST_SECONDS = 300.0  # a refused key is refused until somebody changes it
QUOTA_REST_SECONDS = 600.0  # nobody pays a bill in a minute
MISSING_REST_SECONDS = 300.0
FIRST_REST_SECONDS, LONGEST_UNSTATED_REST_SECONDS = 1.0, 30.0
_JITTER = 0.1
_MOST_CONDITIONS = 2000  # callers may spell out models, and so make up deployments
_QUOTA = "insufficient_quota"
_FORBIDDEN = 403

# (deployment's label, state before, state now, why): called at every change that is noticed.
Watcher = Callable[[str, State, State, str], None]


class Health:
    """Remembers how deployments did at one endpoint, and says which may be asked; `dice` gives numbers in [0, 1).

    `accounts` are the moments until which hosts and keys rest, shared between the endpoints.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        dice: Callable[[], float],
        settings: FailoverSettings | None = None,
        watcher: Watcher = lambda *_: None,
        accounts: dict[Hashable, float] | None = None,
    ) -> None:
        self.clock = clock
        self.dice = dice
        self._settings = settings or FailoverSettings()
        self._watcher = watcher
        self._conditions: dict[str, Condition] = {}
        self._accounts = {} if accounts is None else accounts

    def of(self, deployment: Deployment) -> Condition:
        """Return the one condition of `deployment`."""
        condition = self._conditions.get(deployment.name)
        if condition is None:
            if len(self._conditions) >= _MOST_CONDITIONS:
                self._forget_the_well()
            condition = Condition(deployment.label, self._settings.open_after_failures)
            self._conditions[deployment.name] = condition
        return condition

    def may_ask(self, deployment: Deployment) -> bool:
        now = self.clock()
        if self._accounts and now < self._accounts.get(deployment.account, 0.0):
            return False
        return self.of(deployment).may_ask(now)

    def wait_seconds(self, deployment: Deployment) -> float:
        """Return how long `deployment` is certainly not to be asked."""
        now = self.clock()
        shared = self._accounts.get(deployment.account, 0.0) - now
        return max(shared, self.of(deployment).wait_seconds(now))

    def begin(self, deployment: Deployment) -> bool:
        """Count a call as being answered by it; return whether it is the one that finds out if it is well again."""
        condition = self.of(deployment)
        probes = condition.begin()
        if probes:
            self._show(deployment, condition, condition.reason)
        return probes

    def note_success(self, deployment: Deployment) -> None:
        """Take note that it gave an answer, or a refusal that shows it alive."""
        condition = self.of(deployment)
        was_open = condition.is_open
        condition.succeed()
        if was_open or condition.shown != "closed":
            self._show(deployment, condition, "it answered")

    def note_failure(self, deployment: Deployment, error: GatewayError) -> None:
        """Take note of what `error` says of the deployment, which may be nothing."""
        if isinstance(error, RequestError | UpstreamRejected | EndpointNotServed):
            self.note_success(deployment)
            return
        if isinstance(error, LocalModelUnavailable):
            return  # told at once and for nothing; after a long rest it would be asked too late
        condition, code = self.of(deployment), error.outcome
        if isinstance(error, UpstreamRateLimited | UpstreamAuthFailed):
            # 403 may be about one model, which a caller can choose: it must not take the others away.
            shared = error.upstream_status != _FORBIDDEN
            self._rest(deployment, condition, self._rest_seconds(condition, error), code, shared=shared)
        elif isinstance(error, UpstreamModelMissing):
            self._rest(deployment, condition, MISSING_REST_SECONDS, code, shared=False)
        elif isinstance(error, UpstreamError):
            if isinstance(error, UpstreamOverloaded):
                self._rest(deployment, condition, self._rest_seconds(condition, error), code, shared=False)
            if condition.fail(self.clock()):
                condition.open(self.clock() + self._open_seconds(condition), code)
        self._show(deployment, condition, code)

    def report(self) -> Iterator[dict[str, Any]]:
        """Yield every deployment that is not well, with its state, why, and the seconds until it may be asked."""
        now = self.clock()
        for name, condition in self._conditions.items():
            if (state := condition.state(now)) != "closed":
                yield {
                    "deployment": name,
                    "state": state,
                    "reason": condition.reason,
                    "seconds": round(condition.wait_seconds(now), 3),
                    "failures": condition.failures,
                }

    def _rest_seconds(self, condition: Condition, error: UpstreamError) -> float:
        if isinstance(error, UpstreamAuthFailed):
            return AUTH_REST_SECONDS
        if error.code == _QUOTA:
            return QUOTA_REST_SECONDS
        if error.retry_after is not None:
            return error.retry_after
        return min(LONGEST_UNSTATED_REST_SECONDS, self._jittered(FIRST_REST_SECONDS * 2.0**condition.rests))

    def _rest(self, deployment: Deployment, condition: Condition, seconds: float, reason: str, *, shared: bool) -> None:
        until = self.clock() + seconds
        condition.rests += 1
        condition.rest(until, reason)
        if shared and deployment.account is not None:
            self._accounts[deployment.account] = max(until, self._accounts.get(deployment.account, 0.0))

    def _open_seconds(self, condition: Condition) -> float:
        settings = self._settings
        grown = settings.first_rest_seconds * 2.0 ** min(condition.openings, 30)
        return min(settings.longest_rest_seconds, self._jittered(grown))

    def _jittered(self, seconds: float) -> float:
        """Spread moments of waking, so that workers and hosts do not come back together."""
        return seconds * (1.0 + _JITTER * (2.0 * self.dice() - 1.0))

    def _show(self, deployment: Deployment, condition: Condition, reason: str) -> None:
        state = condition.state(self.clock())
        if state != condition.shown:
            before, condition.shown = condition.shown, state
            self._watcher(deployment.label, before, state, reason)

    def _forget_the_well(self) -> None:
        now = self.clock()
        self._conditions = {
            name: condition
            for name, condition in self._conditions.items()
            if condition.in_flight or condition.state(now) != "closed"
        }
        for account in [account for account, until in self._accounts.items() if until <= now]:
            del self._accounts[account]


class Healths:
    """The health of all deployments, by endpoint."""

    def __init__(
        self,
        clock: Callable[[], float],
        dice: Callable[[], float],
        settings: FailoverSettings | None = None,
        watcher: Watcher = lambda *_: None,
    ) -> None:
        accounts: dict[Hashable, float] = {}
        self._by_endpoint = {
            endpoint: Health(clock, dice, settings, watcher, accounts) for endpoint in get_args(Endpoint)
        }

    def at(self, endpoint: Endpoint) -> Health:
        return self._by_endpoint[endpoint]

    def report(self) -> list[dict[str, Any]]:
        """Return every deployment that is not well, with the endpoint at which it is not."""
        return [
            {"endpoint": endpoint, **unwell}
            for endpoint, health in self._by_endpoint.items()
            for unwell in health.report()
        ]
