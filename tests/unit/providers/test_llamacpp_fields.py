"""Only harmless fields reach a local model."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import InvalidRequest
from gateway.providers.llamacpp_fields import restrict

CHAT = {"messages": [], "temperature": 0.5, "max_tokens": 5, "response_format": {"type": "text"}, "stop": None}


def test_openais_fields_and_sampling_settings_pass() -> None:
    body = {**CHAT, "top_k": 40, "min_p": 0.05, "repeat_penalty": 1.1, "repeat_last_n": -1, "grammar": "root ::= x"}

    assert restrict(body) == body


def test_fields_that_mean_nothing_to_the_engine_stay_here() -> None:
    assert restrict({**CHAT, "user": "me", "metadata": {}, "never_heard_of": 1}) == CHAT


@pytest.mark.parametrize(
    "name",
    [
        "chat_template",
        "chat_template_kwargs",
        "id_slot",
        "lora",
        "n_discard",
        "n_keep",
        "n_predict",
        "n_probs",
        "speculative.n_max",
    ],
)
def test_t22_t24_fields_that_steer_the_engine_are_refused_by_name(name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        restrict({**CHAT, name: 1})

    assert (caught.value.param, caught.value.code) == (name, "unsupported_parameter")


@pytest.mark.parametrize("name", ["top_k", "min_p", "repeat_last_n", "dry_penalty_last_n", "mirostat_tau"])
@pytest.mark.parametrize("value", [-2, 2**31, 2**63, 1e308, float("nan"), "1", True, [1]])
def test_t24_numbers_out_of_range_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        restrict({**CHAT, name: value})

    assert (caught.value.param, caught.value.code) == (name, "invalid_value")
