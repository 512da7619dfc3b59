"""Which deployments may be asked now, and what each error says about that.

One `Healths` for a process; everything else about a deployment is frozen. Times are seconds on the clock given. A
deployment is known by its name, so that all routes that lead to it know the same of it; deployments that share a host
and a key also share the rests that are asked of either. Endpoints are apart: whoever sends a model of text to
`/v1/embeddings` again and again must not take it away from those that chat with it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Any, NamedTuple, get_args

from gateway.call import Endpoint
from gateway.errors import (
    REQUEST_EXCEEDS_RATE_LIMIT,
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
    UpstreamTooLarge,
)
from gateway.routing.condition import Condition, State
from gateway.routing.settings import FailoverSettings
from gateway.routing.table import Deployment

AUTH_REST_SECONDS = 300.0  # a refused key is refused until somebody changes it
QUOTA_REST_SECONDS = 600.0  # nobody pays a bill in a minute
MISSING_REST_SECONDS = 300.0
FIRST_REST_SECONDS, LONGEST_UNSTATED_REST_SECONDS = 1.0, 30.0
_JITTER = 0.1
_MOST_MADE_UP = 1000
_QUOTA = "insufficient_quota"
_UNPAID, _FORBIDDEN = 402, 403

# (deployment's label, state before, state now, why): called at every change that is noticed.
Watcher = Callable[[str, State, State, str], None]


class SharedRest(NamedTuple):
    """Until when a host and key rest, and why."""

    until: float
    reason: str


_NO_REST = SharedRest(0.0, "")


class Health:
    """Remembers how deployments did at one endpoint, and says which may be asked; `dice` gives numbers in [0, 1).

    `accounts` are the rests of hosts and keys, shared between the endpoints.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        dice: Callable[[], float],
        settings: FailoverSettings | None = None,
        watcher: Watcher = lambda *_: None,
        accounts: dict[Hashable, SharedRest] | None = None,
    ) -> None:
        self.clock = clock
        self.dice = dice
        self._settings = settings or FailoverSettings()
        self._watcher = watcher
        self._conditions: dict[str, Condition] = {}
        self._made_up: dict[str, Condition] = {}  # of models that callers spelled out
        self._accounts = {} if accounts is None else accounts

    def of(self, deployment: Deployment) -> Condition:
        """Return the one condition of `deployment`."""
        kept = self._conditions if deployment.is_configured else self._made_up
        condition = kept.get(deployment.name)
        if condition is None:
            if kept is self._made_up and len(kept) >= _MOST_MADE_UP:
                self._forget_one()
            condition = Condition(deployment.label, deployment.account, self._settings.open_after_failures)
            kept[deployment.name] = condition
        return condition

    def may_ask(self, deployment: Deployment, caller: str = "", *, alone: bool = False) -> bool:
        """Tell whether a call of `caller` may go to `deployment` now; `alone` says that there is no other."""
        condition = self.of(deployment)
        if condition.is_spotless and not self._accounts:
            return True
        now = self.clock()
        may_ask = condition.may_ask(now, caller, alone=alone)
        if self._accounts and now < self._accounts.get(deployment.account, _NO_REST).until:
            return False
        return may_ask

    def wait_seconds(self, deployment: Deployment, caller: str | None = None) -> float:
        """Return how long `deployment` is certainly not to be asked (by `caller`)."""
        now = self.clock()
        shared = self._accounts.get(deployment.account, _NO_REST).until - now
        return max(shared, self.of(deployment).wait_seconds(now, caller))

    def is_doubtful(self, deployment: Deployment) -> bool:
        """Tell whether the last that was heard of it lately was bad."""
        return self.of(deployment).is_doubtful(self.clock())

    def begin(self, deployment: Deployment) -> tuple[Condition, bool]:
        """Count a call as being answered by it; return its condition, and whether this finds out if it is well again."""
        condition = self.of(deployment)
        probes = condition.begin(self.clock())
        if probes:
            self._show(condition, condition.reason)
        return condition, probes

    def note_success(self, deployment: Deployment, began: float | None = None) -> None:
        """Take note that it gave an answer, or a refusal that shows it alive, to a call begun then (default: now)."""
        self.note_answer(self.of(deployment), self.clock() if began is None else began)

    def note_answer(self, condition: Condition, began: float) -> None:
        """Take note of an answer to a call begun then; the usual road, on which the condition is at hand."""
        if condition.is_spotless:
            return
        condition.succeed(began)
        if condition.shown != "closed":
            self._show(condition, "it answered")
        condition.look_over(self.clock())

    def note_failure(
        self, deployment: Deployment, error: GatewayError, began: float | None = None, caller: str = ""
    ) -> None:
        """Take note of what `error`, of a call of `caller` begun then, says of the deployment, which may be nothing."""
        if isinstance(error, RequestError | UpstreamRejected | EndpointNotServed):
            self.note_success(deployment, began)
            return
        if isinstance(error, LocalModelUnavailable | UpstreamTooLarge) or error.code == REQUEST_EXCEEDS_RATE_LIMIT:
            return  # a model process is asked for nothing; the others are about the request as much as about the far side
        condition, code = self.of(deployment), error.outcome
        if isinstance(error, UpstreamModelMissing):
            self._rest(deployment, condition, MISSING_REST_SECONDS, code, shared=False)
        elif isinstance(error, UpstreamRateLimited | UpstreamAuthFailed) and not _may_be_the_requests(error):
            self._rest(deployment, condition, self._rest_seconds(condition, error), code, shared=True)
        elif isinstance(error, UpstreamError):
            if isinstance(error, UpstreamOverloaded):
                self._note_overload(deployment, condition, error, caller)
            now = self.clock()
            if condition.fail(now, now if began is None else began):
                self._open(condition, now, caller, code)
        self._show(condition, code)

    def _note_overload(
        self, deployment: Deployment, condition: Condition, error: UpstreamOverloaded, caller: str
    ) -> None:
        now = self.clock()
        if condition.blames_alone(now, caller):
            condition.shut(now, self._jittered(self._settings.first_rest_seconds))
        else:
            self._rest(deployment, condition, self._rest_seconds(condition, error), error.outcome, shared=False)
            condition.accuse(now, caller)
            condition.give_precedence(now)

    def _open(self, condition: Condition, now: float, caller: str, code: str) -> None:
        if condition.blames_alone(now, caller):
            condition.shut(now, self._jittered(self._settings.first_rest_seconds))
        else:
            condition.blame(now, caller)
            condition.open(now, self._open_seconds(condition), code)

    def report(self) -> Iterator[dict[str, Any]]:
        """Yield every configured deployment that is not well, with its state, why, and the seconds until it may be asked."""
        now = self.clock()
        for name, condition in self._conditions.items():
            state, reason, seconds = self._seen(condition, now)
            if state != "closed":
                yield {
                    "deployment": name,
                    "state": state,
                    "reason": reason,
                    "seconds": round(seconds, 3),
                    "failures": condition.failures,
                }

    def states(self) -> Iterator[tuple[str, State]]:
        """Yield the state of each configured deployment, by its label in metrics."""
        now = self.clock()
        return ((condition.label, self._seen(condition, now)[0]) for condition in self._conditions.values())

    def _seen(self, condition: Condition, now: float) -> tuple[State, str, float]:
        """Return its state, why, and the seconds until it may be asked, with the rests of its host and key."""
        seconds = condition.wait_seconds(now)
        shared = self._accounts.get(condition.account, _NO_REST)
        if shared.until - now > seconds:
            return "resting", shared.reason, shared.until - now
        return condition.state(now), condition.reason, seconds

    def _rest_seconds(self, condition: Condition, error: UpstreamError) -> float:
        if isinstance(error, UpstreamAuthFailed):
            return AUTH_REST_SECONDS
        if error.code == _QUOTA:
            return QUOTA_REST_SECONDS
        if error.retry_after is not None:
            return error.retry_after
        return min(LONGEST_UNSTATED_REST_SECONDS, self._jittered(FIRST_REST_SECONDS * 2.0**condition.rests))

    def _rest(self, deployment: Deployment, condition: Condition, seconds: float, reason: str, *, shared: bool) -> None:
        now = self.clock()
        if condition.shown == "resting":  # nobody notices when a rest ends, but that another begins
            condition.shown = condition.state(now)
        condition.rest(now, seconds, reason)
        # What a caller made up says nothing of what is configured, though it is asked with the same key.
        if shared and deployment.account is not None and deployment.is_configured:
            known = self._accounts.get(deployment.account)
            if known is None or known.until < now + seconds:
                self._accounts[deployment.account] = SharedRest(now + seconds, reason)

    def _open_seconds(self, condition: Condition) -> float:
        settings = self._settings
        grown = settings.first_rest_seconds * 2.0 ** min(condition.openings - 1, 30)
        return min(settings.longest_rest_seconds, self._jittered(grown))

    def _jittered(self, seconds: float) -> float:
        """Spread moments of waking, so that workers and hosts do not come back together."""
        return seconds * (1.0 + _JITTER * (2.0 * self.dice() - 1.0))

    def _show(self, condition: Condition, reason: str) -> None:
        state = condition.state(self.clock())
        if state != condition.shown:
            before, condition.shown = condition.shown, state
            self._watcher(condition.label, before, state, reason)

    def _forget_one(self) -> None:
        """Drop the made-up deployment that is known longest and that nobody is asking."""
        idle = next((name for name, condition in self._made_up.items() if not condition.in_flight), None)
        if idle is not None:
            del self._made_up[idle]


def _may_be_the_requests(error: UpstreamError) -> bool:
    """Tell whether a refusal may be about this one request: too dear for what is left, or of a content not allowed.

    It counts as a failure then, so that it takes several in a row, with no good answer between them.
    """
    return error.upstream_status in (_UNPAID, _FORBIDDEN)


class Healths:
    """The health of all deployments, by endpoint."""

    def __init__(
        self,
        clock: Callable[[], float],
        dice: Callable[[], float],
        settings: FailoverSettings | None = None,
        watcher: Watcher = lambda *_: None,
    ) -> None:
        accounts: dict[Hashable, SharedRest] = {}
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

    def states(self) -> Iterator[tuple[str, Endpoint, State]]:
        """Yield the state of each configured deployment at each endpoint it was asked at, by its label in metrics."""
        for endpoint, health in self._by_endpoint.items():
            for label, state in health.states():
                yield label, endpoint, state
