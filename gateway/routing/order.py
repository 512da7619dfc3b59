"""In which order a route's deployments are tried: pure iterators over what is healthy."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.routing.health import Health
from gateway.routing.table import Deployment, Route


def priority(route: Route, health: Health) -> Iterator[Deployment]:
    """Yield the deployments in their configured order, leaving out those that rest."""
    for deployment in route.deployments:
        if not health.rest_seconds(deployment.name):
            yield deployment
