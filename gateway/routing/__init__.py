"""From an alias to an answer: the table of routes, their order, who rests, and the loop that tries them."""

from gateway.routing.failover import Failover
from gateway.routing.health import Health
from gateway.routing.settings import (
    DeploymentPlan,
    DeploymentSettings,
    RoutePlan,
    RouteSettings,
    RoutingPlan,
    TimeoutSettings,
)
from gateway.routing.table import Deployment, Route, RouteTable

__all__ = [
    "Deployment",
    "DeploymentPlan",
    "DeploymentSettings",
    "Failover",
    "Health",
    "Route",
    "RoutePlan",
    "RouteSettings",
    "RouteTable",
    "RoutingPlan",
    "TimeoutSettings",
]
