"""Asking for embeddings with the cache on, and what should come back."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Mapping
from struct import pack
from typing import Any

from .app import Answer, RunningGateway, make_config
from .upstream import ScriptedUpstream, make_vector

MEMORY = {"cache": {"disk": None, "redis": None}}


def make_caching(
    *upstreams: ScriptedUpstream,
    embeddings: Mapping[str, Any] | None = None,
    model: Mapping[str, Any] | None = None,
    deployment: Mapping[str, Any] | None = None,
    **more: Any,
) -> str:
    """Return a configuration that remembers embeddings, in memory alone unless `embeddings` says otherwise.

    `model` are further fields of the alias `embedding`, `deployment` of each of its deployments.
    """
    text = make_config(
        *upstreams, aliases=("embedding",), embeddings=MEMORY if embeddings is None else embeddings, **more
    )
    config = json.loads(text)
    route = config["models"]["embedding"]
    route |= dict(model or {})
    if deployment:
        route["deployments"] = [
            {"provider": f"up{index}", "model": "model", **deployment} for index in range(len(upstreams))
        ]
    return json.dumps(config)


async def embed(gateway: RunningGateway, given: Any, *, cache: str | None = None, **fields: Any) -> Answer:
    """Ask the alias `embedding` for vectors of `given`; `cache` is the header's text."""
    headers = {"Content-Type": "application/json"} | ({} if cache is None else {"x-gateway-cache": cache})
    key = fields.pop("key", None)
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    content = json.dumps({"model": "embedding", "input": given, **fields}).encode()
    return await gateway.ask("POST", "/v1/embeddings", data=content, headers=headers)


def vectors_of(answer: Answer) -> list[bytes]:
    """Return the vectors of a good answer as float32 bytes, whatever its encoding; their places must be right."""
    assert answer.status == 200, answer.body
    items = answer.json["data"]
    assert [item["index"] for item in items] == list(range(len(items)))
    return [
        b64decode(item["embedding"])
        if isinstance(item["embedding"], str)
        else pack(f"<{len(item['embedding'])}f", *item["embedding"])
        for item in items
    ]


def expected(*inputs: str | list[int], size: int = 8) -> list[bytes]:
    """Return what the scripted upstream gives for these inputs."""
    return [pack(f"<{size}f", *make_vector(item, size)) for item in inputs]


def asked(upstream: ScriptedUpstream) -> list[Any]:
    """Return the `input` of each request that reached the upstream."""
    return [request.json["input"] for request in upstream.requests]
