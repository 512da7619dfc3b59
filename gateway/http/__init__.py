"""Everything that knows aiohttp.web: one file per family of endpoints, and what surrounds them.

All but the settings is imported when it is first asked for, see `doors.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.doors import lazily
from gateway.http.settings import ServerSettings

if TYPE_CHECKING:
    from gateway.http.access import guard
    from gateway.http.answers import Answers
    from gateway.http.cache import CacheRoutes
    from gateway.http.chat import ChatRoutes
    from gateway.http.connections import STALLED, EnvelopeRunner, meet_expectation
    from gateway.http.drain import Drain
    from gateway.http.embeddings import EmbeddingRoutes
    from gateway.http.health import HealthRoutes
    from gateway.http.hosts import Hosts
    from gateway.http.images import ImageRoutes
    from gateway.http.journal import Journal
    from gateway.http.lifecycle import SURROUND, Lifecycle, Step
    from gateway.http.models import ModelRoutes
    from gateway.http.rerank import RerankRoutes
    from gateway.http.tokens import TokenRoutes, check_countable, describe_counts, endpoint_of

__all__ = [
    "STALLED",
    "SURROUND",
    "Answers",
    "CacheRoutes",
    "ChatRoutes",
    "Drain",
    "EmbeddingRoutes",
    "EnvelopeRunner",
    "HealthRoutes",
    "Hosts",
    "ImageRoutes",
    "Journal",
    "Lifecycle",
    "ModelRoutes",
    "RerankRoutes",
    "ServerSettings",
    "Step",
    "TokenRoutes",
    "check_countable",
    "describe_counts",
    "endpoint_of",
    "guard",
    "meet_expectation",
]

__getattr__ = lazily(
    __name__,
    {
        "Answers": "answers",
        "CacheRoutes": "cache",
        "ChatRoutes": "chat",
        "Drain": "drain",
        "EmbeddingRoutes": "embeddings",
        "EnvelopeRunner": "connections",
        "HealthRoutes": "health",
        "Hosts": "hosts",
        "ImageRoutes": "images",
        "Journal": "journal",
        "Lifecycle": "lifecycle",
        "ModelRoutes": "models",
        "RerankRoutes": "rerank",
        "Step": "lifecycle",
        "TokenRoutes": "tokens",
        "check_countable": "tokens",
        "describe_counts": "tokens",
        "endpoint_of": "tokens",
        "guard": "access",
        "meet_expectation": "connections",
        "STALLED": "connections",
        "SURROUND": "lifecycle",
    },
)
