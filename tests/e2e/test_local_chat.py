"""Text and vectors of the shipped models through the whole gateway: what they can do is done, and the rest is refused by name.

No request may harm a model: after each that is refused it is asked again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.support.asking import CHAT, HI, TEXT, ask, chunks, refusal, stream
from tests.support.command import Gateway
from tests.support.contract import assert_stream_obeys_contract

TOOLS = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}]


def text_of(events: list[str], index: int = 0) -> str:
    choices = [choice for chunk in chunks(events) for choice in chunk["choices"] if choice["index"] == index]
    return "".join(choice["text"] for choice in choices)


@pytest.fixture(autouse=True)
def unharmed(gateway: Gateway) -> Iterator[None]:
    """See that the model answers after the test, and was never started again."""
    yield
    assert ask(gateway, "chat/completions", {**CHAT, "max_tokens": 1})["choices"]
    assert len([event for event in gateway.events("model_ready") if event["model"] == "local/smollm2"]) == 1


# Several choices


@pytest.mark.parametrize("logprobs", [False, True])
def test_the_usage_of_a_plain_answer_counts_all_its_choices(gateway: Gateway, logprobs: bool) -> None:
    one = ask(gateway, "chat/completions", CHAT)

    three = ask(gateway, "chat/completions", {**CHAT, "n": 3, "logprobs": logprobs, "ignore_eos": True})

    assert [choice["index"] for choice in three["choices"]] == [0, 1, 2]
    assert three["object"] == "chat.completion"
    assert all(choice["message"]["role"] == "assistant" for choice in three["choices"])
    assert all(choice["message"]["content"] for choice in three["choices"])
    usage = three["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (one["usage"]["prompt_tokens"], 24)
    assert usage["total_tokens"] == usage["prompt_tokens"] + 24
    if logprobs:
        assert [len(choice["logprobs"]["content"]) for choice in three["choices"]] == [8, 8, 8]


def test_the_official_client_reads_several_choices(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="small", messages=HI, max_tokens=4, n=2)

    assert len(answer.choices) == 2
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 4


def test_several_prompts_are_counted_together(gateway: Gateway) -> None:
    apart = [ask(gateway, "completions", {**TEXT, "prompt": prompt}) for prompt in ("The cat", "One two three")]

    together = ask(gateway, "completions", {**TEXT, "prompt": ["The cat", "One two three"], "n": 2})

    assert [choice["index"] for choice in together["choices"]] == [0, 1, 2, 3]
    prompt_tokens = sum(answer["usage"]["prompt_tokens"] for answer in apart)
    assert together["usage"]["prompt_tokens"] == prompt_tokens
    assert together["usage"]["completion_tokens"] == 24


def test_more_choices_than_decode_together_are_refused(gateway: Gateway) -> None:
    error = refusal(gateway, "chat/completions", {**CHAT, "n": 100})

    assert error["param"] == "n"


# Legacy completions


def test_an_echoed_prompt_stands_before_the_text(gateway: Gateway) -> None:
    bare = ask(gateway, "completions", TEXT)

    echoed = ask(gateway, "completions", {**TEXT, "echo": True})

    assert echoed["object"] == "text_completion"
    assert echoed["choices"][0]["text"] == "The cat" + bare["choices"][0]["text"]
    assert echoed["choices"][0]["finish_reason"] == "length"
    assert (echoed["usage"]["prompt_tokens"], echoed["usage"]["completion_tokens"]) == (
        bare["usage"]["prompt_tokens"],
        6,
    )


@pytest.mark.parametrize("n", [1, 2])
def test_each_prompt_of_a_list_is_echoed(gateway: Gateway, n: int) -> None:
    prompts = ["The cat", "One two"]

    answer = ask(gateway, "completions", {**TEXT, "prompt": prompts, "echo": True, "n": n})

    texts = [choice["text"] for choice in answer["choices"]]
    assert len(texts) == 2 * n
    assert all(text.startswith(prompts[at // n]) and len(text) > len(prompts[at // n]) for at, text in enumerate(texts))


def test_a_stream_echoes_too(gateway: Gateway) -> None:
    plain = ask(gateway, "completions", {**TEXT, "prompt": ["The cat", "One two"], "echo": True})

    events = stream(gateway, "completions", {**TEXT, "prompt": ["The cat", "One two"], "echo": True})

    assert events[-1] == "[DONE]"
    assert [text_of(events, index)[:7] for index in (0, 1)] == ["The cat", "One two"]
    assert [len(text_of(events, index)) > 7 for index in (0, 1)] == [True, True]
    assert len(plain["choices"]) == 2


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"suffix": " sat."}, "suffix"),
        ({"echo": True, "logprobs": 1}, "logprobs"),
        ({"echo": True, "prompt": [1, 2, 3]}, "echo"),
        ({"best_of": 3}, "best_of"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_what_would_be_ignored_is_refused_by_name(
    gateway: Gateway, fields: dict[str, Any], param: str, streamed: bool
) -> None:
    error = refusal(gateway, "completions", {**TEXT, **fields, "stream": streamed})

    assert (error["param"], error["code"]) == (param, "unsupported_parameter")


# Tools, where the template has no place for them


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": TOOLS}, "tools"),
        ({"tools": TOOLS, "tool_choice": "none"}, "tools"),
        ({"tools": TOOLS, "tool_choice": "auto"}, "tools"),
        ({"tools": TOOLS, "tool_choice": "required"}, "tools"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "look_up"}}}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_tools_are_refused_by_name(gateway: Gateway, fields: dict[str, Any], param: str, streamed: bool) -> None:
    error = refusal(gateway, "chat/completions", {**CHAT, **fields, "stream": streamed})

    assert (error["param"], error["code"]) == (param, "unsupported_parameter")


# Sampling


def test_a_penalty_by_the_name_the_settings_have_changes_the_answer(gateway: Gateway) -> None:
    body = {**TEXT, "prompt": "one one one one one one", "max_tokens": 12}
    bare, penalised, by_its_own_name = (
        ask(gateway, "completions", {**body, **fields})["choices"][0]["text"]
        for fields in ({}, {"repetition_penalty": 2.0}, {"repeat_penalty": 2.0})
    )

    assert penalised != bare
    assert penalised == by_its_own_name


def test_a_bias_changes_the_answer(gateway: Gateway) -> None:
    plain = ask(gateway, "completions", {**TEXT, "max_tokens": 1, "logprobs": 1})

    biased = ask(gateway, "completions", {**TEXT, "max_tokens": 2, "logit_bias": {"28": 100}})

    assert biased["choices"][0]["text"] != plain["choices"][0]["text"]
    assert len(set(biased["choices"][0]["text"].strip())) == 1


def test_min_p_of_one_leaves_only_the_likeliest_token(gateway: Gateway) -> None:
    greedy = ask(gateway, "completions", TEXT)

    hot = ask(gateway, "completions", {**TEXT, "temperature": 2, "top_p": 1, "min_p": 1.0, "seed": 3})

    assert hot["choices"][0]["text"] == greedy["choices"][0]["text"]


@pytest.mark.parametrize("streamed", [False, True])
def test_the_first_of_several_stop_strings_ends_the_answer_and_is_left_out(gateway: Gateway, streamed: bool) -> None:
    whole = ask(gateway, "completions", {**TEXT, "prompt": "1, 2, 3,", "max_tokens": 24})["choices"][0]["text"]
    assert "5" in whole
    body = {**TEXT, "prompt": "1, 2, 3,", "max_tokens": 24, "stop": ["never said", "5", "9"]}

    if streamed:
        text = text_of(stream(gateway, "completions", body))
    else:
        text = ask(gateway, "completions", body)["choices"][0]["text"]

    assert text == whole[: whole.index("5")]


def test_fields_of_reasoning_pass(gateway: Gateway) -> None:
    answer = ask(gateway, "chat/completions", {**CHAT, "reasoning_effort": "low", "reasoning_format": "none"})

    assert answer["choices"][0]["message"]["content"]


def test_a_stream_of_several_choices_keeps_the_contract(gateway: Gateway) -> None:
    events = stream(gateway, "chat/completions", {**CHAT, "n": 2, "stream_options": {"include_usage": True}})

    assert_stream_obeys_contract(events, n=2, include_usage=True)
