"""POST /v1/tokens/count for models that run on this machine: their own processes count."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import openai

from tests.support.command import Gateway

MESSAGES: Any = [
    {"role": "system", "content": "Answer in one word."},
    {"role": "user", "content": "Which colour has the sky at noon? 漢字 and naïve café, 12345!"},
]


def count(gateway: Gateway, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{gateway.api_url}/tokens/count", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        (told,) = json.load(answer)["deployments"]
        return dict(told)


def test_a_loaded_model_counts_a_chat_about_as_it_reads_it(gateway: Gateway, client: openai.OpenAI) -> None:
    answered = client.chat.completions.create(model="small", messages=MESSAGES, max_tokens=1)
    assert answered.usage is not None

    told = count(gateway, {"model": "small", "messages": MESSAGES, "max_tokens": 1})

    assert (told["encoding"], told["margin"], told["fits"]) == ("model's own", 0.0, True)
    around = 3 * len(MESSAGES)  # what its template puts around a message is not known outside of its process
    assert abs(told["tokens"]["total"] - answered.usage.prompt_tokens) <= around
    assert told["input_limit"] == told["context_window"] - 1 - 32 - len(MESSAGES)  # for what a template may write


def test_a_loaded_model_counts_inputs_as_it_reads_them(gateway: Gateway, client: openai.OpenAI) -> None:
    inputs = ["a short text", "漢字 and naïve café, 12345! " * 10]
    answered = client.embeddings.create(model="embedding", input=inputs)

    told = count(gateway, {"model": "embedding", "input": inputs})

    assert told["encoding"] == "model's own"
    assert told["tokens"]["total"] == answered.usage.prompt_tokens
