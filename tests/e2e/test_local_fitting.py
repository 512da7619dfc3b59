"""Conversations over the window of a real model: its own process counts, what is sent fits, the caller is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.support.command import Gateway, serving

WINDOW = 512
FACT = "Note {number}: the owl of the old mill sleeps in box {number}, and nobody knows why it does."


@pytest.fixture(scope="module")
def narrow(chat_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Serve `small` by a real model with a window of which only its process knows."""
    directory = tmp_path_factory.mktemp("narrow")
    entry = f'{{path: "{chat_gguf.resolve()}", classes: [small], context_window: {WINDOW}, parallel: 1}}'
    yaml = f"providers: {{local: {{kind: llamacpp, models: {{tiny: {entry}}}}}}}\n"
    with serving(yaml, directory) as gateway:
        gateway.wait_for(lambda: gateway.get("/readyz")[0] == 200)
        yield gateway


@pytest.fixture
def asker(narrow: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=narrow.api_url, api_key="any", max_retries=0, timeout=60) as client:
        yield client


def talk(turns: int, *, system: bool = True) -> Any:
    exchanges = [
        {"role": role, "content": FACT.format(number=number)}
        for number in range(turns)
        for role in ("user", "assistant")
    ]
    first = [{"role": "system", "content": "Be brief."}] if system else []
    return [*first, *exchanges, {"role": "user", "content": "Say hello."}]


@pytest.mark.parametrize("system", [True, False], ids=["system", "none"])
def test_a_conversation_over_the_window_is_answered_without_its_oldest_turns(
    asker: openai.OpenAI, *, system: bool
) -> None:
    raw = asker.chat.completions.with_raw_response.create(
        model="small", messages=talk(20, system=system), max_tokens=16
    )
    answer = raw.parse()

    assert int(raw.headers["x-gateway-truncated"]) > 300
    assert raw.headers["x-gateway-attempts"] == "1"
    assert answer.usage is not None
    assert WINDOW * 0.7 < answer.usage.prompt_tokens <= WINDOW - 16


def test_it_is_refused_where_the_caller_wants_all_of_it_or_nothing(asker: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        asker.chat.completions.create(
            model="small", messages=talk(20), max_tokens=16, extra_headers={"x-gateway-truncation": "refuse"}
        )

    assert refused.value.code == "context_length_exceeded"
    assert f"maximum context length is {WINDOW} tokens" in refused.value.message


def test_a_longest_answer_over_the_window_is_lowered(asker: openai.OpenAI) -> None:
    raw = asker.chat.completions.with_raw_response.create(
        model="small", messages=talk(0), max_tokens=1_000_000, stop=["."], temperature=0
    )

    assert WINDOW * 0.8 < int(raw.headers["x-gateway-max-tokens"]) < WINDOW
    assert "x-gateway-truncated" not in raw.headers
