"""What is said besides the conversation on wires of their own: the room that thinking and an answer share."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.providers.litellm_fields import fit_budget

HAIKU = "bedrock/anthropic.claude-haiku-4-5-20251001-v1:0"
THINKING = {"type": "enabled", "budget_tokens": 1024}


def fitted(model: str, thinking: Any = THINKING, limit: int | None = None, **fields: Any) -> dict[str, Any]:
    made = {"model": model, "reasoning_effort": "low", **fields}
    fit_budget(made, thinking, limit)
    return {name: value for name, value in made.items() if name != "model"}


@pytest.mark.parametrize(("model", "longest"), [(HAIKU, 64_000), ("bedrock/arn:aws:bedrock:claude/x", 32_000)])
def test_an_answer_that_nobody_limits_is_not_cut_behind_its_thinking(model: str, longest: int) -> None:
    assert fitted(model) == {"reasoning_effort": "low", "max_tokens": longest}


LIMITED: list[tuple[int, dict[str, Any]]] = [
    (100_000, {"reasoning_effort": "low", "max_tokens": 64_000}),
    (2000, {"reasoning_effort": "low", "max_tokens": 2000}),
    (1024, {"max_tokens": 1024}),
]


@pytest.mark.parametrize(("limit", "expected"), LIMITED)
def test_an_answer_that_no_caller_limits_is_no_longer_than_its_deployment_lets_it_be(
    limit: int, expected: dict[str, Any]
) -> None:
    assert fitted(HAIKU, limit=limit) == expected


def test_thinking_is_made_to_fit_into_the_deployments_limit() -> None:
    made = fitted(HAIKU, {"budget_tokens": 4096}, limit=3000)

    assert made == {"max_tokens": 3000, "thinking": {"type": "enabled", "budget_tokens": 1500}}


@pytest.mark.parametrize("thinking", [None, {"type": "adaptive"}])
def test_thinking_without_a_budget_needs_no_limit(thinking: Any) -> None:
    assert fitted(HAIKU, thinking) == {"reasoning_effort": "low"}


@pytest.mark.parametrize(
    ("longest", "expected"),
    [
        (2000, {"reasoning_effort": "low"}),
        (1024, {}),
        (500, {}),
    ],
)
@pytest.mark.parametrize("word", ["max_tokens", "max_completion_tokens"])
def test_a_limit_of_the_caller_is_kept(word: str, longest: int, expected: dict[str, Any]) -> None:
    assert fitted(HAIKU, **{word: longest}) == {word: longest, **expected}


def test_thinking_is_made_to_fit_where_some_of_it_can() -> None:
    assert fitted(HAIKU, {"budget_tokens": 4096}, max_tokens=3000) == {
        "max_tokens": 3000,
        "thinking": {"type": "enabled", "budget_tokens": 1500},
    }
