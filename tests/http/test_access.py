"""Every route but the public ones asks for a key, before anything else is looked at."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from tests.support.app import CHAT, RunningGateway, make_config, running
from tests.support.upstream import ScriptedUpstream

PUBLIC = {("GET", "/healthz"), ("HEAD", "/healthz"), ("GET", "/readyz"), ("HEAD", "/readyz")}
USER, VIEWER, ADMIN, NARROW = (
    "sk-user-0123456789",
    "sk-viewer-0123456789",
    "sk-admin-0123456789",
    "sk-narrow-0123456789",
)
KEYS = [
    {"name": "user", "key": USER},
    {"name": "viewer", "key": VIEWER, "role": "viewer"},
    {"name": "admin", "key": ADMIN, "role": "admin"},
    {"name": "narrow", "key": NARROW, "models": ["small"]},
]


@pytest.fixture
async def closed(upstream: ScriptedUpstream) -> AsyncIterator[RunningGateway]:
    """Serve `small` and `large` to callers with keys."""
    async with running(make_config(upstream, aliases=("small", "large"), keys=KEYS)) as gateway:
        yield gateway


def routes(application: web.Application) -> set[tuple[str, str]]:
    return {
        (route.method, route.resource.canonical.replace("{model}", "small"))
        for route in application.router.routes()
        if route.resource is not None
    }


async def test_every_route_but_the_public_ones_asks_for_a_key(closed: RunningGateway) -> None:
    found = routes(closed.application)

    for method, path in sorted(found - PUBLIC):
        answer = await closed.ask(method, path)
        assert (method, path, answer.status) == (method, path, 401)
        assert answer.error["code"] == "invalid_api_key"
    assert found >= PUBLIC
    assert len(found) > len(PUBLIC)


async def test_the_public_routes_are_these_only(closed: RunningGateway) -> None:
    for method, path in sorted(PUBLIC):
        assert (await closed.ask(method, path)).status == 200


TOKENS: dict[str, dict[str, str]] = {
    "none": {},
    "an empty bearer": {"Authorization": "Bearer "},
    "a wrong key": {"Authorization": "Bearer sk-wrong"},
    "a part of a key": {"Authorization": f"Bearer {USER[:-1]}"},
    "a key in another scheme": {"Authorization": f"Basic {USER}"},
    "a key without a scheme": {"Authorization": USER},
    "a good key behind a wrong one": {"Authorization": "Bearer sk-wrong", "x-api-key": USER},
    "a key as a cookie": {"Cookie": f"api-key={USER}"},
}


@pytest.mark.parametrize("name", TOKENS)
async def test_what_is_no_key_is_refused(closed: RunningGateway, name: str) -> None:
    answer = await closed.ask("POST", "/v1/chat/completions", json=CHAT, headers=TOKENS[name])

    assert answer.status == 401
    assert (answer.error["type"], answer.error["code"]) == ("authentication_error", "invalid_api_key")


async def test_a_key_in_the_url_is_refused(closed: RunningGateway) -> None:
    assert (await closed.ask("GET", f"/v1/models?key={USER}&api-key={USER}")).status == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {USER}"},
        {"Authorization": f"bearer  {USER} "},
        {"api-key": USER},
        {"x-api-key": USER},
    ],
    ids=["bearer", "lower case", "as Azure's clients send it", "as Anthropic's clients send it"],
)
async def test_a_key_is_taken_where_clients_put_it(closed: RunningGateway, headers: dict[str, str]) -> None:
    answer = await closed.ask("POST", "/v1/chat/completions", json=CHAT, headers=headers)

    assert answer.status == 200


async def test_wrong_and_missing_keys_never_echo_what_was_sent(closed: RunningGateway) -> None:
    answer = await closed.ask("GET", "/v1/models", headers={"Authorization": "Bearer sk-almost-secret"})

    assert b"sk-almost" not in answer.body


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"model": 1}', b"x" * 10_000], ids=["empty", "broken", "wrong", "nonsense"]
)
async def test_without_a_key_the_body_is_not_looked_at(closed: RunningGateway, content: bytes) -> None:
    answer = await closed.ask("POST", "/v1/chat/completions", data=content, headers={"Content-Type": "text/plain"})

    assert answer.status == 401


async def test_without_a_key_no_body_is_waited_for(closed: RunningGateway) -> None:
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"

    answer = await closed.send_raw(head + b"Content-Length: 1000000\r\n\r\n")

    assert answer.status == 401


ROLES = [
    ("POST", "/v1/chat/completions", {USER: 200, ADMIN: 200, VIEWER: 403}),
    ("POST", "/v1/completions", {USER: 400, ADMIN: 400, VIEWER: 403}),
    ("POST", "/v1/embeddings", {USER: 400, ADMIN: 400, VIEWER: 403}),
    ("GET", "/v1/models", {USER: 200, ADMIN: 200, VIEWER: 200}),
    ("GET", "/v1/models/small", {USER: 200, ADMIN: 200, VIEWER: 200}),
    ("GET", "/metrics", {USER: 403, ADMIN: 200, VIEWER: 200}),
]


@pytest.mark.parametrize(("method", "path", "expected"), ROLES)
async def test_each_role_may_do_its_own(
    closed: RunningGateway, method: str, path: str, expected: dict[str, int]
) -> None:
    request = {"json": CHAT} if method == "POST" else {}

    got = {
        key: (await closed.ask(method, path, headers={"Authorization": f"Bearer {key}"}, **request)).status
        for key in expected
    }

    assert got == expected


async def test_a_role_that_may_not_is_told_so(closed: RunningGateway) -> None:
    answer = await closed.post("chat/completions", key=VIEWER)

    assert (answer.error["type"], answer.error["code"]) == ("permission_error", "role_not_allowed")


async def test_a_key_may_use_its_own_models_only(closed: RunningGateway, upstream: ScriptedUpstream) -> None:
    own = await closed.post("chat/completions", key=NARROW)
    other = await closed.post("chat/completions", key=NARROW, model="large")
    spelled = await closed.post("chat/completions", key=NARROW, model="up0/model")

    assert (own.status, other.status, spelled.status) == (200, 403, 403)
    assert (other.error["type"], other.error["code"]) == ("permission_error", "model_not_allowed")
    assert len(upstream.requests) == 1


async def test_without_keys_everything_is_open(gateway: RunningGateway) -> None:
    statuses = {
        path: (await gateway.ask("GET", path)).status for path in ("/v1/models", "/v1/models/small", "/metrics")
    }

    assert set(statuses.values()) == {200}
    assert (await gateway.chat()).status == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "LOCALHOST", "::1"])
async def test_t14_an_open_gateway_knows_its_own_names_only(upstream: ScriptedUpstream, host: str) -> None:
    async with running(make_config(upstream, server={"host": host})) as gateway:
        rebound = await gateway.ask("GET", "/v1/models", headers={"Host": "evil.example"})

        assert (rebound.status, rebound.error["code"]) == (421, "unknown_host")
        assert (await gateway.ask("GET", "/v1/models")).status == 200
