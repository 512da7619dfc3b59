"""From an alias to an answer: the table of routes, their order, who rests, and the loop that tries them."""

from gateway.routing.condition import State
from gateway.routing.counters import ChatCounters
from gateway.routing.failover import Failover
from gateway.routing.health import Health, Healths
from gateway.routing.running import Opened
from gateway.routing.settings import (
    CHAT_TRUNCATIONS,
    EMBEDDING_TRUNCATIONS,
    DeploymentPlan,
    DeploymentSettings,
    FailoverSettings,
    RoutePlan,
    RouteSettings,
    RoutingPlan,
    TimeoutSettings,
    Truncation,
)
from gateway.routing.shaping import Refusals
from gateway.routing.styles import STYLES, check_style
from gateway.routing.table import AUTO, Deployment, Route, RouteTable
from gateway.routing.windows import (
    TRUNCATION_HEADER,
    Windows,
    check_truncation,
    may_cut,
    output_asked,
    policy_of,
    room_for,
    spare_for,
)

__all__ = [
    "AUTO",
    "CHAT_TRUNCATIONS",
    "EMBEDDING_TRUNCATIONS",
    "STYLES",
    "TRUNCATION_HEADER",
    "ChatCounters",
    "Deployment",
    "DeploymentPlan",
    "DeploymentSettings",
    "Failover",
    "FailoverSettings",
    "Health",
    "Healths",
    "Opened",
    "Refusals",
    "Route",
    "RoutePlan",
    "RouteSettings",
    "RouteTable",
    "RoutingPlan",
    "State",
    "TimeoutSettings",
    "Truncation",
    "Windows",
    "check_style",
    "check_truncation",
    "may_cut",
    "output_asked",
    "policy_of",
    "room_for",
    "spare_for",
]
