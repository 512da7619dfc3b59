"""The one loop that tries deployments until one answers; chat, streams, completions and embeddings all use it.

It knows no provider and no HTTP: an attempt either returns a reply or raises an error that says whether another
deployment may do better. A stream counts as answered when its first event has arrived and parsed; later the caller
has seen content and nothing is tried again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.call import Attempt, Call
from gateway.errors import GatewayError, NoDeployment, UpstreamError, UpstreamRejected
from gateway.providers import Exchange, Reply
from gateway.routing.health import Health
from gateway.routing.order import priority
from gateway.routing.shaping import Refusals, shape
from gateway.routing.table import Deployment, Route

_MOST_HEALED = 4  # fields of one call: as many as the presets' settings have


class Failover:
    """Asks a route's deployments in order."""

    def __init__(self, health: Health, refusals: Refusals, clock: Callable[[], float]) -> None:
        self._health = health
        self._refusals = refusals
        self._clock = clock

    async def first_success(self, call: Call, route: Route) -> Reply:
        """Return the first good reply, to be used as an `async with`.

        Raises the last deployment's error when all fail, NoDeployment when all rest, and at once whatever the request
        itself is to blame for.
        """
        failure: UpstreamError | None = None
        for deployment in priority(route, self._health):
            try:
                return await self._ask(call, deployment)
            except UpstreamError as error:
                if not error.failover:
                    raise
                failure = error
        raise failure or self._all_resting(route)

    async def _ask(self, call: Call, deployment: Deployment) -> Reply:
        """Ask one deployment, and once more for each field that it refused and can do without."""
        for _ in range(_MOST_HEALED):
            body = shape(call, deployment, self._refusals)
            try:
                return await self._attempt(call, deployment, body)
            except UpstreamRejected as error:
                if not self._refusals.learn(call, deployment, body, error):
                    raise
        return await self._attempt(call, deployment, shape(call, deployment, self._refusals))

    async def _attempt(self, call: Call, deployment: Deployment, body: dict[str, Any]) -> Reply:
        attempt = Attempt(deployment.name, deployment.label, self._clock())
        call.record.attempts.append(attempt)
        try:
            reply = await deployment.provider.send(_exchange(call, deployment, body))
        except GatewayError as error:
            attempt.outcome, attempt.detail = error.outcome, error.message
            if isinstance(error, UpstreamError):
                error.deployment, attempt.status = deployment.name, error.upstream_status
                self._health.note_failure(deployment.name, error)
            raise
        except BaseException:
            attempt.outcome = "cancelled"  # the caller left, or the process ends
            raise
        finally:
            attempt.ended = self._clock()
        self._health.note_success(deployment.name)
        return reply

    def _all_resting(self, route: Route) -> NoDeployment:
        rest = min(self._health.rest_seconds(deployment.name) for deployment in route.deployments)
        return NoDeployment(
            f"Every deployment of '{route.alias}' is resting after a rate limit or a refused key.", retry_after=rest
        )


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
    )
