"""POST /v1/embeddings."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.app import RunningGateway, running
from tests.support.embedding import expected, vectors_of
from tests.support.upstream import ScriptedUpstream, Status

INPUTS: dict[str, tuple[Any, list[Any]]] = {
    "a text": ("a text", ["a text"]),
    "texts": (["one", "zwei", "三"], ["one", "zwei", "三"]),
    "token ids": ([1, 2, 3], [[1, 2, 3]]),
    "lists of token ids": ([[1, 2], [3]], [[1, 2], [3]]),
    "the same twice": (["a", "a"], ["a", "a"]),
    "as many as OpenAI takes": (["a"] * 2048, ["a"] * 2048),
}


@pytest.mark.parametrize("name", INPUTS)
async def test_every_form_of_input_is_embedded_in_its_order(gateway: RunningGateway, name: str) -> None:
    given, items = INPUTS[name]

    answer = await gateway.post("embeddings", {"model": "embedding", "input": given})

    assert answer.status == 200
    assert answer.json["object"] == "list"
    assert vectors_of(answer) == expected(*items)


async def test_base64_holds_the_same_numbers_as_float(gateway: RunningGateway) -> None:
    body = {"model": "embedding", "input": ["one", "two"]}

    floats = await gateway.post("embeddings", {**body, "encoding_format": "float"})
    packed = await gateway.post("embeddings", {**body, "encoding_format": "base64"})

    assert vectors_of(packed) == vectors_of(floats)


async def test_dimensions_and_other_fields_travel_on(gateway: RunningGateway, upstream: ScriptedUpstream) -> None:
    body = {"model": "embedding", "input": "a", "dimensions": 3, "user": "u", "input_type": "query"}

    answer = await gateway.post("embeddings", body)

    assert len(answer.json["data"][0]["embedding"]) == 3
    assert upstream.requests[0].json == {**body, "model": "model", "encoding_format": "base64"}


async def test_a_stream_field_means_nothing_here(gateway: RunningGateway) -> None:
    answer = await gateway.post("embeddings", {"model": "embedding", "input": "a", "stream": True})

    assert answer.json["object"] == "list"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "input"),
        ({"input": None}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": ["a", None]}, "input[1]"),
        ({"input": [1, "a"]}, "input[1]"),
        ({"input": [1, -1]}, "input[1]"),
        ({"input": [[1], []]}, "input[1]"),
        ({"input": [1, 2**31]}, "input[1]"),
        ({"input": [[1], [2, -1]]}, "input[1][1]"),
        ({"input": [1.5]}, "input[0]"),
        ({"input": [[]]}, "input[0]"),
        ({"input": [True]}, "input[0]"),
        ({"input": 1}, "input"),
        ({"input": [[1]] * 2049}, "input"),
        ({"input": {"a": 1}}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "dimensions": -1}, "dimensions"),
        ({"input": "a", "dimensions": 1.5}, "dimensions"),
        ({"input": "a", "dimensions": True}, "dimensions"),
        ({"input": "a", "dimensions": "3"}, "dimensions"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
        ({"input": "a", "model": 1}, "model"),
        ({"input": "a", "model": ""}, "model"),
    ],
)
async def test_a_mistake_names_its_field(
    gateway: RunningGateway, upstream: ScriptedUpstream, fields: dict[str, Any], param: str
) -> None:
    answer = await gateway.post("embeddings", {"model": "embedding", **fields})

    assert answer.status == 400
    assert answer.error["param"] == param
    assert answer.error["type"] == "invalid_request_error"
    assert upstream.requests == []


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
async def test_numbers_that_are_none_are_refused(
    gateway: RunningGateway, upstream: ScriptedUpstream, number: bytes
) -> None:
    content = b'{"model": "embedding", "input": [1, %b]}' % number

    answer = await gateway.ask("POST", "/v1/embeddings", data=content, headers={"Content-Type": "application/json"})

    assert answer.status == 400
    assert answer.error["type"] == "invalid_request_error"
    assert upstream.requests == []


async def test_vectors_never_come_from_another_model_whatever_the_alias(upstream: ScriptedUpstream) -> None:
    upstream.script(Status(500), Status(500), Status(500))
    provider = {"kind": "openai", "base_url": upstream.base_url}
    deployments = [
        "up/maker/e-1",
        "up/e-2",
        {"provider": "up", "model": "e-1", "settings": {"dimensions": 8}},
        {"provider": "up", "model": "e-1", "settings": {"input_type": "query"}},
        "up/E-1",
    ]
    text = json.dumps({"providers": {"up": provider}, "models": {"vectors": {"deployments": deployments}}})

    async with running(text) as gateway:
        answer = await gateway.post("embeddings", {"model": "vectors", "input": "a"})

    assert answer.status == 502
    assert [request.json["model"] for request in upstream.requests] == ["maker/e-1", "E-1"]
