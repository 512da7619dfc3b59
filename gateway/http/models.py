"""GET /v1/models and /v1/models/{id}: the names a caller may send."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from gateway.call import Caller
from gateway.errors import ModelNotFound
from gateway.http.answers import json_response
from gateway.routing import Route, RouteTable


class ModelRoutes:
    """`created` is when this gateway's configuration was loaded, in Unix seconds."""

    def __init__(self, routes: RouteTable, created: int) -> None:
        self._routes = routes
        self._created = created

    async def list(self, _request: web.Request, caller: Caller) -> web.StreamResponse:
        return json_response({"object": "list", "data": [self._model(route) for route in self._routes.visible(caller)]})

    async def retrieve(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        alias = request.match_info["model"]
        route = self._routes.find(alias, caller)
        if route is None:
            raise ModelNotFound(
                f"The model '{alias[:100]}' does not exist or you do not have access to it.", param="model"
            )
        return json_response(self._model(route))

    def _model(self, route: Route) -> dict[str, Any]:
        owner = route.deployments[0].provider.name
        return {"id": route.alias, "object": "model", "created": self._created, "owned_by": owner}
