"""POST /v1/tokens/count: what is not counted, because it is no request that is answered here, or not for this caller."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.app import MESSAGES, RunningGateway, make_config, running
from tests.support.upstream import ScriptedUpstream


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"model": "small"}, "messages", "missing_required_parameter"),
        ({"model": "small", "query": "cats", "documents": ["a"]}, "messages", "missing_required_parameter"),
        ({"model": "small", "messages": None}, "messages", "missing_required_parameter"),
        ({"messages": MESSAGES}, "model", "missing_required_parameter"),
        ({"model": "small", "messages": [{"role": "judge", "content": "x"}]}, "messages[0].role", "invalid_value"),
        ({"model": "small", "messages": MESSAGES, "max_tokens": -1}, "max_tokens", "integer_below_min_value"),
        ({"model": "small", "prompt": 7}, "prompt", "invalid_type"),
        ({"model": "embedding", "input": []}, "input", "empty_array"),
        ({"model": "small", "messages": MESSAGES, "api_base": "http://x"}, "api_base", "unknown_parameter"),
        ({"model": "small", "messages": MESSAGES, "cache": {}}, "cache", "unknown_parameter"),
    ],
)
async def test_what_is_no_such_request_is_refused_with_its_field(
    gateway: RunningGateway, body: dict[str, Any], param: str, code: str
) -> None:
    answer = await gateway.post("tokens/count", body)

    assert answer.status == 400
    assert (answer.error["param"], answer.error["code"]) == (param, code)


async def test_a_key_counts_for_the_names_it_may_use_only(upstream: ScriptedUpstream) -> None:
    keys: list[dict[str, Any]] = [
        {"name": "app", "key": "sk-app-0123456789", "models": ["small"]},
        {"name": "eye", "key": "sk-eye-0123456789", "role": "viewer"},
    ]
    body = {"model": "small", "messages": MESSAGES}
    async with running(make_config(upstream, aliases=("small", "other"), keys=keys)) as gateway:
        statuses = [
            (await gateway.post("tokens/count", {**body, "model": model}, key=key)).status
            for model, key in (
                ("small", "sk-app-0123456789"),
                ("other", "sk-app-0123456789"),
                ("nothing", "sk-app-0123456789"),
                ("small", "sk-eye-0123456789"),
                ("small", "sk-wrong"),
            )
        ]

    assert statuses == [200, 403, 404, 403, 401]
