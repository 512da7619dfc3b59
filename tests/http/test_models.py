"""GET /v1/models and /v1/models/{id}."""

from __future__ import annotations

import time

import pytest
from yarl import URL

from tests.support.app import RunningGateway, make_config, running

NAMES = ["small", "embedding", "vendor/with-slash:7b", "auto"]
KEYS = [{"name": "app", "key": "sk-restricted", "models": ["small"]}]


async def test_the_list_has_every_alias_in_its_configured_order(gateway: RunningGateway) -> None:
    answer = await gateway.ask("GET", "/v1/models")

    assert answer.json["object"] == "list"
    assert [model["id"] for model in answer.json["data"]] == NAMES
    for model in answer.json["data"]:
        assert model["object"] == "model"
        assert model["owned_by"] == "up0"
        assert abs(model["created"] - time.time()) < 600


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("small", "small"),
        ("vendor/with-slash:7b", "vendor/with-slash:7b"),
        ("vendor%2Fwith-slash%3A7b", "vendor/with-slash:7b"),
        ("up0/spelled/out", "up0/spelled/out"),
        ("up0%2Fspelled%2Fout", "up0/spelled/out"),
    ],
)
async def test_one_model_is_found_with_its_slashes_raw_or_encoded(
    gateway: RunningGateway, path: str, name: str
) -> None:
    async with gateway.session.get(URL(f"{gateway.url}/v1/models/{path}", encoded=True)) as response:
        model = await response.json()

    assert response.status == 200
    assert (model["id"], model["object"]) == (name, "model")


@pytest.mark.parametrize("name", ["gpt-4o", "nobody/x", "small/", "x" * 5000])
async def test_an_unknown_model_is_not_found(gateway: RunningGateway, name: str) -> None:
    answer = await gateway.ask("GET", f"/v1/models/{name}")

    assert answer.status == 404
    assert (answer.error["code"], answer.error["param"]) == ("model_not_found", "model")


async def test_a_caller_sees_what_it_may_use() -> None:
    headers = {"Authorization": "Bearer sk-restricted"}
    async with running(make_config("http://127.0.0.1:9/v1", aliases=NAMES, keys=KEYS)) as restricted:
        listed = await restricted.ask("GET", "/v1/models", headers=headers)
        hidden = await restricted.ask("GET", "/v1/models/embedding", headers=headers)
        spelled = await restricted.ask("GET", "/v1/models/up0/model", headers=headers)

    assert [model["id"] for model in listed.json["data"]] == ["small"]
    assert (hidden.status, spelled.status) == (404, 404)
    assert hidden.error["code"] == "model_not_found"
