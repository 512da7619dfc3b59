"""The one loop that tries deployments until one answers; chat, streams, completions, embeddings and images all use it.

It knows no provider and no HTTP: an attempt either returns a reply or raises an error that says whether another
deployment may do better. A stream counts as answered when its first event has arrived and parsed; later the caller
has seen content and nothing is tried again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import Any

from gateway.call import Attempt, Call
from gateway.errors import (
    ContextLengthExceeded,
    EndpointNotServed,
    GatewayError,
    NoDeployment,
    ShuttingDown,
    UpstreamError,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamWrongSize,
)
from gateway.providers import Exchange, Reply
from gateway.routing.budget import RetryBudget
from gateway.routing.health import Health, Healths
from gateway.routing.order import STRATEGIES
from gateway.routing.shaping import Refusals, shape
from gateway.routing.sizing import Sizes
from gateway.routing.table import Deployment, Route

_MOST_HEALED = 4  # fields of one call: as many as the presets' settings have
_CONTENT_FILTER = "content_filter"
_SPILLED = frozenset({"local_queue_full", "local_model_not_loaded"})  # who said so may be waited for
_PROBE_SECONDS = 1.0  # when somebody is just finding out whether a deployment is well again
# A caller that left has waited in vain if it did so for as long as this, and four times what answers usually take.
_PATIENCE_SECONDS, _TIMES_SLOWER = 5.0, 4.0
_UNKNOWN_SECONDS = 15.0  # what an answer usually takes where nothing is known

Opened = AbstractAsyncContextManager[Reply]


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
    ) -> None:
        self._healths = healths
        self._refusals = refusals
        self._clock = clock
        self._budget = RetryBudget(retry_budget)
        self._spent = spent
        self._sizes = Sizes()

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
        told = -1
        health = self._healths.at(call.endpoint)
        for deployment in STRATEGIES[route.strategy](route, health, call):
            if failure is not None and self._budget.is_spent and health.is_doubtful(deployment):
                self._spent()
                continue
            body = shape(call, deployment, self._refusals)
            try:
                try:
                    return await self._ask(call, deployment, body)
                except UpstreamRejected as error:
                    return await self._heal(call, deployment, body, error)
            except UpstreamError as error:
                if not error.failover:
                    raise
                if isinstance(error, EndpointNotServed) and failure is not None:
                    continue  # what can pass matters more to the caller than what never will
                if failure is not None:
                    self._budget.charge()
                failure, told = error, len(call.record.attempts) - 1
        call.record.told = told
        raise _last_word(failure, route, health, call.caller.name)

    async def _heal(
        self, call: Call, deployment: Deployment, body: dict[str, Any], refusal: UpstreamRejected
    ) -> Opened:
        """Ask one deployment once more for each field that it refused and can do without; raises its last refusal."""
        for _ in range(_MOST_HEALED):
            if not self._refusals.learn(call, deployment, body, refusal):
                break
            body = shape(call, deployment, self._refusals)
            try:
                return await self._ask(call, deployment, body)
            except UpstreamRejected as error:
                refusal = error
        raise refusal

    def _ask(self, call: Call, deployment: Deployment, body: dict[str, Any]) -> Awaitable[Opened]:
        if call.endpoint != "embeddings":
            return self._attempt(call, deployment, body)
        return self._sizes.ask(call, deployment, body, partial(self._attempt, call, deployment))

    async def _attempt(self, call: Call, deployment: Deployment, body: dict[str, Any]) -> Opened:
        attempt = Attempt(deployment.name, deployment.label, self._clock())
        call.record.attempts.append(attempt)
        running = _Running(self._healths.at(call.endpoint), deployment, attempt, call)
        exchange = _exchange(call, deployment, body)
        try:
            reply = await deployment.provider.send(exchange)
        except GatewayError as error:
            attempt.outcome, attempt.detail = error.outcome, error.message
            if isinstance(error, UpstreamError):
                error.deployment, attempt.status = deployment.name, error.upstream_status
            attempt.ended = self._clock()
            if isinstance(error, UpstreamWrongSize):
                running.leave()  # it is as well as it was set up to be
            else:
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


class _Running:
    """One call that a deployment is answering: the reply's `async with`, and what its end says of the deployment.

    A stream that breaks after its first event has failed, however good its status was.
    """

    __slots__ = ("_attempt", "_call", "_condition", "_deployment", "_health", "_is_over", "_probes", "_reply")

    def __init__(self, health: Health, deployment: Deployment, attempt: Attempt, call: Call) -> None:
        self._call = call
        self._health = health
        self._deployment = deployment
        self._attempt = attempt
        self._condition, self._probes = health.begin(deployment)
        self._reply: Reply | None = None
        self._is_over = False

    def begin_reply(self, reply: Reply) -> Opened:
        """Return what the caller is to open: a plain reply is whole, of a stream the first event has arrived."""
        condition, stream = self._condition, self._call.stream
        pace = condition.stream_pace if stream else condition.plain_pace
        pace.note(self._attempt.ended - self._attempt.started, self._attempt.ended)
        if not stream:
            condition.note_well(self._call.caller.name, self._attempt.ended)
            self.end(None)
            return reply
        if self._probes:  # alive: others need not wait for this stream's end
            self._probes = False
            condition.release_probe()
            self._health.note_answer(condition, self._attempt.started)
        condition.note_well(self._call.caller.name, self._attempt.ended)
        self._reply = reply
        return self

    def end(self, error: GatewayError | None) -> None:
        """Count the call as over, well or with `error`."""
        self.leave()
        began = self._attempt.started
        if error is None:
            self._health.note_answer(self._condition, began)
        else:
            self._health.note_failure(self._deployment, error, began, self._call.caller.name)

    def give_up(self) -> None:
        """Count the call as left before there was an answer: after a long wait that is the deployment's failure.

        Callers are often less patient than our own limits, so those alone would never show that somebody hangs.
        """
        pace = self._condition.stream_pace if self._call.stream else self._condition.plain_pace
        usual = pace.average if pace.is_known(self._attempt.ended) else _UNKNOWN_SECONDS
        waited = self._attempt.ended - self._attempt.started
        if waited >= max(_PATIENCE_SECONDS, _TIMES_SLOWER * usual):
            self.end(UpstreamTimeout("The caller left after waiting in vain."))
        else:
            self.leave()

    def leave(self) -> None:
        """Count the call as over without a word on the deployment."""
        self._is_over = True
        self._condition.end(probed=self._probes)

    async def __aenter__(self) -> Reply:
        assert self._reply is not None  # noqa: S101  only what has a reply is handed out
        return await self._reply.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._reply is not None:
                await self._reply.__aexit__(kind, error, trace)
        finally:
            if not self._is_over:
                self._settle(error)

    def _settle(self, error: BaseException | None) -> None:
        # Taken from there, for its traceback leads back to the record: nothing is left to the garbage collector.
        broke, self._attempt.error = self._attempt.error, None
        assert broke is None or isinstance(broke, GatewayError)  # noqa: S101  that tree is no part of what a call is
        if error is not None or isinstance(broke, ShuttingDown):
            self.leave()  # the caller's end or ours
        else:
            self.end(broke)


def _last_word(failure: UpstreamError | None, route: Route, health: Health, caller: str) -> GatewayError:
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
