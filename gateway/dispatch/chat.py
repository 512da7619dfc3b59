"""The way of a chat completion, from a checked call to an open reply.

Legacy completions go the same way: they differ in their wire shape only, which was checked before.
"""

from __future__ import annotations

from gateway.call import Call
from gateway.routing import Failover, Opened, RouteTable


class ChatDispatcher:
    """Finds who may answer and brings back the first answer."""

    def __init__(self, routes: RouteTable, failover: Failover) -> None:
        self._routes = routes
        self._failover = failover

    async def chat(self, call: Call) -> Opened:
        """Return the reply to `call`, plain or streamed, to be used as an `async with`.

        Raises ModelNotFound, PermissionDenied, NoDeployment, or the error of the last deployment that was asked.
        """
        route = self._routes.resolve(call)
        call.record.alias = route.label
        return await self._failover.first_success(call, route)
