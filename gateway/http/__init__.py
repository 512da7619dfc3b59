"""Everything that knows aiohttp.web: one file per family of endpoints, and what surrounds them."""

from gateway.http.answers import Answers
from gateway.http.chat import ChatRoutes
from gateway.http.connections import EnvelopeRunner, meet_expectation
from gateway.http.drain import Drain
from gateway.http.embeddings import EmbeddingRoutes
from gateway.http.guard import guard
from gateway.http.health import HealthRoutes
from gateway.http.journal import Journal
from gateway.http.middlewares import check_host, observe, render_errors
from gateway.http.models import ModelRoutes
from gateway.http.settings import ServerSettings

__all__ = [
    "Answers",
    "ChatRoutes",
    "Drain",
    "EmbeddingRoutes",
    "EnvelopeRunner",
    "HealthRoutes",
    "Journal",
    "ModelRoutes",
    "ServerSettings",
    "check_host",
    "guard",
    "meet_expectation",
    "observe",
    "render_errors",
]
