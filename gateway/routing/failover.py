"""The one loop that tries deployments until one answers; chat, streams, completions, embeddings and images all use it.

It knows no provider and no HTTP: an attempt either returns a reply or raises an error that says whether another
deployment may do better. A stream counts as answered when its first event has arrived and parsed; later the caller
has seen content and nothing is tried again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from gateway.call import Attempt, Call
from gateway.errors import (
    ContextLengthExceeded,
    EndpointNotServed,
    GatewayError,
    NoDeployment,
    OverWindow,
    UpstreamError,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRejected,
)
from gateway.providers import Exchange
from gateway.routing.budget import RetryBudget
from gateway.routing.health import Health, Healths
from gateway.routing.limits import as_too_long
from gateway.routing.order import STRATEGIES
from gateway.routing.running import Opened, Running
from gateway.routing.shaping import Refusals, shape
from gateway.routing.sizing import Sizes
from gateway.routing.table import Deployment, Route
from gateway.routing.windows import Windows

_MOST_HEALED = 4  # fields of one call: as many as the presets' settings have
_CONTENT_FILTER = "content_filter"
_SPILLED = frozenset({"local_queue_full", "local_model_not_loaded"})  # who said so may be waited for
_PROBE_SECONDS = 1.0  # when somebody is just finding out whether a deployment is well again


class Failover:
    """Asks a route's deployments in the order of its strategy; `spent` is told when the retry budget ends a search."""

    def __init__(
        self,
        healths: Healths,
        refusals: Refusals,
        clock: Callable[[], float],
        *,
        retry_budget: float = 0.1,
        spent: Callable[[], None] = lambda: None,
        windows: Windows | None = None,
    ) -> None:
        self._healths = healths
        self._refusals = refusals
        self._clock = clock
        self._budget = RetryBudget(retry_budget)
        self._spent = spent
        self._sizes = Sizes()
        self._windows = windows

    def first_success(self, call: Call, route: Route) -> Awaitable[Opened]:
        """Ask; awaited, it is the first good reply, to be used as an `async with`.

        Raises the last deployment's error when all fail, NoDeployment when all rest, and at once whatever the request
        itself is to blame for, unless the route names other deployments for that.
        """
        self._budget.add_call()
        if route.larger is None and route.unfiltered is None and route.patient is None:
            return self._first_of(call, route)
        return self._first_or_instead(call, route)

    async def _first_or_instead(self, call: Call, route: Route) -> Opened:
        try:
            return await self._first_or_patient(call, route)
        except (ContextLengthExceeded, UpstreamRejected) as error:
            instead = _instead(route, error)
            if instead is None:
                raise
            told = len(call.record.attempts) - 1
            try:
                return await self._first_of(call, instead)
            except GatewayError:
                call.record.told = told
                raise error from None  # what the caller can do something about

    async def _first_or_patient(self, call: Call, route: Route) -> Opened:
        try:
            return await self._first_of(call, route)
        except (UpstreamError, NoDeployment) as error:
            outcomes = {attempt.outcome for attempt in call.record.attempts}
            may_go_on = isinstance(error, NoDeployment) or error.failover
            if route.patient is None or outcomes.isdisjoint(_SPILLED) or not may_go_on:
                raise
            call.record.told = -1
            return await self._first_of(call, route.patient)

    async def _first_of(self, call: Call, route: Route) -> Opened:
        failure: UpstreamError | None = None
        too_long: OverWindow | None = None
        told = -1
        health = self._healths.at(call.endpoint)
        for deployment in STRATEGIES[route.strategy](route, health, call):
            if failure is not None and self._is_spent(health, deployment):
                continue
            try:
                return await self._answer(call, route, deployment)
            except OverWindow as error:
                too_long = error  # another one's window may be larger
            except UpstreamError as error:
                if not error.failover:
                    raise
                if isinstance(error, EndpointNotServed) and failure is not None:
                    continue  # what can pass matters more to the caller than what never will
                if failure is not None:
                    self._budget.charge()
                failure, told = error, len(call.record.attempts) - 1
        call.record.told = told
        raise _last_word(failure or too_long, route, health, call.caller.name)

    def _is_spent(self, health: Health, deployment: Deployment) -> bool:
        """Return whether nothing is left of the budget for another try at a doubtful deployment."""
        if not (self._budget.is_spent and health.is_doubtful(deployment)):
            return False
        self._spent()
        return True

    async def _answer(self, call: Call, route: Route, deployment: Deployment) -> Opened:
        """Ask one deployment; once more for each field that it refused and can do without, and once with less text.

        Raises its last refusal.
        """
        body = shape(call, deployment, self._refusals)
        sent = await self._fitted(call, route, deployment, body)
        healed, is_shorter = 0, False
        while True:
            try:
                return await self._ask(call, deployment, sent)
            except UpstreamRejected as refusal:
                if healed == _MOST_HEALED or not self._refusals.learn(call, deployment, body, refusal):
                    raise
                healed += 1
                body = shape(call, deployment, self._refusals)
                sent = await self._fitted(call, route, deployment, body)
            except ContextLengthExceeded as refusal:
                shorter = None if is_shorter else await self._shorter(call, route, deployment, body, refusal)
                if shorter is None:
                    raise
                sent, is_shorter = shorter, True

    async def _fitted(self, call: Call, route: Route, deployment: Deployment, body: dict[str, Any]) -> dict[str, Any]:
        windows = self._windows
        if windows is not None and windows.may_exceed(call, deployment, body):
            return await windows.fit(call, route, deployment, body)
        return body

    async def _shorter(
        self, call: Call, route: Route, deployment: Deployment, body: dict[str, Any], refusal: ContextLengthExceeded
    ) -> dict[str, Any] | None:
        if self._windows is None:
            return None
        return await self._windows.fit_again(call, route, deployment, body, refusal)

    def _ask(self, call: Call, deployment: Deployment, body: dict[str, Any]) -> Awaitable[Opened]:
        if call.endpoint != "embeddings":
            return self._attempt(call, deployment, body)
        return self._sizes.ask(call, deployment, body, partial(self._attempt, call, deployment))

    async def _attempt(self, call: Call, deployment: Deployment, body: dict[str, Any]) -> Opened:
        attempt = Attempt(deployment.name, deployment.label, self._clock())
        call.record.attempts.append(attempt)
        running = Running(self._healths.at(call.endpoint), deployment, attempt, call)
        exchange = _exchange(call, deployment, body)
        try:
            try:
                reply = await deployment.provider.send(exchange)
            except UpstreamRejected as error:
                raise as_too_long(error, call.endpoint) from None
        except GatewayError as error:
            attempt.outcome, attempt.detail = error.outcome, error.message
            if isinstance(error, UpstreamError):
                error.deployment, attempt.status = deployment.name, error.upstream_status
            attempt.ended = self._clock()
            running.end(error)
            raise
        except BaseException:
            attempt.outcome = "cancelled"  # the caller left, or the process ends
            attempt.ended = self._clock()
            if exchange.may_wait:
                running.leave()
            else:
                running.give_up()
            raise
        finally:
            call.record.queued = exchange.queued
        attempt.ended = self._clock()
        return running.begin_reply(reply)


def _last_word(failure: UpstreamError | OverWindow | None, route: Route, health: Health, caller: str) -> GatewayError:
    """Return the error the caller reads when nobody is left to ask."""
    rest = min(health.wait_seconds(deployment, caller) for deployment in route.deployments)
    if failure is None:
        return NoDeployment(
            f"Every deployment of '{route.alias}' is resting after failures, a rate limit or a refused key.",
            retry_after=rest or _PROBE_SECONDS,
        )
    if isinstance(failure, UpstreamRateLimited | UpstreamOverloaded) and rest > 0.0:
        failure.retry_after = rest  # the first of the group to wake, not the last that was asked
    return failure


def _instead(route: Route, error: GatewayError) -> Route | None:
    """Return the route to other deployments for what `error` says of the request."""
    if isinstance(error, ContextLengthExceeded):
        return route.larger
    return route.unfiltered if error.code == _CONTENT_FILTER else None


def _exchange(call: Call, deployment: Deployment, body: dict[str, Any]) -> Exchange:
    options = call.body.get("stream_options")
    return Exchange(
        endpoint=call.endpoint,
        body=body,
        model=deployment.model,
        patience=deployment.timeouts,
        stream=call.stream,
        wants_usage=bool(options and options.get("include_usage")),
        allowed_extra=deployment.allowed_extra,
        caller=call.caller.name,
        most_waiting=deployment.spill_queue,
        max_output_tokens=deployment.max_output_tokens,
        dimensions=deployment.dimensions,
    )
