"""What every engine must do, run on both with the real models: one model process for each, asked over its socket.

Where engines may differ, a test says so. Answers are greedy and computed anew, so that one engine repeats itself.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import math
import os
import re
import signal
import struct
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from gateway.worker import EXIT_BAD_MODEL, EngineName, why_unavailable
from tests.support.worker import Client, Worker, client_of, command, running

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
EMBEDDINGS = "/v1/embeddings"
WINDOW = 1024
ENGINES: tuple[EngineName, ...] = ("xllamacpp", "llama-cpp-python")
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
LISTS = {"type": "array", "items": {"$ref": "#/$defs/lists"}, "minItems": 1}
ENDLESS = {"$defs": {"lists": {"anyOf": [LISTS, {**LISTS, "maxItems": 3}]}}, "$ref": "#/$defs/lists"}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
LONG_PROMPT = "Here is a list of words: " + "word bird tree " * 40


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> EngineName:
    name: EngineName = request.param
    reason = why_unavailable(name)
    if reason is not None:
        _skip(reason)
    return name


def _skip(reason: str) -> None:
    """Skip where an engine is not built; the project's own checks have all of them."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def ours_alone(reason: str) -> pytest.MarkDecorator:
    """Run a test with llama-cpp-python alone, for a `reason`."""
    assert reason
    return pytest.mark.parametrize("engine", ["llama-cpp-python"], indirect=True)


@pytest.fixture(scope="module")
def chat_worker(engine: EngineName, chat_gguf: Path) -> Iterator[Worker]:
    with running(chat_gguf, "--engine", engine, "--context-window", str(WINDOW)) as worker:
        yield worker


@pytest.fixture(scope="module")
def embedding_worker(engine: EngineName, embedding_gguf: Path) -> Iterator[Worker]:
    with running(embedding_gguf, "--engine", engine, "--embedding") as worker:
        yield worker


@pytest.fixture
async def chat(chat_worker: Worker) -> AsyncIterator[Client]:
    async with client_of(chat_worker) as client:
        yield client


@pytest.fixture
async def embedder(embedding_worker: Worker) -> AsyncIterator[Client]:
    async with client_of(embedding_worker) as client:
        yield client


def ask(text: str = "Say hello.", **fields: Any) -> dict[str, Any]:
    message = {"role": "user", "content": text}
    return {"messages": [message], "max_tokens": 12, "temperature": 0, "cache_prompt": False} | fields


async def reply(client: Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    status, answer = await client.post(path, body)
    assert status == 200, answer
    assert isinstance(answer, dict)
    return answer


async def say(client: Client, text: str = "Say hello.", **fields: Any) -> str:
    content = (await reply(client, CHAT, ask(text, **fields)))["choices"][0]["message"]["content"]
    assert isinstance(content, str)
    return content


def deltas(events: list[dict[str, Any]], index: int = 0) -> list[dict[str, Any]]:
    choices = [choice for event in events for choice in event["choices"] if choice["index"] == index]
    return [choice["delta"] for choice in choices]


# Chat


async def test_the_engine_that_was_asked_for_serves(engine: EngineName, chat_worker: Worker) -> None:
    assert chat_worker.ready["engine"] == engine


async def test_a_chat_is_answered(chat: Client) -> None:
    answer = await reply(chat, CHAT, ask())

    (choice,) = answer["choices"]
    assert (answer["object"], answer["model"]) == ("chat.completion", "smollm2")
    assert (choice["index"], choice["message"]["role"]) == (0, "assistant")
    assert "hello" in choice["message"]["content"].lower()
    assert choice["finish_reason"] in ("stop", "length")
    assert isinstance(answer["created"], int)


async def test_usage_and_timings_count_the_same_tokens(chat: Client) -> None:
    answer = await reply(chat, CHAT, ask(max_tokens=5))

    usage, timings = answer["usage"], answer["timings"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (33, 5, 38)
    assert usage["prompt_tokens_details"] == {"cached_tokens": 0}
    assert (timings["prompt_n"], timings["cache_n"], timings["predicted_n"]) == (33, 0, 5)
    for name in ("prompt_ms", "prompt_per_second", "predicted_ms", "predicted_per_second"):
        assert timings[name] > 0


async def test_a_prompt_that_comes_again_is_not_computed_again(chat: Client) -> None:
    await say(chat, LONG_PROMPT, cache_prompt=True)

    answer = await reply(chat, CHAT, ask(LONG_PROMPT, cache_prompt=True))

    cached = answer["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert answer["usage"]["prompt_tokens"] > cached > 100
    assert answer["timings"]["cache_n"] == cached


async def test_without_the_cache_all_is_computed(chat: Client) -> None:
    await say(chat, LONG_PROMPT, cache_prompt=True)

    answer = await reply(chat, CHAT, ask(LONG_PROMPT, cache_prompt=False))

    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 0


async def test_a_stream_tells_the_text_of_a_plain_answer(chat: Client) -> None:
    plain = await say(chat)

    events = [event async for event in chat.stream(CHAT, ask())]

    told = deltas(events)
    assert "".join(delta.get("content") or "" for delta in told) == plain
    assert [delta.get("role") for delta in told] == ["assistant"] + [None] * (len(told) - 1)
    assert {event["object"] for event in events} == {"chat.completion.chunk"}
    assert len({event["id"] for event in events}) == 1
    assert [event["choices"][0]["finish_reason"] for event in events[:-1]] == [None] * (len(events) - 1)
    assert events[-1]["choices"][0]["finish_reason"] in ("stop", "length")
    assert all("usage" not in event for event in events)


async def test_a_stream_ends_with_its_usage_when_asked(chat: Client) -> None:
    events = [event async for event in chat.stream(CHAT, ask(stream_options={"include_usage": True}))]

    assert events[-1]["choices"] == []
    assert events[-1]["usage"]["completion_tokens"] == 12
    assert events[-1]["usage"]["prompt_tokens"] == 33


async def test_timings_come_with_each_token_when_asked(chat: Client) -> None:
    events = [event async for event in chat.stream(CHAT, ask(timings_per_token=True, max_tokens=4))]

    counts = [event["timings"]["predicted_n"] for event in events if event["choices"][0]["delta"].get("content")]
    assert counts == [1, 2, 3, 4]


async def test_max_tokens_ends_an_answer(chat: Client) -> None:
    answer = await reply(chat, CHAT, ask("Tell a long story.", max_tokens=5))

    assert answer["usage"]["completion_tokens"] == 5
    assert answer["choices"][0]["finish_reason"] == "length"


async def test_max_completion_tokens_does_so_as_well(chat: Client) -> None:
    body = ask("Tell a long story.", max_completion_tokens=4)
    del body["max_tokens"]

    assert (await reply(chat, CHAT, body))["usage"]["completion_tokens"] == 4


async def test_the_models_own_end_is_a_stop(chat: Client) -> None:
    answer = await reply(chat, CHAT, ask("Say only: hi", max_tokens=200))

    assert answer["choices"][0]["finish_reason"] == "stop"
    assert "<|im_end|>" not in answer["choices"][0]["message"]["content"]


async def test_the_end_can_be_ignored(chat: Client) -> None:
    answer = await reply(chat, CHAT, ask("Say only: hi", max_tokens=40, ignore_eos=True))

    assert answer["usage"]["completion_tokens"] == 40


@pytest.mark.parametrize("stream", [False, True])
async def test_a_stop_string_ends_an_answer_and_is_never_told(chat: Client, stream: bool) -> None:
    whole = await say(chat, max_tokens=24)
    stop = whole[len(whole) // 2 : len(whole) // 2 + 5]
    body = ask(max_tokens=24, stop=["never there", stop])

    if stream:
        events = [event async for event in chat.stream(CHAT, body)]
        text = "".join(delta.get("content") or "" for delta in deltas(events))
        reason = events[-1]["choices"][0]["finish_reason"]
    else:
        choice = (await reply(chat, CHAT, body))["choices"][0]
        text, reason = choice["message"]["content"], choice["finish_reason"]

    assert (text, reason) == (whole[: whole.index(stop)], "stop")


async def test_characters_of_several_tokens_are_told_whole(chat: Client) -> None:
    body = ask("Repeat: 🌟🌟🌟", max_tokens=12, grammar='root ::= "🌟é漢"')

    events = [event async for event in chat.stream(CHAT, body)]

    assert "".join(delta.get("content") or "" for delta in deltas(events)) == "🌟é漢"
    assert all("\ufffd" not in (delta.get("content") or "") for delta in deltas(events))


async def test_a_seed_repeats_an_answer_and_another_one_does_not(chat: Client) -> None:
    one, again, other = [await say(chat, temperature=1.5, seed=seed, max_tokens=20) for seed in (7, 7, 8)]

    assert one == again
    assert one != other


async def test_several_answers_are_drawn_apart_from_each_other(chat: Client) -> None:
    answer = await reply(chat, CHAT, ask(n=3, temperature=1.5, seed=3, max_tokens=8))

    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert len({choice["message"]["content"] for choice in answer["choices"]}) > 1
    assert answer["usage"]["prompt_tokens"] == 33


async def test_several_answers_are_streamed_each_to_its_end(chat: Client) -> None:
    events = [event async for event in chat.stream(CHAT, ask(n=2, temperature=1, max_tokens=4, ignore_eos=True))]

    for index in (0, 1):
        choices = [choice for event in events for choice in event["choices"] if choice["index"] == index]
        roles = [choice["delta"]["role"] for choice in choices if "role" in choice["delta"]]
        assert roles in (["assistant"], [])  # llama.cpp's server may leave one out of several; the gateway gives them
        assert [choice["finish_reason"] for choice in choices if choice["finish_reason"]] == ["length"]
        assert choices[-1]["finish_reason"] == "length"


async def test_logprobs_tell_each_token_and_its_rivals(chat: Client) -> None:
    choice = (await reply(chat, CHAT, ask(logprobs=True, top_logprobs=3, max_tokens=4)))["choices"][0]

    tokens = choice["logprobs"]["content"]
    assert "".join(token["token"] for token in tokens) == choice["message"]["content"]
    for token in tokens:
        assert len(token["top_logprobs"]) == 3
        assert token["logprob"] == max(rival["logprob"] for rival in token["top_logprobs"]) <= 0
        assert sum(math.exp(rival["logprob"]) for rival in token["top_logprobs"]) <= 1
        assert bytes(token["bytes"]).decode() == token["token"]


async def test_logprobs_are_streamed_with_their_tokens(chat: Client) -> None:
    events = [event async for event in chat.stream(CHAT, ask(logprobs=True, top_logprobs=1, max_tokens=3))]

    rated = [token for event in events for token in (event["choices"][0].get("logprobs") or {}).get("content", [])]
    assert "".join(token["token"] for token in rated) == "".join(d.get("content") or "" for d in deltas(events))


@pytest.mark.parametrize("stream", [False, True])
async def test_nothing_of_a_stop_string_is_among_the_logprobs(chat: Client, stream: bool) -> None:
    """One engine tells the beginning of the token in which it stopped, the other no part of it."""
    text = await say(chat, "Name some colours.", max_tokens=20)
    stop = text[6:14]
    body = ask("Name some colours.", max_tokens=20, stop=[stop], logprobs=True)

    if stream:
        choices = [chunk["choices"][0] async for chunk in chat.stream(CHAT, body) if chunk["choices"]]
        content = "".join(choice["delta"].get("content") or "" for choice in choices)
        tokens = [token for choice in choices for token in (choice.get("logprobs") or {"content": []})["content"]]
    else:
        choice = (await reply(chat, CHAT, body))["choices"][0]
        content, tokens = choice["message"]["content"], choice["logprobs"]["content"]

    assert content == text[:6]
    assert content.startswith("".join(token["token"] for token in tokens))


async def test_a_token_that_is_ruled_out_is_not_drawn_for_want_of_a_likely_one(chat: Client) -> None:
    """What else the grammar permits is nowhere near the likeliest tokens."""
    grammar = 'root ::= "4" | "\u0c20"'
    question = "What is 2+2? Answer with a number."
    choice = (await reply(chat, CHAT, ask(question, grammar=grammar, logprobs=True)))["choices"][0]
    first = choice["logprobs"]["content"][0]

    said = await say(chat, question, grammar=grammar, logit_bias={str(first["id"]): -100}, max_tokens=3)

    assert (first["token"], said) == ("4", "\u0c20")


@pytest.mark.parametrize("penalty", ["presence_penalty", "frequency_penalty"])
async def test_a_penalty_keeps_words_from_coming_back(chat: Client, penalty: str) -> None:
    async def different_tokens(**fields: Any) -> int:
        body = ask("Write the word banana ten times.", max_tokens=40, logprobs=True, ignore_eos=True, **fields)
        choice = (await reply(chat, CHAT, body))["choices"][0]
        return len({token["id"] for token in choice["logprobs"]["content"]})

    free = await different_tokens()

    assert await different_tokens(**{penalty: 2}) > free


async def test_a_logit_bias_forces_and_forbids_a_token(chat: Client) -> None:
    rated = (await reply(chat, CHAT, ask(logprobs=True, top_logprobs=2, max_tokens=1)))["choices"][0]["logprobs"]
    first, second = rated["content"][0]["top_logprobs"]

    forced = await say(chat, max_tokens=1, logit_bias={str(second["id"]): 100})
    forbidden = await say(chat, max_tokens=1, logit_bias={str(first["id"]): -100})

    assert (forced, forbidden) == (second["token"], second["token"])


@pytest.mark.parametrize("narrow", [{"top_p": 1e-6}, {"top_k": 1}, {"min_p": 1.0}], ids=["top_p", "top_k", "min_p"])
async def test_the_narrowest_choice_is_the_likeliest_token(chat: Client, narrow: dict[str, Any]) -> None:
    greedy = await say(chat)

    assert await say(chat, temperature=1.5, seed=1, **narrow) == greedy


# The form of answers


@pytest.mark.parametrize(
    "response_format",
    [
        {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA, "strict": True}},
        {"type": "json_object", "schema": SCHEMA},
    ],
    ids=["json_schema", "json_object with a schema"],
)
@pytest.mark.parametrize("temperature", [0, 1.2])
async def test_an_answer_follows_a_schema(chat: Client, response_format: dict[str, Any], temperature: float) -> None:
    text = await say(
        chat, "Invent a person.", response_format=response_format, max_tokens=120, temperature=temperature, seed=5
    )

    person = json.loads(text)
    assert person.keys() == {"name", "age"}
    assert isinstance(person["age"], int)


NULLABLE_COLOUR = {"properties": {"a": {"type": ["string", "null"], "enum": ["red", None]}}, "required": ["a"]}
ENUM_BEHIND_ALL_OF = {
    "properties": {"a": {"allOf": [{"$ref": "#/$defs/Colour"}], "description": "colour"}},
    "required": ["a"],
    "$defs": {"Colour": {"type": "string", "enum": ["red", "blue"]}},
}
HOLDS_ITSELF = {
    "$ref": "#/$defs/Node",
    "$defs": {
        "Node": {
            "type": "object",
            "properties": {"a": {"enum": ["red"]}, "char": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/Node"}]}},
            "required": ["a"],
            "additionalProperties": False,
        }
    },
}


@pytest.mark.parametrize(
    "schema",
    [NULLABLE_COLOUR, ENUM_BEHIND_ALL_OF, HOLDS_ITSELF],
    ids=["a nullable enum", "an enum behind allOf", "a schema that holds itself"],
)
async def test_schemas_as_libraries_write_them_are_kept_to(chat: Client, schema: dict[str, Any]) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object", **schema}}}
    if "$ref" in schema:
        wanted["json_schema"] = {"name": "x", "schema": schema}

    choice = (await reply(chat, CHAT, ask("Give an example as JSON.", response_format=wanted, max_tokens=200)))[
        "choices"
    ][0]

    assert choice["message"]["content"].replace("\n", " ").split(":")[1].split()[0].strip('",}') in (
        "red",
        "blue",
        "null",
    )
    if choice["finish_reason"] == "stop":
        assert "a" in json.loads(choice["message"]["content"])


@pytest.mark.parametrize("value", ["C:\\dir", "a\nb", 'say "hi"', "é\u2028"])
async def test_any_text_may_be_among_the_values(chat: Client, value: str) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": [value]}}}

    assert json.loads(await say(chat, response_format=wanted, max_tokens=40)) == value


@ours_alone("llama.cpp's server reads some of these in its own way")
@pytest.mark.parametrize("pattern", ["^a]$", "^a}$", "^a{ 300000000}$", "^(a?){2,}$"])
async def test_a_pattern_that_cannot_be_read_is_refused(engine: EngineName, chat: Client, pattern: str) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "string", "pattern": pattern}}}

    status, body = await chat.post(CHAT, ask(response_format=wanted))

    assert (status, body["error"]["type"]) == (400, "invalid_request_error")
    assert await say(chat, max_tokens=1)


async def test_an_answer_follows_a_pattern(chat: Client) -> None:
    schema = {"type": "string", "pattern": "^[0-9]{3}-[x-z]+ \\(ok\\)$"}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    body = ask(response_format=wanted, max_tokens=60)

    choice = (await reply(chat, CHAT, body))["choices"][0]

    assert re.match('"[0-9]{3}-[x-z]', choice["message"]["content"])


async def test_an_answer_is_some_json_object_when_asked(chat: Client) -> None:
    """So small a model does not always come to an end; what it has written until then begins an object."""
    body = ask("Invent a person, as JSON.", response_format={"type": "json_object"}, max_tokens=100)

    choice = (await reply(chat, CHAT, body))["choices"][0]

    text = choice["message"]["content"]
    assert text.lstrip().startswith("{")
    if choice["finish_reason"] == "stop":
        assert isinstance(json.loads(text), dict)


async def test_an_answer_follows_a_grammar(chat: Client) -> None:
    assert await say(chat, "Yes or no?", grammar='root ::= "maybe" | "perhaps"') in ("maybe", "perhaps")


@pytest.mark.parametrize(
    "fields",
    [
        {"grammar": 'root ::= "a" | ('},
        {"grammar": "root ::= missing"},
        {"grammar": "root ::= root"},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "http://127.0.0.1/x"}}}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "https://127.0.0.1/x"}}}},
        {"response_format": {"type": "other"}},
    ],
    ids=["open bracket", "missing rule", "left recursion", "unknown type", "$ref to http", "$ref to https", "format"],
)  # fmt: skip
async def test_a_form_that_makes_no_sense_is_refused(chat: Client, fields: dict[str, Any]) -> None:
    status, body = await chat.post(CHAT, ask(**fields))

    assert (status, body["error"]["type"]) == (400, "invalid_request_error")
    assert await say(chat, max_tokens=1)


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("grammar", 'root ::= a\na ::= "x" a "b" | "x" a "c"'),
        ("json_schema", ENDLESS),
        ("response_format", {"type": "json_schema", "json_schema": {"name": "x", "schema": ENDLESS}}),
    ],
)
async def test_a_form_whose_ways_multiply_is_refused_by_its_field(
    chat: Client, path: str, name: str, form: Any
) -> None:
    """Each token would take twice as long as the one before; after thirty of them the process is killed as one that hangs."""
    body = ask(max_tokens=60, **{name: form})

    status, told = await chat.post(path, {"prompt": "[[[", **body} if path == COMPLETIONS else body)

    assert (status, told["error"]["param"], told["error"]["code"]) == (400, name, "invalid_value")


@ours_alone("llama.cpp's server has the last word there")
async def test_a_grammar_is_not_repeated_in_the_log(engine: EngineName, chat_worker: Worker, chat: Client) -> None:
    await chat.post(CHAT, ask(grammar='root ::= "my secret" | ('))

    assert "secret" not in chat_worker.noise


# What is refused


async def test_a_prompt_over_the_window_is_refused(chat: Client) -> None:
    status, body = await chat.post(CHAT, ask("word " * (WINDOW + 100)))

    assert (status, body["error"]["type"]) == (400, "exceed_context_size_error")
    assert body["error"]["n_prompt_tokens"] > body["error"]["n_ctx"] == WINDOW


@ours_alone("llama.cpp's server takes such a text apart first")
async def test_a_prompt_far_over_the_window_is_refused_as_too_long(engine: EngineName, chat: Client) -> None:
    status, body = await chat.post(CHAT, ask("w" * 900_000))

    assert (status, body["error"]["type"], body["error"]["n_ctx"]) == (400, "exceed_context_size_error", WINDOW)
    assert body["error"]["n_prompt_tokens"] > WINDOW


async def test_an_answer_ends_with_the_window(chat: Client) -> None:
    body = ask("word " * (WINDOW - 60), max_tokens=WINDOW, ignore_eos=True)

    answer = await reply(chat, CHAT, body)

    assert answer["choices"][0]["finish_reason"] == "length"
    assert WINDOW - 1 <= answer["usage"]["total_tokens"] <= WINDOW


NONSENSE: list[dict[str, Any]] = [
    {"messages": 5},
    {"messages": [{"role": "user"}]},
    {"messages": ["hi"]},
    {"n": 1000},
    {"n": 0},
    {"temperature": "hot"},
    {"max_tokens": "many"},
    {"stop": 5},
    {"top_logprobs": 2},
]
# llama.cpp's server takes some of it, which the gateway refuses before.
REFUSED_BY_OURS = {"stop", "messages"}


@pytest.mark.parametrize(
    ("engine", "fields"),
    [
        (engine, fields)
        for engine in ENGINES
        for fields in NONSENSE
        if engine != "xllamacpp" or fields == {"messages": 5} or not fields.keys() & REFUSED_BY_OURS
    ],
    indirect=["engine"],
    ids=str,
)
async def test_a_field_that_makes_no_sense_is_refused(engine: EngineName, chat: Client, fields: dict[str, Any]) -> None:
    status, body = await chat.post(CHAT, ask(**fields))

    assert (status, body["error"]["type"]) == (400, "invalid_request_error")


IMPOSSIBLE: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]},
    {"messages": [{"role": "tool", "tool_call_id": "1", "content": "5"}]},
    {"tools": [TOOL]},
    {"tools": [TOOL], "tool_choice": "required"},
    {"reasoning_effort": "high"},
    {"dry_multiplier": 0.8},
    {"id_slot": 1},
    {"chat_template_kwargs": {}},
    {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "integer", "minimum": 3}}}},
]


# Of the rest llama.cpp's server can do some, and the gateway refuses what it cannot.
@pytest.mark.parametrize(
    ("engine", "fields"),
    [(engine, fields) for engine in ENGINES for fields in IMPOSSIBLE if engine != "xllamacpp" or "tools" in fields],
    indirect=["engine"],
    ids=str,
)
async def test_what_the_model_or_the_engine_cannot_do_is_refused(
    engine: EngineName, chat: Client, fields: dict[str, Any]
) -> None:
    status, body = await chat.post(CHAT, ask(**fields))

    assert (status, body["error"]["code"]) == (400, "unsupported_parameter")


@ours_alone("tools are refused there for a template without them, wanted or not")
async def test_tools_that_must_not_be_called_are_no_obstacle(engine: EngineName, chat: Client) -> None:
    assert await say(chat, tools=[TOOL], tool_choice="none")


# Completions


@pytest.mark.parametrize("prompt", ["One two three", [4054, 827, 1296]], ids=["text", "tokens"])
async def test_a_prompt_is_completed(chat: Client, prompt: object) -> None:
    answer = await reply(chat, COMPLETIONS, {"prompt": prompt, "max_tokens": 4, "temperature": 0})

    assert (answer["object"], answer["usage"]["completion_tokens"]) == ("text_completion", 4)
    assert answer["choices"][0]["text"]
    assert answer["choices"][0]["finish_reason"] == "length"


async def test_several_prompts_are_completed_in_order(chat: Client) -> None:
    alone = [
        (await reply(chat, COMPLETIONS, {"prompt": prompt, "max_tokens": 3, "temperature": 0, "cache_prompt": False}))[
            "choices"
        ][0]["text"]
        for prompt in ("One two", "The sky is")
    ]

    answer = await reply(chat, COMPLETIONS, {"prompt": ["One two", "The sky is"], "max_tokens": 3, "temperature": 0})

    assert [choice["index"] for choice in answer["choices"]] == [0, 1]
    assert [choice["text"][:1] for choice in answer["choices"]] == [text[:1] for text in alone]


async def test_a_completion_is_streamed(chat: Client) -> None:
    events = [event async for event in chat.stream(COMPLETIONS, {"prompt": "One two", "max_tokens": 3})]

    assert {event["object"] for event in events} == {"text_completion"}
    assert "".join(event["choices"][0]["text"] for event in events)
    assert events[-1]["choices"][0]["finish_reason"] == "length"


@ours_alone("llama.cpp's server tells of each choice what it reused itself")
async def test_choices_do_not_count_each_other_as_cached(engine: EngineName, chat: Client) -> None:
    body = {"prompt": "Nobody asked this before: " + LONG_PROMPT, "n": 3, "max_tokens": 8, "temperature": 1.3}

    events = [event async for event in chat.stream(COMPLETIONS, body)]

    usages = [event["usage"] for event in events if "usage" in event]
    assert len(usages) == 3
    assert all(usage["prompt_tokens_details"]["cached_tokens"] < 5 for usage in usages)


async def test_token_ids_outside_the_vocabulary_are_refused(chat: Client) -> None:
    for prompt in ([10**7], [-1]):
        status, body = await chat.post(COMPLETIONS, {"prompt": prompt, "max_tokens": 1})

        assert (status, body["error"]["message"]) == (400, "Prompt contains invalid tokens")


@ours_alone("llama.cpp's server leaves it out, so the gateway refuses it")
async def test_echo_begins_with_the_prompt(engine: EngineName, chat: Client) -> None:
    answer = await reply(chat, COMPLETIONS, {"prompt": "One two", "max_tokens": 3, "echo": True})

    assert answer["choices"][0]["text"].startswith("One two")


@ours_alone("llama.cpp's server leaves it out, so the gateway refuses it")
async def test_a_suffix_needs_a_model_that_fills_in(engine: EngineName, chat: Client) -> None:
    status, body = await chat.post(COMPLETIONS, {"prompt": "def f(", "suffix": "return 1"})

    assert (status, body["error"]["code"], body["error"]["param"]) == (400, "unsupported_parameter", "suffix")


# Models that somebody tampered with

BEGINNING_OF_TEMPLATE = b"{% for message in messages %}"


def with_template(model: Path, template: str, made: Path) -> Path:
    """Write a copy of `model` whose chat template begins with `template` and ends with a comment."""
    raw = bytearray(model.read_bytes())
    start = raw.index(BEGINNING_OF_TEMPLATE)
    length = int.from_bytes(raw[start - 8 : start], "little")
    text = template.encode()
    raw[start : start + length] = text + b"{#" + b" " * (length - len(text) - 4) + b"#}"
    made.write_bytes(raw)
    return made


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages.__class__.__base__.__subclasses__() }}",
        "{{ raise_exception.__globals__['__builtins__']['open']('FILE', 'w') }}",
        "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% endfor %}{% endfor %}",
        "{% set n = namespace(s='xx') %}{% for i in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}",
        "{% for",
    ],
    ids=["classes", "file", "loop", "memory", "syntax"],
)
@ours_alone("llama.cpp's own templates have no Python to reach")
async def test_a_template_that_would_do_harm_is_refused(
    engine: EngineName, chat_gguf: Path, tmp_path: Path, template: str
) -> None:
    target = tmp_path / "made"
    model = with_template(chat_gguf, template.replace("FILE", str(target)), tmp_path / "model.gguf")

    with running(model, "--engine", engine, "--context-window", "256") as worker:
        async with client_of(worker) as client:
            status, body = await client.post(CHAT, ask())
            answer = await reply(client, COMPLETIONS, {"prompt": "One two", "max_tokens": 2})

    assert (status, body["error"]["code"]) == (422, "bad_template")
    assert not target.exists()
    assert answer["usage"]["completion_tokens"] == 2


TOOL_TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if tools %}{{ tools | tojson }} Call: <tool_call>{'name': ..., 'arguments': ...}</tool_call>{% endif %}"
    "{# tool_calls #}"
)


@ours_alone("which form of calls llama.cpp reads from a template is its own matter")
async def test_a_tool_that_must_be_called_is_called(engine: EngineName, chat_gguf: Path, tmp_path: Path) -> None:
    model = with_template(chat_gguf, TOOL_TEMPLATE, tmp_path / "model.gguf")
    place = {"$ref": "#/$defs/Place"}
    parameters = {"type": "object", "properties": {"at": place}, "required": ["at"]}
    parameters["$defs"] = {"Place": {"enum": ["sea", "sky"]}}
    tool = {"type": "function", "function": {"name": "look", "parameters": parameters}}
    choice = {"type": "function", "function": {"name": "look"}}
    body = ask("Look at the sea.", tools=[tool], tool_choice=choice, max_tokens=80)

    with running(model, "--engine", engine, "--context-window", "512") as worker:
        async with client_of(worker) as client:
            plain = (await reply(client, CHAT, body))["choices"][0]
            events = [event async for event in client.stream(CHAT, body)]

    (call,) = plain["message"]["tool_calls"]
    assert (plain["finish_reason"], plain["message"]["content"], call["function"]["name"]) == (
        "tool_calls",
        None,
        "look",
    )
    assert json.loads(call["function"]["arguments"])["at"] in ("sea", "sky")
    streamed = [delta["tool_calls"][0] for delta in deltas(events) if "tool_calls" in delta]
    assert [one["function"] for one in streamed] == [call["function"]]
    assert events[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_a_model_whose_weights_are_missing_is_a_bad_model(engine: EngineName, chat_gguf: Path, tmp_path: Path) -> None:
    """Its header is sound but for one name, so that the engine itself has to find out."""
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(chat_gguf.read_bytes().replace(b"output_norm.weight", b"output_nonsense.we"))
    with TemporaryDirectory() as directory:
        argv = command(broken, Path(directory) / "m.sock", "--engine", engine, "--context-window", "256")
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)

    report = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, report["event"]) == (EXIT_BAD_MODEL, "failed")
    assert "output_norm" in report["reason"]


# Together


async def test_answers_are_written_together(chat: Client) -> None:
    order: list[int] = []

    async def follow(number: int) -> None:
        async for _ in chat.stream(CHAT, ask(f"Tell story {number}.", max_tokens=40, ignore_eos=True)):
            order.append(number)

    await asyncio.gather(*(follow(number) for number in range(4)))

    assert sum(one != other for one, other in itertools.pairwise(order)) > 40


async def test_eight_at_once_are_all_answered(chat: Client) -> None:
    answers = await asyncio.gather(
        *(reply(chat, CHAT, ask(f"Tell story {number}.", max_tokens=16, ignore_eos=True)) for number in range(8))
    )

    assert [answer["usage"]["completion_tokens"] for answer in answers] == [16] * 8


async def test_whoever_leaves_frees_the_place(chat: Client) -> None:
    """All places are taken by answers that would each take minutes; both ways of leaving are tried."""
    endless = ask("Tell a story.", max_tokens=WINDOW, ignore_eos=True)
    streams = [chat.stream(CHAT, endless) for _ in range(4)]
    await asyncio.gather(*(anext(stream) for stream in streams))
    for stream in streams:
        await stream.aclose()
    plain = [asyncio.create_task(chat.post(CHAT, endless)) for _ in range(4)]
    await asyncio.sleep(0.5)
    for task in plain:
        task.cancel()

    answer = await asyncio.wait_for(reply(chat, CHAT, ask(max_tokens=3)), 20)

    assert answer["usage"]["completion_tokens"] == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_while_it_writes(engine: EngineName, chat_gguf: Path, number: int) -> None:
    with running(chat_gguf, "--engine", engine, "--context-window", str(WINDOW)) as worker:
        async with client_of(worker) as client:
            stream = client.stream(CHAT, ask("Tell a story.", max_tokens=WINDOW, ignore_eos=True))
            await anext(stream)
            worker.process.send_signal(number)

            code = await asyncio.to_thread(worker.process.wait, 5)
            await stream.aclose()

    assert code == 0
    assert not worker.socket.exists()


# Embeddings


async def embed(client: Client, inputs: object, **fields: Any) -> list[list[float]]:
    answer = await reply(client, EMBEDDINGS, {"input": inputs, **fields})
    assert [entry["index"] for entry in answer["data"]] == list(range(len(answer["data"])))
    return [entry["embedding"] for entry in answer["data"]]


def dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


async def test_vectors_have_length_one_and_like_is_near(embedder: Client) -> None:
    ship, vessel, tax = await embed(
        embedder, ["The ship left the harbour.", "A vessel departed from the port.", "Taxes are due in April."]
    )

    assert len(ship) == 384
    assert math.isclose(dot(ship, ship), 1, abs_tol=1e-5)
    assert dot(ship, vessel) > 0.6 > 0.3 > dot(ship, tax)


async def test_a_vector_does_not_depend_on_its_neighbours(embedder: Client) -> None:
    texts = [f"{number} " + "word bird tree " * (number * 7 % 40) for number in range(12)]

    together = await embed(embedder, texts)
    alone = [(await embed(embedder, text))[0] for text in texts]
    at_once = await asyncio.gather(*(embed(embedder, text) for text in texts))

    assert together == alone == [vectors[0] for vectors in at_once]


async def test_base64_holds_the_same_floats(embedder: Client) -> None:
    (floats,) = await embed(embedder, "hello")

    (encoded,) = await embed(embedder, "hello", encoding_format="base64")

    assert list(struct.unpack("<384f", base64.b64decode(str(encoded)))) == pytest.approx(floats, abs=1e-7)


async def test_usage_counts_every_input(embedder: Client) -> None:
    answer = await reply(embedder, EMBEDDINGS, {"input": ["hello", "hello world"]})

    assert answer["usage"] == {"prompt_tokens": 7, "total_tokens": 7}


async def test_an_input_of_the_whole_window_is_not_cut(embedder: Client) -> None:
    whole, shorter = await embed(embedder, ["word " * 510, "word " * 509 + "ship"])

    assert whole != shorter


async def test_an_input_over_the_window_is_refused(embedder: Client) -> None:
    status, body = await embedder.post(EMBEDDINGS, {"input": ["fine", "word " * 511]})

    assert (status, body["error"]["type"]) == (400, "exceed_context_size_error")
    assert (body["error"]["n_prompt_tokens"], body["error"]["n_ctx"]) == (513, 512)


async def test_an_input_over_the_window_is_cut_where_that_is_wanted(engine: EngineName, embedding_gguf: Path) -> None:
    with running(embedding_gguf, "--engine", engine, "--embedding", "--too-long", "cut") as worker:
        async with client_of(worker) as client:
            longer, whole = await embed(client, ["word " * 600, "word " * 510])

    assert dot(longer, whole) > 0.9999


@pytest.mark.parametrize("given", [[], 5, [["a"]], [10**7], None], ids=str)
async def test_inputs_that_make_no_sense_are_refused(embedder: Client, given: object) -> None:
    status, body = await embedder.post(EMBEDDINGS, {"input": given})

    assert (status, body["error"]["type"]) == (400, "invalid_request_error")


async def test_the_wrong_kind_of_model_says_so(chat: Client) -> None:
    status, body = await chat.post(EMBEDDINGS, {"input": "hello"})

    assert (status, body["error"]["type"]) == (501, "not_supported_error")


async def test_both_engines_give_the_same_vectors(embedding_gguf: Path) -> None:
    vectors: list[list[float]] = []
    for name in ENGINES:
        reason = why_unavailable(name)
        if reason is not None:
            _skip(reason)
        with running(embedding_gguf, "--engine", name, "--embedding") as worker:
            async with client_of(worker) as client:
                vectors += await embed(client, "The ship left the harbour.")

    assert dot(*vectors) > 0.999
