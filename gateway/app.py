"""The composition root: builds every room once and lists every route on this page."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from aiohttp import web

from gateway import logs
from gateway.auth import KeyRing
from gateway.cache import Tiers, build_tiers
from gateway.call import Role
from gateway.config import Config, is_loopback, resolve
from gateway.dispatch import (
    ChatDispatcher,
    EmbeddingDispatcher,
    Errands,
    Fitting,
    Flights,
    ImageDispatcher,
    RerankDispatcher,
    Terms,
    TokenCounts,
    Tokenizers,
)
from gateway.http import (
    STALLED,
    SURROUND,
    Answers,
    CacheRoutes,
    ChatRoutes,
    Drain,
    EmbeddingRoutes,
    HealthRoutes,
    Hosts,
    ImageRoutes,
    Journal,
    Lifecycle,
    ModelRoutes,
    RerankRoutes,
    Step,
    TokenRoutes,
    guard,
    meet_expectation,
)
from gateway.logs import LogSink
from gateway.metrics import Metrics
from gateway.providers import (
    Crashes,
    LiteLLM,
    LiteLLMSettings,
    LlamaCpp,
    LlamaCppSettings,
    LocalModel,
    Manners,
    OpenAISettings,
    OpenAIWire,
    Provider,
)
from gateway.routing import ChatCounters, Deployment, Failover, Healths, Refusals, RouteTable, State, Windows
from gateway.rundir import model_socket, model_status, model_trouble, read_status
from gateway.tokens import Encodings

DRAIN: web.AppKey[Drain] = web.AppKey("drain", Drain)

ProviderSettings = OpenAISettings | LiteLLMSettings | LlamaCppSettings
PUBLISH_SECONDS = 1.0
LOCAL_GATHERING_SECONDS = 0.002  # small requests to a local model wait for others, which it answers together
CALLERS: frozenset[Role] = frozenset({"user", "admin"})
READERS: frozenset[Role] = frozenset({"user", "admin", "viewer"})
ADMINS: frozenset[Role] = frozenset({"admin"})
OPERATORS: frozenset[Role] = frozenset({"admin", "viewer"})


@dataclass(frozen=True, slots=True)
class Rooms:
    """Everything that lives as long as the process."""

    ring: KeyRing
    chat: ChatRoutes
    embeddings: EmbeddingRoutes
    images: ImageRoutes
    rerank: RerankRoutes
    tokens: TokenRoutes
    models: ModelRoutes
    cache: CacheRoutes
    health: HealthRoutes


def routes(rooms: Rooms) -> list[tuple[str, str, Step]]:
    """Return every route there is: method, path, handler. What is not behind `closed` is public."""
    closed = partial(guard, ring=rooms.ring)
    return [
        ("GET", "/healthz", rooms.health.alive),
        ("HEAD", "/healthz", rooms.health.alive),
        ("GET", "/readyz", rooms.health.ready),
        ("HEAD", "/readyz", rooms.health.ready),
        ("GET", "/metrics", closed(rooms.health.metrics, roles=OPERATORS)),
        ("POST", "/v1/chat/completions", closed(rooms.chat.chat, roles=CALLERS)),
        ("POST", "/v1/completions", closed(rooms.chat.complete, roles=CALLERS)),
        ("POST", "/v1/embeddings", closed(rooms.embeddings.embed, roles=CALLERS)),
        ("POST", "/v1/images/generations", closed(rooms.images.generate, roles=CALLERS)),
        ("POST", "/v1/rerank", closed(rooms.rerank.rank, roles=CALLERS)),
        ("POST", "/v1/tokens/count", closed(rooms.tokens.count, roles=CALLERS)),
        ("GET", "/admin/cache", closed(rooms.cache.show, roles=OPERATORS)),
        ("DELETE", "/admin/cache", closed(rooms.cache.clear, roles=ADMINS)),
        ("GET", "/v1/models", closed(rooms.models.list, roles=READERS)),
        ("GET", "/v1/models/{model:.+}", closed(rooms.models.retrieve, roles=READERS)),
    ]


def build(
    config: Config,
    *,
    run_dir: Path,
    clock: Callable[[], float] = time.monotonic,
    dice: Callable[[], float] = random.random,
    now: Callable[[], float] = time.time,
) -> web.Application:
    """Return the application of one worker process; sockets are opened by whoever runs it.

    `run_dir` is where model processes listen. `clock` gives monotonic seconds, `dice` numbers in [0, 1), `now` Unix
    seconds.
    """
    resolved, server = resolve(config), config.server
    drain = Drain()
    metrics = Metrics(partial(_restarts, resolved.providers, run_dir))
    # The unbuffered file below standard error: a writer that a slow reader holds up must not hold up the end as well.
    sink = LogSink(getattr(sys.stderr.buffer, "raw", sys.stderr.buffer), config.secrets())
    journal = Journal(metrics, sink)
    ring = KeyRing(config.auth.keys)
    crashes = Crashes(clock)
    providers = {name: make_provider(name, entry, run_dir, crashes) for name, entry in resolved.providers.items()}
    table = RouteTable(resolved.plan, providers)
    healths = Healths(clock, dice, config.failover, partial(_tell, metrics))
    encodings = Encodings()
    tokenizers = Tokenizers(encodings)
    failover = _make_failover(config, healths, Windows(ChatCounters(encodings, tokenizers.own)), clock, metrics)
    answers = Answers(drain, clock)
    cache = config.embeddings.cache
    tiers = build_tiers(cache, config.redis, server.data_dir, metrics.cache, now=now, dice=dice) if cache else None
    flights = Flights()
    remember = (lambda *_: None) if tiers is None else tiers.remember
    errands = Errands(failover, Fitting(tokenizers.of), flights, remember, _make_terms(config, now))
    rooms = Rooms(
        ring=ring,
        chat=ChatRoutes(ChatDispatcher(table, failover), answers),
        embeddings=EmbeddingRoutes(
            EmbeddingDispatcher(
                table, tiers, flights, errands, now, is_shared=cache is None or cache.scope == "shared"
            ),
            answers,
        ),
        images=ImageRoutes(ImageDispatcher(table, failover), answers),
        rerank=RerankRoutes(RerankDispatcher(table, failover), answers),
        tokens=TokenRoutes(TokenCounts(table, encodings, partial(tokenizers.loaded, run_dir))),
        models=ModelRoutes(table, created=int(time.time())),
        cache=CacheRoutes(tiers),
        health=HealthRoutes(table, healths, metrics, journal, ring, drain),
    )
    hosts = Hosts(server.allowed_hosts, any_name=not is_loopback(server.host) and not server.allowed_hosts)
    application = web.Application(client_max_size=server.max_body_mb * 1024 * 1024)
    exact = {(method, path): handler for method, path, handler in routes(rooms) if "{" not in path}
    for method, path, handler in routes(rooms):
        application.router.add_route(method, path, handler, expect_handler=meet_expectation)
    application[SURROUND] = Lifecycle(journal, hosts, drain, clock, exact).around
    application[STALLED] = metrics.count_slow_client
    application[DRAIN] = drain
    application.cleanup_ctx.append(
        partial(_lifetimes, providers=providers, metrics=metrics, healths=healths, journal=journal, sink=sink)
    )
    application.cleanup_ctx.append(partial(_remembering, errands=errands, tiers=tiers))
    return application


def _make_failover(
    config: Config, healths: Healths, windows: Windows, clock: Callable[[], float], metrics: Metrics
) -> Failover:
    return Failover(
        healths,
        Refusals(),
        clock,
        retry_budget=config.failover.retry_budget,
        spent=metrics.count_spent_budget,
        windows=windows,
    )


def _make_terms(config: Config, now: Callable[[], float]) -> Terms:
    settings = config.embeddings
    told = None if settings.coalesce_ms is None else settings.coalesce_ms / 1000

    def gathering(deployment: Deployment) -> float:
        if told is not None:
            return told
        return LOCAL_GATHERING_SECONDS if isinstance(deployment.provider, LlamaCpp) else 0.0

    return Terms(gathering, settings.parallel, now)


async def _remembering(_application: web.Application, *, errands: Errands, tiers: Tiers | None) -> AsyncIterator[None]:
    if tiers is not None:
        tiers.start()
    yield
    await errands.close()
    if tiers is not None:
        await tiers.close()


def _restarts(entries: Mapping[str, ProviderSettings], run_dir: Path) -> Iterator[tuple[str, int]]:
    """Yield how often each local model's process was started again, by deployment."""
    for name, entry in entries.items():
        if isinstance(entry, LlamaCppSettings):
            for model in entry.models:
                yield f"{name}/{model}", read_status(model_status(run_dir, name, model)).restarts


def make_provider(name: str, entry: ProviderSettings, run_dir: Path, crashes: Crashes | None = None) -> Provider:
    """Return the provider that a configuration entry describes; `crashes` are those of all local models."""
    if isinstance(entry, LiteLLMSettings):
        return LiteLLM(name, entry)
    if isinstance(entry, OpenAISettings):
        return OpenAIWire(
            name,
            entry.base_url,
            api_key=entry.api_key.get_secret_value(),
            headers={header: value.get_secret_value() for header, value in entry.headers.items()},
            manners=Manners(entry.streams_usage, entry.embeds_base64),
        )
    return LlamaCpp(
        name,
        {
            model: LocalModel(
                socket=model_socket(run_dir, name, model),
                trouble=partial(model_trouble, model_status(run_dir, name, model)),
                is_embedding=settings.embedding,
                max_wait=settings.max_wait_seconds,
                state=partial(_state_of, model_status(run_dir, name, model)),
            )
            for model, settings in entry.models.items()
        },
        crashes,
    )


def _state_of(status: Path) -> str:
    return read_status(status).state


def _tell(metrics: Metrics, deployment: str, before: State, state: State, reason: str) -> None:
    """Write down that a deployment's state changed."""
    metrics.note_state(deployment, state, reason)
    logs.event(
        "deployment",
        level="info" if state in ("closed", "half_open") else "warning",
        deployment=deployment,
        state=state,
        before=before,
        reason=reason,
    )


async def _lifetimes(
    _application: web.Application,
    *,
    providers: Mapping[str, Provider],
    metrics: Metrics,
    healths: Healths,
    journal: Journal,
    sink: LogSink,
) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(_publish(metrics, healths)), asyncio.create_task(metrics.loop.watch())]
    # Importing litellm takes seconds: it is done beside the first requests, which only its own calls wait for.
    tasks += [asyncio.create_task(lane.prepare()) for lane in providers.values() if isinstance(lane, LiteLLM)]
    yield
    for task in tasks:
        task.cancel()
    for provider in providers.values():
        await provider.close()
    journal.write()
    sink.close()


async def _publish(metrics: Metrics, healths: Healths) -> None:
    while True:
        metrics.set_states(healths.states())
        metrics.publish()
        await asyncio.sleep(PUBLISH_SECONDS)
