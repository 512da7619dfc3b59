"""T1, T2: no field of a request decides where it goes, with which key, or how it is sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.providers.litellm_engine import load
from gateway.wire import STEERING, refuse_steering
from tests.support.app import MESSAGES, UPSTREAM_KEY, RunningGateway
from tests.support.upstream import ScriptedUpstream


class Canary:
    """A server on 127.0.0.2 that nothing may connect to."""

    def __init__(self) -> None:
        self.connections = 0
        self.url = ""

    async def note(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        writer.close()


@pytest.fixture
async def canary() -> AsyncIterator[Canary]:
    canary = Canary()
    server = await asyncio.start_server(canary.note, "127.0.0.2", 0)
    canary.url = f"http://127.0.0.2:{server.sockets[0].getsockname()[1]}/v1"
    async with server:
        yield canary


BODIES: dict[str, dict[str, Any]] = {
    "chat/completions": {"model": "small", "messages": MESSAGES},
    "completions": {"model": "small", "prompt": "Hi"},
    "embeddings": {"model": "embedding", "input": "Hi"},
    "images/generations": {"model": "small", "prompt": "Hi"},
}


@pytest.mark.parametrize("endpoint", BODIES)
async def test_every_name_that_steers_is_refused_at_the_top(
    gateway: RunningGateway, upstream: ScriptedUpstream, canary: Canary, endpoint: str
) -> None:
    assert len(STEERING) >= 400
    own = {"cache"} if endpoint == "embeddings" else set()  # where it is the gateway's, and no upstream gets it
    for name in sorted(STEERING - own):
        answer = await gateway.post(endpoint, {**BODIES[endpoint], name: canary.url})

        assert answer.status == 400, name
        assert answer.error["message"] == f"Unknown parameter: '{name}'."
        assert (answer.error["param"], answer.error["code"]) == (name, "unknown_parameter")

    assert canary.connections == 0
    assert upstream.requests == []


@pytest.mark.parametrize("depth", [1, 2, 3])
async def test_below_the_top_the_names_are_content_and_stay_untouched(
    gateway: RunningGateway, upstream: ScriptedUpstream, canary: Canary, depth: int
) -> None:
    hidden: Any = dict.fromkeys(sorted(STEERING), canary.url)
    for _ in range(depth - 1):
        hidden = {"more": hidden, "text": '{"api_base": "' + canary.url + '"}'}
    tool = {"type": "function", "function": {"name": "f", "parameters": {"properties": hidden}}}
    extra = {"metadata": hidden, "tools": [tool], "top_k": 3, "chat_template_kwargs": hidden, "vendor_field": hidden}

    answer = await gateway.chat(**extra)

    assert answer.status == 200
    assert {name: upstream.requests[0].json[name] for name in extra} == extra
    assert upstream.requests[0].headers["Authorization"] == f"Bearer {UPSTREAM_KEY}"
    assert canary.connections == 0


@pytest.mark.parametrize("text", ["os.environ/PATH", "${PATH}", "$PATH", "{{PATH}}", "%(PATH)s"])
async def test_a_callers_text_is_never_filled_in(
    gateway: RunningGateway, upstream: ScriptedUpstream, text: str
) -> None:
    """T4."""
    fields = {"user": text, "stop": [text], "vendor_field": text, "metadata": {"a": text}}

    await gateway.chat(messages=[{"role": "user", "content": text, "name": text}], **fields)

    seen = upstream.requests[0].json
    assert seen["messages"] == [{"role": "user", "content": text, "name": text}]
    assert {name: seen[name] for name in fields} == fields


NAMES = st.sampled_from(sorted(STEERING))
NESTED = st.recursive(
    st.sampled_from(["CANARY", '{"api_base": "CANARY"}', "${CANARY}"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


@given(NESTED)
def test_however_deep_it_is_hidden_it_stays_content(hidden: Any) -> None:
    """T2, without HTTP: only the top of a request is looked at, and all else is left as it is."""
    body = {"model": "small", "messages": MESSAGES, "metadata": {"a": hidden}, "vendor_field": hidden}
    before = json.dumps(body)

    refuse_steering(body)

    assert json.dumps(body) == before


# Names of litellm's that travel on: what they are in a request to OpenAI's wire, where nobody takes them for keywords.
CONTENT = {
    "id": "a name that callers give their request; it steers nothing",
    "metadata": "OpenAI's own field",
    "ttl": "how long LM Studio keeps the model of this request in memory",
}


def test_the_list_has_every_name_that_steers_litellm() -> None:
    """Fails when a new version of litellm has one more; decide then whether it steers or is content."""
    load("openai")
    from litellm.types import router, utils

    models = (router.GenericLiteLLMParams, router.CredentialLiteLLMParams, utils.CustomPricingLiteLLMParams)
    theirs = set(utils.all_litellm_params) | set(utils.StandardCallbackDynamicParams.__annotations__)
    theirs = theirs.union(*(model.model_fields for model in models))

    assert len(theirs) > 300
    assert theirs - STEERING == CONTENT.keys()


def test_what_servers_of_openais_wire_take_besides_is_not_on_the_list() -> None:
    llama_cpp = {"cache_prompt", "chat_template_kwargs", "grammar", "id_slot", "lora", "n_probs", "timings_per_token"}
    lm_studio_and_ollama = {"draft_model", "keep_alive", "think", "ttl"}
    vllm = {"cache_salt", "guided_json", "min_p", "priority", "repetition_penalty", "stop_token_ids", "top_k"}
    openrouter = {"include_reasoning", "models", "plugins", "provider", "reasoning", "route", "transforms", "usage"}
    others = {"documents", "prompt_mode", "safe_prompt", "search_parameters", "steps", "thinking", "web_search"}

    assert STEERING.isdisjoint(llama_cpp | lm_studio_and_ollama | vllm | openrouter | others)
