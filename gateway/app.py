"""The composition root: builds every room once and lists every route and middleware on this page."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from aiohttp import web

from gateway.auth import KeyRing
from gateway.call import Role
from gateway.config import Config, resolve
from gateway.dispatch import ChatDispatcher, EmbeddingDispatcher
from gateway.http import (
    ChatRoutes,
    Drain,
    EmbeddingRoutes,
    HealthRoutes,
    ModelRoutes,
    check_host,
    guard,
    observe,
    render_errors,
)
from gateway.logs import LogSink
from gateway.metrics import Metrics
from gateway.providers import LlamaCpp, LlamaCppSettings, LocalModel, OpenAISettings, OpenAIWire, Provider
from gateway.routing import Failover, Health, RouteTable
from gateway.rundir import model_socket, model_status, model_trouble

DRAIN: web.AppKey[Drain] = web.AppKey("drain", Drain)

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
CALLERS: frozenset[Role] = frozenset({"user", "admin"})
READERS: frozenset[Role] = frozenset({"user", "admin", "viewer"})
OPERATORS: frozenset[Role] = frozenset({"admin", "viewer"})


@dataclass(frozen=True, slots=True)
class Rooms:
    """Everything that lives as long as the process."""

    ring: KeyRing
    chat: ChatRoutes
    embeddings: EmbeddingRoutes
    models: ModelRoutes
    health: HealthRoutes


def routes(rooms: Rooms) -> list[web.RouteDef]:
    """Return every route there is. What is not behind `closed` is public."""
    closed = partial(guard, ring=rooms.ring)
    return [
        web.get("/healthz", rooms.health.alive, allow_head=True),
        web.get("/readyz", rooms.health.ready, allow_head=True),
        web.get("/metrics", closed(rooms.health.metrics, roles=OPERATORS), allow_head=False),
        web.post("/v1/chat/completions", closed(rooms.chat.chat, roles=CALLERS)),
        web.post("/v1/completions", closed(rooms.chat.complete, roles=CALLERS)),
        web.post("/v1/embeddings", closed(rooms.embeddings.embed, roles=CALLERS)),
        web.get("/v1/models", closed(rooms.models.list, roles=READERS), allow_head=False),
        web.get("/v1/models/{model:.+}", closed(rooms.models.retrieve, roles=READERS), allow_head=False),
    ]


def build(
    config: Config,
    *,
    run_dir: Path,
    clock: Callable[[], float] = time.monotonic,
    log_stream: object = None,
) -> web.Application:
    """Return the application of one worker process; nothing is opened before it runs."""
    resolved = resolve(config)
    drain = Drain()
    metrics = Metrics()
    ring = KeyRing(config.auth.keys)
    providers = make_providers(config, run_dir)
    table = RouteTable(resolved.plan, providers)
    failover = Failover(Health(clock), clock)
    rooms = Rooms(
        ring=ring,
        chat=ChatRoutes(ChatDispatcher(table, failover), drain),
        embeddings=EmbeddingRoutes(EmbeddingDispatcher(table, failover), drain),
        models=ModelRoutes(table, created=int(time.time())),
        health=HealthRoutes(table, metrics, ring, drain),
    )
    sink = LogSink(sys.stderr.buffer, config.secrets())
    server = config.server
    application = web.Application(
        client_max_size=server.max_body_mb * 1024 * 1024,
        middlewares=[
            observe(metrics, sink),
            render_errors,
            check_host(server.allowed_hosts, any_name=server.host not in LOOPBACK and not server.allowed_hosts),
        ],
    )
    application.add_routes(routes(rooms))
    application[DRAIN] = drain
    application.cleanup_ctx.append(partial(_lifetimes, providers=providers, sink=sink))
    return application
