"""The way of a request to rank documents, from a checked call to the reply."""

from __future__ import annotations

from gateway.call import Call
from gateway.routing import Failover, Opened, RouteTable


class RerankDispatcher:
    """Finds who may rank and brings back the first answer."""

    def __init__(self, routes: RouteTable, failover: Failover) -> None:
        self._routes = routes
        self._failover = failover

    async def rank(self, call: Call) -> Opened:
        """Return the reply to `call`, to be used as an `async with`.

        Raises ModelNotFound, PermissionDenied, NoDeployment, or the error of the last deployment that was asked.
        """
        route = self._routes.resolve(call)
        call.record.alias = route.label
        return await self._failover.first_success(call, route)
