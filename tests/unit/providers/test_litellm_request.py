"""What is asked of litellm: only what is on the list, and nothing that steers."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from pydantic import SecretStr

from gateway.call import Endpoint
from gateway.errors import EndpointNotServed, UpstreamRejected
from gateway.providers import LiteLLMSettings
from gateway.providers.litellm_request import keywords, unmapped
from gateway.wire import STEERING
from tests.support.exchanges import MESSAGES, make_exchange

SETTINGS = LiteLLMSettings(kind="litellm", prefix="anthropic", base_url="http://right/v1", api_key=SecretStr("right"))
OWN = {
    "model": "anthropic/upstream-model",
    "num_retries": 0,
    "max_retries": 0,
    "no-log": True,
    "api_key": "right",
    "api_base": "http://right",  # litellm adds the rest
    "timeout": 1800.0,
}
SCHEMA = {"type": "object", "properties": {"api_base": {"type": "string"}, "metadata": {"type": "null"}}}
RICH: dict[str, Any] = {
    "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}]}],
    "tools": [{"type": "function", "function": {"name": "add", "parameters": SCHEMA}}],
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}},
}


def made(settings: LiteLLMSettings = SETTINGS, endpoint: Endpoint = "chat/completions", **body: Any) -> dict[str, Any]:
    return keywords(make_exchange(endpoint=endpoint, body={"model": "small", **body}), settings)


def test_no_name_that_steers_becomes_a_keyword() -> None:
    steering: dict[str, Any] = dict.fromkeys(
        STEERING | {"metadata", "user", "stream_options", "model_info", "_x"}, "wrong"
    )

    assert made(messages=MESSAGES, **steering) == {"messages": MESSAGES, **OWN}


def test_no_name_that_steers_can_be_allowed_by_the_configuration() -> None:
    names = STEERING | {"metadata", "model", "stream", "stream_options", "user"}
    exchange = make_exchange(body={**dict.fromkeys(names, "wrong"), "messages": MESSAGES, "top_k": 5})
    exchange.allowed_extra = names | {"top_k"}

    asked = keywords(exchange, SETTINGS)

    assert asked == {"messages": MESSAGES, "top_k": 5, **OWN}


def test_fields_on_the_list_are_passed_on_as_they_are() -> None:
    sent: dict[str, Any] = {"temperature": 0.5, "stop": ["a"], "n": 2, "verbosity": "low", **RICH}

    assert made(**sent) == {**sent, **OWN, "_skip_mcp_handler": True}


def test_what_litellm_may_change_in_place_is_a_copy() -> None:
    sent: dict[str, Any] = copy.deepcopy(RICH)

    asked = made(**sent)
    asked["messages"][0]["content"][0].clear()
    asked["tools"][0]["function"]["parameters"]["properties"].clear()
    asked["response_format"]["json_schema"]["schema"].clear()

    assert sent == RICH


def test_fields_that_say_nothing_are_left_out() -> None:
    idle: dict[str, Any] = {"n": 1, "stop": [], "tools": [], "logprobs": False, "store": False, "temperature": None}

    assert made(messages=MESSAGES, **idle) == {"messages": MESSAGES, **OWN}


def test_every_stream_is_asked_for_its_usage() -> None:
    asked = keywords(make_exchange(stream=True), SETTINGS)

    assert (asked["stream"], asked["stream_options"]) == (True, {"include_usage": True})


def test_options_and_headers_come_from_the_settings() -> None:
    settings = LiteLLMSettings(
        kind="litellm",
        prefix="azure",
        options={"api_version": SecretStr("2026-01-01")},
        headers={"X-Team": SecretStr("lab")},
    )

    asked = made(settings, messages=MESSAGES, api_version="wrong", extra_headers={"X-Team": "wrong"})

    assert (asked["api_version"], asked["extra_headers"]) == ("2026-01-01", {"X-Team": "lab"})
    assert asked["api_key"] == "none"  # for a header may be what it asks for
    assert "api_base" not in asked


def test_only_fields_without_words_of_the_upstream_are_forced_through() -> None:
    asked = made(messages=MESSAGES, verbosity="low", stop="a", temperature=0.1)

    assert unmapped(asked, "chat/completions", frozenset({"stop", "temperature"})) == ["verbosity"]


def test_vectors_are_asked_for_as_floats() -> None:
    asked = made(endpoint="embeddings", input=["a"], dimensions=2, encoding_format="base64", user="u")

    assert asked == {"input": ["a"], "dimensions": 2, **OWN}


@pytest.mark.parametrize("tokens", [[1, 2], [[1], [2]]])
def test_tokens_are_for_those_who_share_the_vocabulary(tokens: list[Any]) -> None:
    azure = LiteLLMSettings(kind="litellm", prefix="azure", api_key=SecretStr("k"))

    asked = made(azure, "embeddings", input=tokens)

    assert asked["input"] == tokens
    with pytest.raises(UpstreamRejected):
        made(endpoint="embeddings", input=tokens)


def test_an_endpoint_that_is_not_spoken_to_is_refused() -> None:
    with pytest.raises(EndpointNotServed, match="/completions"):
        made(endpoint="completions", prompt="Hi")
