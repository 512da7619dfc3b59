"""Is it alive, can it serve, what does it measure: the routes for those who run the gateway."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from gateway.auth import KeyRing
from gateway.call import Caller
from gateway.errors import Unauthenticated
from gateway.http.access import token_of
from gateway.http.answers import json_response
from gateway.http.drain import Drain
from gateway.http.journal import Journal
from gateway.metrics import CONTENT_TYPE, Metrics
from gateway.routing import Healths, RouteTable


class HealthRoutes:
    def __init__(
        self, routes: RouteTable, healths: Healths, metrics: Metrics, journal: Journal, ring: KeyRing, drain: Drain
    ) -> None:
        self._routes = routes
        self._healths = healths
        self._metrics = metrics
        self._journal = journal
        self._ring = ring
        self._drain = drain

    async def alive(self, _request: web.Request) -> web.StreamResponse:
        return json_response({"status": "ok"})

    async def ready(self, request: web.Request) -> web.StreamResponse:
        """200 when every alias could be answered; a caller with a key is told which could not.

        It is also told which deployments of this worker process are not well. They do not make it unready: others may
        answer, and taking the gateway out of service would heal none of them.
        """
        if self._drain.is_draining:
            return json_response({"status": "draining"}, 503)
        unready = await self._routes.unready()
        body: dict[str, Any] = {"status": "not ready" if unready else "ready"}
        if (caller := self._caller(request)) is not None:
            if told := [alias for alias in unready if caller.role != "user" or caller.may_use(alias)]:
                body["aliases"] = told
            if unwell := self._unwell(caller):
                body["deployments"] = unwell
        return json_response(body, 503 if unready else 200)

    def _caller(self, request: web.Request) -> Caller | None:
        try:
            return self._ring.identify(token_of(request))
        except Unauthenticated:
            return None

    def _unwell(self, caller: Caller) -> list[dict[str, Any]]:
        """Return what is not well of that which `caller` may know: operators of everything."""
        unwell = self._healths.report()
        if caller.role != "user":
            return unwell
        own = {deployment.name for route in self._routes.visible(caller) for deployment in route.every_deployment}
        return [each for each in unwell if each["deployment"] in own]

    async def metrics(self, _request: web.Request, _caller: Caller) -> web.StreamResponse:
        self._journal.write()
        return web.Response(body=self._metrics.render(), headers={"Content-Type": CONTENT_TYPE})
