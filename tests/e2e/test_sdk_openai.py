"""OpenAI's Python client 2.x, unchanged but for its base URL, against the local models behind the real command."""

from __future__ import annotations

import asyncio
import json
import math
import time
from pathlib import Path
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.support.command import Gateway, serving
from tests.support.contract import assert_completion_obeys_contract, assert_stream_obeys_contract, join_content

MODEL = "small"
HELLO: list[Any] = [{"role": "user", "content": "Say hello."}]
STORY: list[Any] = [{"role": "user", "content": "Tell me a long story about a ship."}]
ENDLESS = {"ignore_eos": True}  # llama.cpp's own field: the length is then exactly max_tokens


def length(vector: list[float]) -> float:
    return math.sqrt(sum(number * number for number in vector))


def test_a_chat_is_answered(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=12)

    assert_completion_obeys_contract(completion.to_dict())
    assert completion.choices[0].message.content
    assert completion.usage is not None
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens


def test_max_tokens_ends_an_answer_with_length(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(model=MODEL, messages=STORY, max_tokens=5)

    assert completion.choices[0].finish_reason == "length"
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 5


def test_max_completion_tokens_means_the_same(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(model=MODEL, messages=STORY, max_completion_tokens=5)

    assert completion.choices[0].finish_reason == "length"
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 5


def test_a_stop_word_ends_an_answer_before_it(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=STORY, max_tokens=24, temperature=0, seed=1)
    text = whole.choices[0].message.content or ""
    word = text.split()[2]

    cut = client.chat.completions.create(model=MODEL, messages=STORY, max_tokens=24, temperature=0, seed=1, stop=[word])

    assert cut.choices[0].finish_reason == "stop"
    assert word not in (cut.choices[0].message.content or "")


def test_a_seed_repeats_an_answer(client: openai.OpenAI) -> None:
    def ask(seed: int) -> str | None:
        completion = client.chat.completions.create(
            model=MODEL,
            messages=STORY,
            max_tokens=16,
            temperature=1.2,
            seed=seed,
            extra_body={"cache_prompt": False},  # reused work is rounded differently, so only a cold prompt repeats
        )
        return completion.choices[0].message.content

    assert ask(7) == ask(7)
    assert len({ask(7), ask(8), ask(9)}) > 1


def test_logprobs_come_with_their_alternatives(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(
        model=MODEL, messages=HELLO, max_tokens=4, temperature=0, logprobs=True, top_logprobs=3
    )

    logprobs = completion.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content
    for token in logprobs.content:
        assert token.logprob <= 0
        assert len(token.top_logprobs) == 3
        assert token.token == token.top_logprobs[0].token


def test_n_gives_as_many_choices(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=6, n=2)

    assert_completion_obeys_contract(completion.to_dict(), n=2)


class Person(BaseModel):
    name: str
    age: int


def test_an_answer_by_schema_is_parsed(client: openai.OpenAI) -> None:
    completion = client.chat.completions.parse(
        model=MODEL,
        messages=[{"role": "user", "content": "Anna is 31 years old. Give her name and age."}],
        response_format=Person,
        max_tokens=120,
        temperature=0,
    )

    person = completion.choices[0].message.parsed
    assert isinstance(person, Person)
    assert person.name


def test_a_stream_by_schema_is_parsed(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        model=MODEL,
        messages=[{"role": "user", "content": "Anna is 31 years old. Give her name and age."}],
        response_format=Person,
        max_tokens=120,
        temperature=0,
    ) as stream:
        final = stream.get_final_completion()

    assert isinstance(final.choices[0].message.parsed, Person)


def test_json_mode_gives_an_object(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": 'Answer with the JSON object {"ok": true}.'}],
        response_format={"type": "json_object"},
        max_tokens=200,
        temperature=0,
    )

    assert isinstance(json.loads(completion.choices[0].message.content or ""), dict)


def test_a_stream_obeys_the_contract(client: openai.OpenAI) -> None:
    with client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=12, stream=True) as stream:
        events = [json.dumps(chunk.to_dict()) for chunk in stream]

    assert len(events) > 3
    assert_stream_obeys_contract([*events, "[DONE]"])


def test_a_stream_that_begins_with_an_emoji_obeys_the_contract(client: openai.OpenAI) -> None:
    only = {"grammar": 'root ::= "😉🌍 hello"'}  # its first token is a part of a character

    with client.chat.completions.create(
        model=MODEL, messages=HELLO, max_tokens=20, stream=True, extra_body=only
    ) as stream:
        events = [json.dumps(chunk.to_dict()) for chunk in stream]

    assert_stream_obeys_contract([*events, "[DONE]"])
    assert join_content(events) == "😉🌍 hello"


def test_a_stream_of_seconds_obeys_the_contract(client: openai.OpenAI) -> None:
    with client.chat.completions.create(
        model=MODEL, messages=STORY, max_tokens=200, stream=True, extra_body=ENDLESS
    ) as stream:
        events = [json.dumps(chunk.to_dict()) for chunk in stream]

    assert_stream_obeys_contract([*events, "[DONE]"])


def test_a_stream_of_two_choices_obeys_the_contract(client: openai.OpenAI) -> None:
    with client.chat.completions.create(
        model=MODEL, messages=HELLO, max_tokens=6, n=2, stream=True, stream_options={"include_usage": True}
    ) as stream:
        events = [json.dumps(chunk.to_dict()) for chunk in stream]

    assert_stream_obeys_contract([*events, "[DONE]"], n=2, include_usage=True)


def test_usage_comes_last_when_asked_for(client: openai.OpenAI) -> None:
    with client.chat.completions.create(
        model=MODEL, messages=HELLO, max_tokens=12, stream=True, stream_options={"include_usage": True}
    ) as stream:
        events = [json.dumps(chunk.to_dict()) for chunk in stream]

    assert_stream_obeys_contract([*events, "[DONE]"], include_usage=True)


def test_the_stream_helper_puts_the_answer_together(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        model=MODEL, messages=HELLO, temperature=0, stop=["."], stream_options={"include_usage": True}
    ) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()

    assert final.choices[0].message.role == "assistant"
    assert final.choices[0].message.content == "".join(deltas)
    assert final.usage is not None
    assert final.usage.completion_tokens > 0


def test_raw_answers_carry_the_gateways_headers(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=HELLO, max_tokens=4)

    assert raw.headers["x-request-id"].startswith("req_")
    assert raw.parse()._request_id == raw.headers["x-request-id"]
    assert raw.headers["x-gateway-deployment"] == "local/smollm2"
    assert raw.headers["x-gateway-attempts"] == "1"


def test_raw_streams_carry_the_gateways_headers(client: openai.OpenAI) -> None:
    with client.chat.completions.with_streaming_response.create(
        model=MODEL, messages=HELLO, max_tokens=4, stream=True
    ) as raw:
        headers = raw.headers

    assert headers["x-request-id"].startswith("req_")
    assert headers["x-gateway-deployment"] == "local/smollm2"


def test_a_legacy_completion_is_answered(client: openai.OpenAI) -> None:
    completion = client.completions.create(model=MODEL, prompt="Once upon a time", max_tokens=6)

    assert completion.object == "text_completion"
    assert completion.choices[0].text
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 6


def test_a_legacy_completion_streams(client: openai.OpenAI) -> None:
    with client.completions.create(model=MODEL, prompt="Once upon a time", max_tokens=6, stream=True) as stream:
        chunks = list(stream)

    assert {chunk.object for chunk in chunks} == {"text_completion"}
    assert "".join(chunk.choices[0].text for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "length"


@pytest.mark.parametrize(
    ("given", "count"),
    [("a red apple", 1), (["a red apple", "the sea"], 2), ([7592, 2088], 1), ([[7592, 2088], [7592]], 2)],
    ids=["text", "texts", "tokens", "lists of tokens"],
)
def test_every_form_of_input_is_embedded(client: openai.OpenAI, given: Any, count: int) -> None:
    answer = client.embeddings.create(model="embedding", input=given)

    assert [item.index for item in answer.data] == list(range(count))
    for item in answer.data:
        assert len(item.embedding) == 384
        assert length(item.embedding) == pytest.approx(1, abs=1e-4)
    assert answer.usage.prompt_tokens > 0


def test_floats_and_base64_are_the_same_numbers(client: openai.OpenAI) -> None:
    packed = client.embeddings.create(model="embedding", input=["a red apple", "the sea"])
    plain = client.embeddings.create(model="embedding", input=["a red apple", "the sea"], encoding_format="float")

    for left, right in zip(packed.data, plain.data, strict=True):
        assert left.embedding == pytest.approx(right.embedding, abs=1e-6)


def test_near_meanings_have_near_vectors(client: openai.OpenAI) -> None:
    texts = ["The cat sleeps on the sofa.", "A kitten naps on the couch.", "Interest rates rose by a quarter point."]

    cat, kitten, rates = (item.embedding for item in client.embeddings.create(model="embedding", input=texts).data)

    def near(left: list[float], right: list[float]) -> float:
        return sum(one * other for one, other in zip(left, right, strict=True))

    assert near(cat, kitten) > 0.5 > near(cat, rates) + 0.2


@pytest.mark.parametrize("name", ["small", "medium", "large", "local/smollm2", "local/small"])
def test_every_name_of_the_chat_model_answers(client: openai.OpenAI, name: str) -> None:
    raw = client.chat.completions.with_raw_response.create(model=name, messages=HELLO, max_tokens=2)

    assert raw.headers["x-gateway-deployment"] == "local/smollm2"


@pytest.mark.parametrize("name", ["embedding", "local/minilm"])
def test_every_name_of_the_embedding_model_answers(client: openai.OpenAI, name: str) -> None:
    assert len(client.embeddings.create(model=name, input="hello").data[0].embedding) == 384


def test_models_are_listed(client: openai.OpenAI) -> None:
    models = list(client.models.list())

    assert {"small", "medium", "large", "embedding"} <= {model.id for model in models}
    assert {model.object for model in models} == {"model"}
    assert all(isinstance(model.created, int) and model.owned_by for model in models)


@pytest.mark.parametrize("name", ["small", "local/smollm2"])
def test_a_model_is_retrieved_by_name(client: openai.OpenAI, name: str) -> None:
    assert client.models.retrieve(name).id == name


def test_an_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="smal", messages=HELLO)

    assert caught.value.code == "model_not_found"
    assert caught.value.param == "model"
    assert "Did you mean 'small'?" in caught.value.message
    assert (caught.value.request_id or "").startswith("req_")


def test_an_unknown_model_cannot_be_retrieved(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("no/where at all")

    assert caught.value.code == "model_not_found"


def test_a_wrong_role_is_named(client: openai.OpenAI) -> None:
    messages: Any = [{"role": "boss", "content": "Say hello."}]

    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=MODEL, messages=messages)

    assert caught.value.param == "messages[0].role"
    assert caught.value.type == "invalid_request_error"


WHOLE = {"x-gateway-truncation": "refuse"}  # or it would be cut to what fits


def test_a_request_over_the_window_is_refused_in_openais_words(client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "word " * 20_000}]

    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=MODEL, messages=messages, extra_headers=WHOLE)

    assert caught.value.code == "context_length_exceeded"
    assert caught.value.type == "invalid_request_error"
    assert caught.value.message.partition("This model's maximum context length is ")[2].split()[0].isdigit()


def test_a_stream_over_the_window_is_refused_with_a_status(client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "word " * 20_000}]

    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=MODEL, messages=messages, stream=True, extra_headers=WHOLE)

    assert caught.value.code == "context_length_exceeded"


def test_text_asked_of_the_embedding_model_is_an_error(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model="embedding", messages=HELLO)

    assert caught.value.status_code < 500
    assert caught.value.message


def test_a_wrong_key_is_an_authentication_error(tmp_path: Path) -> None:
    yaml = """
auth: {keys: [{name: app, key: "correct-horse"}]}
providers: {lab: {kind: openai, base_url: "http://127.0.0.1:9/v1", classes: {small: tiny}}}
"""
    with (
        serving(yaml, tmp_path) as closed,
        openai.OpenAI(base_url=closed.api_url, api_key="wrong-horse", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError) as caught,
    ):
        stranger.models.list()

    assert caught.value.code == "invalid_api_key"


async def test_several_chats_decode_together(gateway: Gateway) -> None:
    async def watch(several: openai.AsyncOpenAI) -> tuple[float, float]:
        """Return when the first and the last piece of a story came."""
        stream = await several.chat.completions.create(
            model=MODEL, messages=STORY, max_tokens=40, stream=True, extra_body=ENDLESS
        )
        times = [time.monotonic() async for chunk in stream if chunk.choices[0].delta.content]
        return times[0], times[-1]

    async with openai.AsyncOpenAI(base_url=gateway.api_url, api_key="unused", max_retries=0) as several:
        spans = await asyncio.gather(*(watch(several) for _ in range(6)))

    most_at_once = max(sum(start <= moment <= end for start, end in spans) for moment, _ in spans)
    assert most_at_once >= 3


def test_streams_left_early_free_the_model(client: openai.OpenAI) -> None:
    left = [
        client.chat.completions.create(model=MODEL, messages=STORY, max_tokens=4000, stream=True, extra_body=ENDLESS)
        for _ in range(4)  # as many as decode together
    ]
    for stream in left:
        next(iter(stream))
        stream.close()
    began = time.monotonic()

    completion = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=4)

    assert completion.choices[0].message.content
    assert time.monotonic() - began < 10  # 16,000 tokens would take minutes


def test_an_answer_fed_back_is_accepted(client: openai.OpenAI) -> None:
    first = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=8)
    history: list[Any] = [*HELLO, first.choices[0].message.model_dump(), {"role": "user", "content": "Again, please."}]

    second = client.chat.completions.create(model=MODEL, messages=history, max_tokens=4)

    assert second.choices[0].message.content


def test_parts_of_text_and_a_developer_message_are_accepted(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(
        model=MODEL,
        messages=[
            {"role": "developer", "content": "You are terse."},
            {"role": "user", "content": [{"type": "text", "text": "Say hello."}]},
        ],
        max_tokens=4,
    )

    assert completion.choices[0].message.content
