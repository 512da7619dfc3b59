"""Is it alive, can it serve, what does it measure: the routes for those who run the gateway."""

from __future__ import annotations

from aiohttp import web

from gateway.auth import KeyRing
from gateway.call import Caller
from gateway.errors import Unauthenticated
from gateway.http.access import token_of
from gateway.http.answers import json_response
from gateway.http.drain import Drain
from gateway.http.journal import Journal
from gateway.metrics import CONTENT_TYPE, Metrics
from gateway.routing import RouteTable


class HealthRoutes:
    def __init__(self, routes: RouteTable, metrics: Metrics, journal: Journal, ring: KeyRing, drain: Drain) -> None:
        self._routes = routes
        self._metrics = metrics
        self._journal = journal
        self._ring = ring
        self._drain = drain

    async def alive(self, _request: web.Request) -> web.StreamResponse:
        return json_response({"status": "ok"})

    async def ready(self, request: web.Request) -> web.StreamResponse:
        """200 when every alias could be answered; a caller with a key is told which could not."""
        if self._drain.is_draining:
            return json_response({"status": "draining"}, 503)
        unready = await self._routes.unready()
        if not unready:
            return json_response({"status": "ready"})
        try:
            self._ring.identify(token_of(request))
        except Unauthenticated:
            return json_response({"status": "not ready"}, 503)
        return json_response({"status": "not ready", "aliases": unready}, 503)

    async def metrics(self, _request: web.Request, _caller: Caller) -> web.StreamResponse:
        self._journal.write()
        return web.Response(body=self._metrics.render(), headers={"Content-Type": CONTENT_TYPE})
