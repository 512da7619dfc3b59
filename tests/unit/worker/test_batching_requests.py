"""Bodies become sequences: each field is kept, or the request is refused."""

from __future__ import annotations

import math
from typing import Any, cast

import pytest

from gateway.worker.batching.fields import bias_of, limit_of, rated_of, sampling_of, stops_of
from gateway.worker.batching.grammar import grammar_of
from gateway.worker.batching.messages import Abilities, forced_tools, read_messages, read_tools, tagged_call
from gateway.worker.batching.native import Vocabulary
from gateway.worker.batching.refusals import Refusal
from gateway.worker.batching.requests import Desk
from gateway.worker.batching.sampling import GrammarError
from gateway.worker.batching.template import ChatTemplate
from gateway.worker.batching.work import Sampling

PLAIN = Abilities("{{ messages }}")
HERMES = Abilities("{% if tools %}<tool_call>{'name':, 'arguments': }</tool_call> tool_calls{% endif %}")
TOOL = {"type": "function", "function": {"name": "look"}}


class Letters:
    """A vocabulary whose tokens are bytes, with marks for filling in."""

    size = 256

    def __init__(self, **specials: int) -> None:
        self._specials = specials
        self.adds_bos = "bos" in specials

    def longest(self) -> int:
        return 2

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        return list(text.encode())

    def piece(self, token: int, *, special: bool = False) -> bytes:
        return bytes([token])

    def ends(self) -> tuple[int, ...]:
        return (0,)

    def special(self, name: str) -> int | None:
        return self._specials.get(name)


def only_words(grammar: str) -> None:
    if not grammar.startswith("root"):
        raise GrammarError("failed to parse grammar")


def desk(template: str = "{% for m in messages %}{{ m.content }}{% endfor %}>", **specials: int) -> Desk:
    vocabulary = cast("Vocabulary", Letters(**specials))
    return Desk(vocabulary, ChatTemplate(template), 100, 4, lambda: 5, only_words)


def ask(**fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "hi"}]} | fields


# Chats


def test_a_chat_becomes_one_sequence() -> None:
    job = desk().read_chat(ask(max_tokens=7, stop="x", logprobs=True, top_logprobs=2, stream=True))

    (sequence,) = job.sequences
    assert bytes(sequence.tokens) == b"hi>"
    assert (sequence.limit, sequence.stops, sequence.rated, sequence.reuse) == (7, ("x",), 2, True)
    assert (job.manner.is_chat, job.manner.stream, job.manner.with_usage) == (True, True, False)


def test_an_answer_may_fill_the_rest_of_the_window() -> None:
    assert [desk().read_chat(ask(max_tokens=n)).sequences[0].limit for n in (None, -1, 500)] == [97, 97, 97]


def test_choices_share_their_prompt_and_differ_in_their_seed() -> None:
    first, *others = desk().read_chat(ask(n=3, seed=7)).sequences

    assert [other.leader for other in others] == [first, first]
    assert [sequence.sampling.seed for sequence in (first, *others)] == [7, 8, 9]


def test_without_the_cache_choices_share_nothing() -> None:
    assert [one.leader for one in desk().read_chat(ask(n=2, cache_prompt=False)).sequences] == [None, None]


def test_an_answer_that_the_caller_began_goes_on() -> None:
    body = ask(messages=[{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Well, "}])

    assert bytes(desk().read_chat(body).sequences[0].tokens) == b"hi>Well, "


def test_a_prompt_over_the_window_says_how_long_it_is() -> None:
    with pytest.raises(Refusal) as refusal:
        desk().read_chat(ask(messages=[{"role": "user", "content": "w" * 120}]))

    assert refusal.value.error["type"] == "exceed_context_size_error"
    assert (refusal.value.error["n_prompt_tokens"], refusal.value.error["n_ctx"]) == (121, 100)


def test_a_grammar_that_does_not_parse_is_refused() -> None:
    with pytest.raises(Refusal, match="failed to parse grammar"):
        desk().read_chat(ask(grammar="leaf ::= x"))


def test_a_form_whose_ways_multiply_is_refused_by_its_field() -> None:
    itself = {"$ref": "#"}
    lists = [{"type": "array", "items": itself}, {"type": "array", "items": itself, "minItems": 2}]

    with pytest.raises(Refusal, match="multiply") as refusal:
        desk().read_chat(ask(response_format={"type": "json_object", "schema": {"anyOf": lists}}))

    assert (refusal.value.error["param"], refusal.value.error["code"]) == ("response_format", "invalid_value")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [TOOL]}, "tools"),
        ({"reasoning_effort": "high"}, "reasoning_effort"),
        ({"chat_template": "x"}, "chat_template"),
        ({"lora": []}, "lora"),
        ({"best_of": 2}, "best_of"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"speculative.n_max": 3}, "speculative.n_max"),
        ({"dry_multiplier": 1}, "dry_multiplier"),
    ],
)
def test_what_would_be_left_out_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Refusal) as refusal:
        desk().read_chat(ask(**fields))

    assert (refusal.value.status, refusal.value.error["code"]) == (400, "unsupported_parameter")
    assert refusal.value.error["param"] == param


def test_a_model_without_a_template_says_so() -> None:
    bare = Desk(cast("Vocabulary", Letters()), None, 100, 4, lambda: 5, only_words)

    with pytest.raises(Refusal, match="no chat template"):
        bare.read_chat(ask())


@pytest.mark.parametrize(
    ("effort", "text"), [("none", "False"), ("low", "True")], ids=["no thoughts are wanted", "some are"]
)
def test_an_effort_reaches_a_template_that_can_stop_thinking(effort: str, text: str) -> None:
    job = desk("{{ enable_thinking }}</think>").read_chat(ask(reasoning_effort=effort))

    assert bytes(job.sequences[0].tokens).startswith(text.encode())


@pytest.mark.parametrize(("template", "thinks"), [("x", "no"), ("</think>", "maybe"), ("</think><think>\n", "inside")])
def test_thoughts_are_looked_for_where_the_template_has_them(template: str, thinks: str) -> None:
    assert desk(template).read_chat(ask()).manner.thinks == thinks


# Messages and tools


def test_parts_of_text_become_one_text() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]

    assert read_messages([{"role": "developer", "content": parts}], PLAIN) == [{"role": "system", "content": "a\nb"}]


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "file", "video_url"])
def test_other_parts_are_refused_by_name(kind: str) -> None:
    with pytest.raises(Refusal) as refusal:
        read_messages([{"role": "user", "content": [{"type": kind}]}], PLAIN)

    assert refusal.value.error["code"] == "unsupported_parameter"


def test_calls_reach_the_template_with_their_arguments_read() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}

    (message,) = read_messages([{"role": "assistant", "content": None, "tool_calls": [call]}], HERMES)

    assert message["tool_calls"][0]["function"] == {"name": "look", "arguments": {"at": 1}}
    assert message["content"] == ""


@pytest.mark.parametrize(
    "message",
    [
        5,
        {"content": "x"},
        {"role": "user"},
        {"role": "user", "content": 5},
        {"role": "user", "content": [{"type": "text"}]},
        {"role": "assistant", "tool_calls": [5]},
        {"role": "assistant", "tool_calls": 5},
        {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]},
    ],
    ids=str,
)
def test_messages_that_are_none_are_refused(message: object) -> None:
    with pytest.raises(Refusal):
        read_messages([message], HERMES)


def test_a_template_that_tells_of_tools_gets_them() -> None:
    assert read_tools({"tools": [TOOL]}, HERMES) == [TOOL]
    assert read_tools({"tools": [TOOL], "tool_choice": "none"}, PLAIN) == []


def test_a_form_of_calls_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(Refusal):
        read_tools({"tools": [TOOL]}, Abilities("tools tool_calls <tool_call><function=f>arguments"))


def test_a_choice_of_tools_is_kept_to() -> None:
    other = {"type": "function", "function": {"name": "other"}}

    assert forced_tools("auto", [TOOL, other]) == []
    assert forced_tools("required", [TOOL, other]) == [TOOL, other]
    assert forced_tools({"type": "function", "function": {"name": "other"}}, [TOOL, other]) == [other]
    with pytest.raises(Refusal):
        forced_tools({"type": "function", "function": {"name": "third"}}, [TOOL, other])


def test_a_forced_call_is_written_between_its_tags() -> None:
    grammar = tagged_call('root ::= "{" x "}"\nx ::= "1"')

    assert grammar.splitlines()[0] == r'root ::= "<tool_call>\n" called "\n</tool_call>"'
    assert 'called ::= "{" x "}"' in grammar


# Completions and embeddings


def test_a_text_that_no_window_could_hold_is_refused_before_it_is_read() -> None:
    huge = "x" * 1001
    messages = [{"role": "user", "content": huge}]

    for read, body in (
        (desk().read_chat, ask(messages=messages)),
        (desk().read_completion, {"prompt": ["a", huge]}),
    ):
        with pytest.raises(Refusal, match="at least 501 tokens") as refusal:
            read(body)

        assert refusal.value.error["type"] == "exceed_context_size_error"


def test_prompts_are_completed_each_for_itself() -> None:
    job = desk().read_completion({"prompt": ["ab", "c"], "n": 2, "echo": True})

    assert [bytes(one.tokens) for one in job.sequences] == [b"ab", b"ab", b"c", b"c"]
    assert (job.manner.echoes, job.manner.choices) == (("ab", "ab", "c", "c"), 2)


def test_a_model_that_fills_in_gets_what_is_around() -> None:
    job = desk(fim_pre=1, fim_suf=2, fim_mid=3).read_completion({"prompt": "ab", "suffix": "c"})

    assert job.sequences[0].tokens == [1, *b"ab", 2, *b"c", 3]


def test_a_text_to_fill_in_begins_like_every_other() -> None:
    job = desk(bos=9, fim_pre=1, fim_suf=2, fim_mid=3).read_completion({"prompt": "ab", "suffix": "c"})

    assert job.sequences[0].tokens == [9, 1, *b"ab", 2, *b"c", 3]


@pytest.mark.parametrize("prompt", [None, [], 5, [1, "a"], [[]], {"a": 1}, [256], [-1], [True]], ids=str)
def test_prompts_that_are_none_are_refused(prompt: object) -> None:
    with pytest.raises(Refusal):
        desk().read_completion({"prompt": prompt})


def test_inputs_may_be_texts_or_tokens() -> None:
    assert desk().read_inputs({"input": ["a", [5, 6]]}) == [[97], [5, 6]]


# Numbers


@pytest.mark.parametrize("value", ["1", True, -1, 1e308, math.inf, math.nan, [], 2**63])
@pytest.mark.parametrize(
    "name", ["temperature", "top_p", "min_p", "repeat_penalty", "typical_p", "mirostat_tau", "xtc_threshold"]
)
def test_numbers_out_of_range_are_refused(name: str, value: object) -> None:
    with pytest.raises(Refusal, match=name):
        sampling_of({name: value}, 256, (), 1)


@pytest.mark.parametrize("value", [2**31 + 1, -2, 1.5, 0, True, "1"])
def test_limits_out_of_range_are_refused(value: object) -> None:
    with pytest.raises(Refusal, match="max_tokens"):
        limit_of({"max_tokens": value})


def test_a_null_is_a_field_that_is_not_given() -> None:
    body = dict.fromkeys(("temperature", "top_p", "seed", "logit_bias", "stop", "logprobs", "max_tokens"))

    assert sampling_of(body, 256, (), 9) == Sampling(9)
    assert (stops_of(body), rated_of(body), limit_of(body)) == ((), None, None)


def test_a_bias_is_for_tokens_of_the_vocabulary() -> None:
    assert bias_of({"5": 1, "6": False}, 256) == {5: 1.0, 6: -math.inf}
    for wrong in ({"256": 1}, {"banana": 1}, {"5": 101}, {"5": math.nan}, {"5": True}, [1], {"²": 1}):
        with pytest.raises(Refusal, match="logit_bias"):
            bias_of(wrong, 256)


def test_ends_are_forbidden_when_they_are_to_be_ignored() -> None:
    assert sampling_of({"ignore_eos": True}, 256, (0,), 1).logit_bias == {0: -math.inf}


@pytest.mark.parametrize(
    "fields",
    [
        {"response_format": 5},
        {"response_format": {"type": "xml"}},
        {"response_format": {"type": "json_schema"}},
        {"grammar": "x", "json_schema": {}},
        {"grammar": 5},
        {"grammar": "(" * 1000},
        {"grammar": "a\0"},
        {"grammar": "x" * 1_000_000},
        {"json_schema": 5},
        {"json_schema": {"type": "nonsense"}},
        {"json_schema": {"type": ["string", 5]}},
        {"json_schema": {"properties": {"a": {"items": {"type": "nonsense"}}}}},
        {"json_schema": {"$ref": "http://127.0.0.1/x"}},
        {"json_schema": {"anyOf": [{"$ref": "https://127.0.0.1/x"}]}},
        {"json_schema": {"$ref": 5}},
        {"json_schema": {"type": "integer", "minimum": 3}},
        {"json_schema": {"type": "array", "uniqueItems": True}},
        {"json_schema": {"type": "string", "maxLength": 10**9}},
        {"json_schema": {"type": "array", "minItems": -1}},
        {"json_schema": {"type": "string", "pattern": "^(a{1000}){1000}$"}},
        {"json_schema": {"description": "x" * 100_000}},
    ],
    ids=lambda fields: str(fields)[:60],
)
def test_forms_that_cannot_be_kept_to_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(Refusal) as refusal:
        grammar_of(fields)

    assert refusal.value.status == 400


def test_a_schema_without_end_is_refused() -> None:
    schema: dict[str, Any] = {}
    for _ in range(200):
        schema = {"items": schema}

    with pytest.raises(Refusal, match="within each other"):
        grammar_of({"json_schema": schema})


def test_text_needs_no_grammar() -> None:
    assert grammar_of({"response_format": {"type": "text"}}) is None
