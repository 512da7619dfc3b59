"""POST /v1/completions, the legacy text completion."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.app import RunningGateway
from tests.support.contract import read_chunks
from tests.support.upstream import Completion, ScriptedUpstream

REQUEST = {"model": "small", "prompt": "Once"}


@pytest.mark.parametrize(
    "prompt", ["Once", ["a", "b"], [1, 2, 3], [[1, 2], [3]]], ids=["text", "texts", "ids", "lists"]
)
async def test_every_form_of_prompt_is_answered(
    gateway: RunningGateway, upstream: ScriptedUpstream, prompt: Any
) -> None:
    answer = await gateway.post("completions", {**REQUEST, "prompt": prompt, "suffix": "end", "echo": None})

    assert answer.status == 200
    assert answer.json["object"] == "text_completion"
    assert upstream.requests[0].path == "/v1/completions"
    assert upstream.requests[0].json == {"model": "model", "prompt": prompt, "suffix": "end", "echo": None}


@pytest.mark.parametrize("asked", [False, True])
async def test_a_stream_ends_with_done_and_has_usage_only_when_asked(
    gateway: RunningGateway, upstream: ScriptedUpstream, asked: bool
) -> None:
    upstream.script(Completion(("Hel", "lo")))
    options = {"stream_options": {"include_usage": True}} if asked else {}

    answer = await gateway.post("completions", {**REQUEST, "stream": True, **options})

    chunks = read_chunks(answer.events)
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert answer.events[-1] == "[DONE]"
    assert "".join(choice["text"] for choice in choices) == "Hello"
    assert choices[-1]["finish_reason"] == "stop"
    assert [bool(chunk.get("usage")) for chunk in chunks] == [False] * (len(chunks) - 1) + [asked]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": "small"}, "prompt"),
        ({"model": "small", "prompt": None}, "prompt"),
        ({"model": "small", "prompt": {"a": 1}}, "prompt"),
        ({"model": "small", "prompt": ["a", 1]}, "prompt[1]"),
        ({"prompt": "a"}, "model"),
    ],
)
async def test_a_mistake_names_its_field(gateway: RunningGateway, body: dict[str, Any], param: str) -> None:
    answer = await gateway.post("completions", body)

    assert answer.status == 400
    assert answer.error["param"] == param
