"""Vectors of the size that the configuration expects, from models that have to be asked for it.

Which deployment is asked, and what comes of an answer, is decided in `failover.py`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from gateway.call import Call
from gateway.errors import InvalidRequest, UpstreamRejected, UpstreamWrongSize
from gateway.routing.table import Deployment

_FIELD = "dimensions"
_Refusal = (InvalidRequest, UpstreamRejected)

Opened = TypeVar("Opened")
Attempt = Callable[[dict[str, Any]], Awaitable[Opened]]


class Sizes:
    """Remembers which deployments give vectors of the expected size only when it is named."""

    def __init__(self) -> None:
        self._named: set[str] = set()  # those with an expected size are in the configuration, so there are not many

    async def ask(self, call: Call, deployment: Deployment, body: dict[str, Any], attempt: Attempt[Opened]) -> Opened:
        """Return the answer to `attempt` with this body, and where its vectors have another size, with that named.

        Raises what `attempt` does; but a refusal of a size that the caller did not name is no word on its request, and
        is UpstreamWrongSize.
        """
        if body.get(_FIELD) is None and deployment.dimensions is not None:
            return await self._ask_twice(deployment, body, attempt)
        try:
            return await attempt(body)
        except _Refusal as error:
            if error.param != _FIELD or call.body.get(_FIELD) is not None:
                raise
            raise UpstreamWrongSize(error.message) from error

    async def _ask_twice(self, deployment: Deployment, body: dict[str, Any], attempt: Attempt[Opened]) -> Opened:
        sized = {**body, _FIELD: deployment.dimensions}
        if deployment.name in self._named:
            try:
                return await attempt(sized)
            except _Refusal:  # it may be about the caller's own fields just as well
                self._named.discard(deployment.name)
                return await attempt(body)
        try:
            return await attempt(body)
        except UpstreamWrongSize as wrong:
            try:
                reply = await attempt(sized)
            except _Refusal:
                raise wrong from None
        self._named.add(deployment.name)
        return reply
