"""GET /healthz and /readyz: is it alive, can it serve."""

from __future__ import annotations

import json

import pytest

from gateway.app import DRAIN
from tests.support.app import RunningGateway, make_config, running
from tests.support.upstream import ScriptedUpstream, Status

LOCAL = json.dumps(
    {
        "auth": {"keys": [{"name": "ops", "key": "sk-ops-0123456789", "role": "viewer"}]},
        "providers": {"local": {"kind": "llamacpp", "models": {"tiny": {"path": "tiny.gguf"}}}},
        "models": {"small": {"deployments": ["local/tiny"]}},
    }
)


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_health_is_public_and_answers_head(gateway: RunningGateway, path: str) -> None:
    got = await gateway.ask("GET", path)
    head = await gateway.ask("HEAD", path)

    assert (got.status, head.status) == (200, 200)
    assert got.json["status"] in ("ok", "ready")
    assert head.body == b""
    assert head.headers["Content-Length"] == str(len(got.body))


async def test_a_model_that_is_not_running_makes_it_unready_but_alive() -> None:
    async with running(LOCAL) as gateway:
        alive = await gateway.ask("GET", "/healthz")
        ready = await gateway.ask("GET", "/readyz")
        told = await gateway.ask("GET", "/readyz", headers={"Authorization": "Bearer sk-ops-0123456789"})

    assert alive.status == 200
    assert (ready.status, ready.json) == (503, {"status": "not ready"})
    assert told.json["aliases"] == ["small"]


async def test_a_local_model_that_is_not_running_is_told_with_its_reason() -> None:
    text = LOCAL.replace('"role": "viewer"', '"role": "user"')
    async with running(text) as gateway:
        answer = await gateway.post("chat/completions", key="sk-ops-0123456789")

    assert answer.status == 503
    assert answer.error["code"] == "local_model_unavailable"
    assert "it is being loaded" in answer.error["message"]
    assert answer.headers["Retry-After"] == "1"


async def test_while_it_drains_it_is_not_ready_but_alive(gateway: RunningGateway) -> None:
    gateway.application[DRAIN].begin()

    ready = await gateway.ask("GET", "/readyz")
    alive = await gateway.ask("GET", "/healthz")

    assert (ready.status, ready.json) == (503, {"status": "draining"})
    assert alive.status == 200


async def test_hosted_providers_are_taken_at_their_word() -> None:
    async with running(make_config("http://127.0.0.1:9/v1")) as gateway:
        assert (await gateway.ask("GET", "/readyz")).status == 200


KEYS = [
    {"name": "ops", "key": "sk-ops-0123456789", "role": "viewer"},
    {"name": "one", "key": "sk-one-0123456789", "models": ["small"]},
    {"name": "other", "key": "sk-other-0123456789", "models": ["large", "up0/made-up"]},
]


async def test_who_is_not_well_is_told_to_those_whom_it_concerns(upstream: ScriptedUpstream) -> None:
    upstream.otherwise = Status(404, code="model_not_found")
    async with running(make_config(upstream, aliases=("small",), keys=KEYS)) as gateway:
        for model, name in (("small", "one"), ("up0/made-up", "other")):
            await gateway.post("chat/completions", key=f"sk-{name}-0123456789", model=model)
        told = {
            name: (
                await gateway.ask("GET", "/readyz", headers={"Authorization": f"Bearer sk-{name}-0123456789"})
            ).json.get("deployments", [])
            for name in ("ops", "one", "other")
        }

    names = {who: [each["deployment"] for each in unwell] for who, unwell in told.items()}
    assert names == {"ops": ["up0/model"], "one": ["up0/model"], "other": []}
    assert (told["one"][0]["state"], told["one"][0]["reason"]) == ("resting", "upstream_model_not_found")
