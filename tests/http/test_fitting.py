"""Conversations that are longer than a deployment's window: cut as the alias or the caller says, and the caller is told."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tests.support.app import UPSTREAM_KEY, Answer, RunningGateway, running
from tests.support.upstream import ScriptedUpstream, Status

TURN = "one two three four five six seven eight nine ten " * 5  # 51 tokens of o200k_base


def talk(turns: int, last: str = "What was the first thing I said?") -> list[dict[str, str]]:
    """Return a conversation: a system message, so many exchanges, a question."""
    exchanges = (
        {"role": role, "content": f"{number}: {TURN}"} for number in range(turns) for role in ("user", "assistant")
    )
    return [{"role": "system", "content": "Be brief."}, *exchanges, {"role": "user", "content": last}]


def configured(
    upstream: ScriptedUpstream, *windows: int | None, alias: Mapping[str, Any] | None = None, model: str = "gpt-4o"
) -> str:
    """Return a configuration in which `small` has one deployment for each window, of one upstream each by its key."""
    providers = {
        f"up{place}": {"kind": "openai", "base_url": upstream.base_url, "api_key": UPSTREAM_KEY}
        for place in range(len(windows))
    }
    deployments = [
        {"provider": f"up{place}", "model": f"{model}-{place}", **({"context_window": window} if window else {})}
        for place, window in enumerate(windows)
    ]
    return json.dumps({"providers": providers, "models": {"small": {"deployments": deployments, **(alias or {})}}})


async def ask(
    gateway: RunningGateway, messages: Sequence[Mapping[str, Any]], truncation: str | None = None, **fields: Any
) -> Answer:
    headers = {"Content-Type": "application/json"}
    if truncation is not None:
        headers["x-gateway-truncation"] = truncation
    body = json.dumps({"model": "small", "messages": messages, **fields}).encode()
    return await gateway.ask("POST", "/v1/chat/completions", data=io.BytesIO(body), headers=headers)


def sent(upstream: ScriptedUpstream, number: int = -1) -> dict[str, Any]:
    body: dict[str, Any] = upstream.requests[number].json
    return body


def contents(upstream: ScriptedUpstream, number: int = -1) -> list[str]:
    return [message["content"] for message in sent(upstream, number)["messages"]]


def too_long(message: str) -> Status:
    return Status(400, message=message, code="context_length_exceeded")


async def test_what_fits_by_its_bytes_is_not_counted(upstream: ScriptedUpstream) -> None:
    messages = talk(4)
    async with running(configured(upstream, 128_000)) as gateway:
        answer = await ask(gateway, messages)
        figures = await gateway.figures()

    assert answer.status == 200
    assert sent(upstream)["messages"] == messages
    assert "x-gateway-truncated" not in answer.headers
    assert ("gateway_counted_requests_total", "small") not in figures


async def test_what_fits_by_its_tokens_goes_as_it_is(upstream: ScriptedUpstream) -> None:
    messages = talk(4)  # 2,200 bytes, about 450 tokens
    async with running(configured(upstream, 1000)) as gateway:
        answer = await ask(gateway, messages)
        figures = await gateway.figures()

    assert sent(upstream)["messages"] == messages
    assert "x-gateway-truncated" not in answer.headers
    assert figures["gateway_counted_requests_total", "small"] == 1


async def test_the_oldest_exchanges_are_left_out_and_the_caller_is_told(upstream: ScriptedUpstream) -> None:
    messages = talk(20)
    async with running(configured(upstream, 1000)) as gateway:
        answer = await ask(gateway, messages, max_tokens=100)
        figures = await gateway.figures()

    kept = contents(upstream)
    assert kept[0] == "Be brief."
    assert kept[-1] == messages[-1]["content"]
    assert kept[1:] == [message["content"] for message in messages[-len(kept) + 1 :]]
    assert 10 < len(kept) < len(messages)
    assert sent(upstream)["max_tokens"] == 100
    told = int(answer.headers["x-gateway-truncated"])
    assert 1000 < told < 2000
    assert figures["gateway_truncated_requests_total", "small"] == 1
    assert gateway.lines()[0]["truncated_tokens"] == told


async def test_the_middle_of_the_longest_text_is_cut_where_the_alias_says_so(upstream: ScriptedUpstream) -> None:
    messages = talk(1, last=" ".join(f"word{number}" for number in range(1000)))
    async with running(configured(upstream, 600, alias={"truncation": "middle"})) as gateway:
        answer = await ask(gateway, messages)

    kept = contents(upstream)
    assert kept[:-1] == [message["content"] for message in messages[:-1]]
    assert kept[-1].startswith("word0 word1 ")
    assert kept[-1].endswith("word998 word999")
    assert int(answer.headers["x-gateway-truncated"]) > 1000


@pytest.mark.parametrize(
    ("alias", "header"), [({"truncation": "refuse"}, None), ({}, "refuse"), ({"truncation": "middle"}, "Refuse ")]
)
async def test_nothing_is_cut_where_that_is_refused(
    upstream: ScriptedUpstream, alias: dict[str, Any], header: str | None
) -> None:
    async with running(configured(upstream, 1000, alias=alias)) as gateway:
        answer = await ask(gateway, talk(20), header)

    assert answer.status == 400
    assert answer.error["code"] == "context_length_exceeded"
    assert answer.error["param"] == "messages"
    assert "maximum context length is 1000 tokens" in answer.error["message"]
    assert not upstream.requests


async def test_a_caller_may_ask_for_another_way_than_the_alias(upstream: ScriptedUpstream) -> None:
    async with running(configured(upstream, 1000, alias={"truncation": "refuse"})) as gateway:
        answer = await ask(gateway, talk(20), "drop_oldest")

    assert answer.status == 200
    assert int(answer.headers["x-gateway-truncated"]) > 1000


@pytest.mark.parametrize("word", ["", "some", "end", "drop-oldest"])
async def test_a_way_that_there_is_not_is_refused_by_name(upstream: ScriptedUpstream, word: str) -> None:
    async with running(configured(upstream, 1000)) as gateway:
        answer = await ask(gateway, talk(1), word)

    assert answer.status == 400
    assert answer.error["param"] == "x-gateway-truncation"
    assert "drop_oldest, middle, refuse" in answer.error["message"]


async def test_a_longest_answer_that_is_more_than_is_left_is_lowered(upstream: ScriptedUpstream) -> None:
    async with running(configured(upstream, 1000)) as gateway:
        answer = await ask(gateway, talk(4), max_completion_tokens=1_000_000)
        figures = await gateway.figures()

    lowered = sent(upstream)["max_completion_tokens"]
    assert 400 < lowered < 600
    assert sent(upstream)["messages"] == talk(4)
    assert answer.headers["x-gateway-max-tokens"] == str(lowered)
    assert "x-gateway-truncated" not in answer.headers
    assert figures["gateway_lowered_max_tokens_total", "small"] == 1
    assert gateway.lines()[0]["max_tokens_lowered_to"] == lowered


async def test_each_deployment_gets_what_fits_its_own_window(upstream: ScriptedUpstream) -> None:
    upstream.for_model("gpt-4o-0", Status(500))
    async with running(configured(upstream, 1000, 100_000)) as gateway:
        answer = await ask(gateway, talk(20))

    assert len(contents(upstream, 0)) < len(contents(upstream, 1)) == len(talk(20))
    assert answer.headers["x-gateway-deployment"] == "up1/gpt-4o-1"
    assert "x-gateway-truncated" not in answer.headers


async def test_who_refuses_to_be_cut_is_answered_by_a_larger_window_of_the_same_route(
    upstream: ScriptedUpstream,
) -> None:
    async with running(configured(upstream, 1000, 100_000, alias={"truncation": "refuse"})) as gateway:
        answer = await ask(gateway, talk(20))

    assert answer.headers["x-gateway-deployment"] == "up1/gpt-4o-1"
    assert [request.json["model"] for request in upstream.requests] == ["gpt-4o-1"]


async def test_a_limit_that_the_upstream_tells_is_fitted_and_remembered(upstream: ScriptedUpstream) -> None:
    upstream.script(
        too_long("This model's maximum context length is 1000 tokens. However, your messages resulted in 2500 tokens.")
    )
    async with running(configured(upstream, None)) as gateway:
        answer = await ask(gateway, talk(20))
        later = await ask(gateway, talk(20))

    assert answer.status == 200
    assert len(contents(upstream, 0)) == len(talk(20)) > len(contents(upstream, 1)) > 5
    assert answer.headers["x-gateway-attempts"] == "2"
    assert int(answer.headers["x-gateway-truncated"]) > 1000
    assert contents(upstream, 2) == contents(upstream, 1)
    assert later.headers["x-gateway-attempts"] == "1"


async def test_what_an_upstream_counts_more_is_remembered(upstream: ScriptedUpstream) -> None:
    upstream.script(
        too_long("This model's maximum context length is 3000 tokens. However, your messages resulted in 5000 tokens.")
    )
    async with running(configured(upstream, 3000)) as gateway:
        answer = await ask(gateway, talk(20))  # about 2,200 by our count

    told = int(answer.headers["x-gateway-truncated"])
    assert answer.status == 200
    assert told > 800  # or it would be over again by the upstream's count


async def test_an_upstream_that_tells_no_number_is_asked_with_three_quarters(upstream: ScriptedUpstream) -> None:
    upstream.script(too_long("Please reduce the length of the messages or completion."))
    async with running(configured(upstream, None)) as gateway:
        answer = await ask(gateway, talk(20))

    assert answer.status == 200
    assert len(contents(upstream, 1)) == pytest.approx(len(talk(20)) * 0.75, abs=3)


async def test_the_second_refusal_is_the_upstreams_own_word(upstream: ScriptedUpstream) -> None:
    upstream.otherwise = too_long("maximum context length is 1000 tokens, by my own count")
    async with running(configured(upstream, None)) as gateway:
        answer = await ask(gateway, talk(20))

    assert answer.status == 400
    assert "by my own count" in answer.error["message"]
    assert len(upstream.requests) == 2


async def test_a_short_request_is_not_asked_again(upstream: ScriptedUpstream) -> None:
    upstream.otherwise = too_long("Input is too long for requested model.")
    async with running(configured(upstream, None)) as gateway:
        answer = await ask(gateway, talk(1))

    assert answer.error["code"] == "context_length_exceeded"
    assert len(upstream.requests) == 1


LARGER = {"context_fallbacks": [{"provider": "up1", "model": "gpt-4o-1", "context_window": 100_000}]}


def with_larger(upstream: ScriptedUpstream, **alias: Any) -> str:
    config = json.loads(configured(upstream, 1000, 100_000))
    config["models"]["small"]["deployments"].pop()
    config["models"]["small"] |= {**LARGER, **alias}
    return json.dumps(config)


async def test_a_larger_model_is_asked_before_anything_is_left_out(upstream: ScriptedUpstream) -> None:
    async with running(with_larger(upstream)) as gateway:
        answer = await ask(gateway, talk(20))

    assert [request.json["model"] for request in upstream.requests] == ["gpt-4o-1"]
    assert contents(upstream) == [message["content"] for message in talk(20)]
    assert "x-gateway-truncated" not in answer.headers


async def test_a_larger_model_is_asked_after_the_cut_where_the_alias_says_to_cut(upstream: ScriptedUpstream) -> None:
    upstream.for_model("gpt-4o-0", too_long("maximum context length is 500 tokens"))
    async with running(with_larger(upstream, truncation="drop_oldest")) as gateway:
        answer = await ask(gateway, talk(20))

    assert [request.json["model"] for request in upstream.requests] == ["gpt-4o-0", "gpt-4o-0", "gpt-4o-1"]
    assert answer.status == 200
    assert "x-gateway-truncated" not in answer.headers


async def test_a_stream_is_fitted_as_well(upstream: ScriptedUpstream) -> None:
    async with running(configured(upstream, 1000)) as gateway:
        answer = await ask(gateway, talk(20), stream=True)

    assert answer.events[-1] == "[DONE]"
    assert int(answer.headers["x-gateway-truncated"]) > 1000
    assert len(contents(upstream)) < len(talk(20))


async def test_a_legacy_completion_keeps_the_end_of_its_prompt(upstream: ScriptedUpstream) -> None:
    prompt = " ".join(f"word{number}" for number in range(1000))
    async with running(configured(upstream, 500)) as gateway:
        answer = await gateway.post("completions", {"model": "small", "prompt": prompt, "max_tokens": 50})

    assert answer.status == 200
    kept = sent(upstream)["prompt"]
    assert prompt.endswith(kept)
    assert 500 < len(kept) < len(prompt)


IMPOSSIBLE = {
    "only system messages": [{"role": "system", "content": TURN * 40}],
    "an image alone": [
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "high"}}],
        }
    ],
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
async def test_what_cannot_be_cut_is_refused(upstream: ScriptedUpstream, name: str) -> None:
    async with running(configured(upstream, 600)) as gateway:
        answer = await ask(gateway, IMPOSSIBLE[name])

    assert answer.status == 400
    assert answer.error["code"] == "context_length_exceeded"
    assert not upstream.requests


async def test_a_single_message_larger_than_the_window_is_cut_in_its_middle(upstream: ScriptedUpstream) -> None:
    async with running(configured(upstream, 600)) as gateway:
        answer = await ask(gateway, talk(0, last="begin " + TURN * 40 + " end"))

    (system, question) = contents(upstream)
    assert system == "Be brief."
    assert question.startswith("begin ")
    assert question.endswith(" end")
    assert int(answer.headers["x-gateway-truncated"]) > 1000


@pytest.mark.parametrize("value", [0, -5, 1.5, "many", True, [1]])
async def test_an_absurd_longest_answer_is_no_defect(upstream: ScriptedUpstream, value: object) -> None:
    async with running(configured(upstream, 1000)) as gateway:
        answer = await ask(gateway, talk(20), max_tokens=value)

    assert answer.status in (200, 400)
    if answer.status == 400:
        assert answer.error["param"] == "max_tokens"
