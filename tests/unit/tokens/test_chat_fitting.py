"""Conversations over a window: what is sent fits, keeps what must stay, and nothing is torn apart."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.tokens import (
    ChatPolicy,
    Counter,
    DoesNotFit,
    EncodingCounter,
    Encodings,
    FittedChat,
    SearchingCounter,
    count_chat,
    fit_chat,
)
from gateway.tokens.exchanges import is_instruction
from gateway.tokens.graphemes import is_between

CL100K = Encodings()["cl100k_base"]
POLICIES: tuple[ChatPolicy, ...] = get_args(ChatPolicy)
COUNTERS: dict[str, Callable[[], Counter]] = {
    "exact": lambda: EncodingCounter(CL100K),
    "margin": lambda: EncodingCounter(CL100K, 0.4),
    "bytes": lambda: SearchingCounter(lambda text: len(text.encode())),
    "words": lambda: SearchingCounter(lambda text: len(text.split())),
}
Message = dict[str, Any]

FRAGMENTS = ("plain words, ", "  \n\n", "Straße ", "漢字仮名。", "👨‍👩‍👧‍👦", "🇩🇪🇫🇷", "e\u0301", "\r\n", "हिन्दी", "0123456789")  # fmt: skip
TEXTS = st.one_of(
    st.text(max_size=20),
    st.tuples(st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=6), st.integers(1, 60)).map(
        lambda made: "".join(made[0]) * made[1]
    ),
)
PARTS = st.one_of(
    TEXTS.map(lambda text: {"type": "text", "text": text}),
    st.just({"type": "image_url", "image_url": {"url": "https://example.com/a", "detail": "low"}}),
    st.just({"type": "hologram", "depth": [3]}),
)
CONTENTS = st.one_of(TEXTS, st.lists(PARTS, max_size=3))
IDS = st.sampled_from(["call_1", "call_2", "call_3"])


def calling(ids: list[str]) -> Message:
    calls = [{"id": each, "type": "function", "function": {"name": "look", "arguments": "{}"}} for each in ids]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def said(role: str, content: Any, **more: Any) -> Message:
    return {"role": role, "content": content, **more}


ANY_MESSAGES = st.lists(
    st.one_of(
        st.builds(said, st.sampled_from(["system", "developer", "user", "assistant", "narrator"]), CONTENTS),
        st.lists(IDS, min_size=1, max_size=3, unique=True).map(calling),
        st.builds(lambda content, of: said("tool", content, tool_call_id=of), CONTENTS, IDS),
        st.just(said("assistant", None, function_call={"name": "look", "arguments": "{}"})),
        st.builds(lambda content: said("function", content, name="look"), TEXTS),
    ),
    min_size=1,
    max_size=12,
)
EXCHANGES = st.lists(
    st.one_of(
        st.builds(lambda asked, answer: [said("user", asked), said("assistant", answer)], CONTENTS, TEXTS),
        st.builds(
            lambda asked, found, answer: [
                said("user", asked),
                calling(["call_1"]),
                said("tool", found, tool_call_id="call_1"),
                said("assistant", answer),
            ],
            TEXTS,
            CONTENTS,
            TEXTS,
        ),
    ),
    min_size=1,
    max_size=5,
).map(lambda made: [message for exchange in made for message in exchange])
BODIES = st.fixed_dictionaries(
    {
        "messages": st.one_of(
            ANY_MESSAGES, st.builds(lambda text, rest: [said("system", text), *rest], TEXTS, EXCHANGES)
        )
    },
    optional={"tools": st.just([{"type": "function", "function": {"name": "look"}}])},
)
LIMITS = st.one_of(st.integers(-1, 200), st.integers(100, 1500))


def try_to_fit(body: Message, limit: int, policy: ChatPolicy, counter: Counter) -> FittedChat | None:
    try:
        return fit_chat(body, limit, policy, counter)
    except DoesNotFit as refused:
        assert refused.before >= refused.least > limit
        return None


@pytest.mark.parametrize("kind", COUNTERS)
@pytest.mark.parametrize("policy", POLICIES)
@given(body=BODIES, limit=LIMITS)
@settings(max_examples=60, deadline=None)
def test_what_is_sent_fits_by_the_counters_own_count_and_the_rest_is_told(
    kind: str, policy: ChatPolicy, body: Message, limit: int
) -> None:
    before = count_chat(body, COUNTERS[kind]()).total

    fitted = try_to_fit(body, limit, policy, COUNTERS[kind]())

    if fitted is not None:
        assert fitted.total == count_chat(fitted.body, COUNTERS[kind]()).total <= limit
        assert (fitted.before, fitted.dropped) == (before, before - fitted.total)
        assert (fitted.body is body) == (before <= limit)
    else:
        assert before > limit


@pytest.mark.parametrize("policy", POLICIES)
@given(body=BODIES, limit=LIMITS)
@settings(max_examples=80, deadline=None)
def test_the_given_body_stays_as_it_was_and_what_fits_is_not_touched_again(
    policy: ChatPolicy, body: Message, limit: int
) -> None:
    given_body = copy.deepcopy(body)

    fitted = try_to_fit(body, limit, policy, EncodingCounter(CL100K))

    assert body == given_body
    if fitted is not None:
        again = fit_chat(fitted.body, limit, policy, EncodingCounter(CL100K))
        assert again.body is fitted.body
        assert again.dropped == 0


def calls_of(messages: list[Message]) -> list[tuple[str, str]]:
    """Return the calls and the results of a conversation in their order."""
    found = []
    for message in messages:
        found += [("call", call["id"]) for call in message.get("tool_calls", ())]
        found += [("result", message["tool_call_id"])] if "tool_call_id" in message else []
    return found


@given(body=BODIES, limit=LIMITS)
@settings(max_examples=200, deadline=None)
def test_instructions_and_the_last_turn_survive_when_the_oldest_is_dropped(body: Message, limit: int) -> None:
    fitted = try_to_fit(body, limit, "drop_oldest", EncodingCounter(CL100K))

    if fitted is not None:
        kept, given_messages = fitted.body["messages"], body["messages"]
        asked = [place for place, message in enumerate(given_messages) if message["role"] == "user"]
        turn = [each["role"] for each in given_messages[asked[-1] :]] if asked else []
        assert list(filter(is_instruction, kept)) == list(filter(is_instruction, given_messages))
        assert [each["role"] for each in kept].count("user") >= len(asked[-1:])
        assert not turn or kept[-1]["role"] == turn[-1]


@given(body=BODIES, limit=LIMITS)
@settings(max_examples=200, deadline=None)
def test_no_call_is_left_without_its_result_nor_a_result_without_its_call(body: Message, limit: int) -> None:
    fitted = try_to_fit(body, limit, "drop_oldest", EncodingCounter(CL100K))

    if fitted is not None:
        given_calls, kept = calls_of(body["messages"]), calls_of(fitted.body["messages"])
        assert kept == given_calls[len(given_calls) - len(kept) :]
        dropped = given_calls[: len(given_calls) - len(kept)]
        for place, (what, name) in enumerate(kept):
            if what == "result" and ("call", name) not in kept[:place]:
                assert ("call", name) not in dropped


@given(body=BODIES, limit=LIMITS)
@settings(max_examples=200, deadline=None)
def test_no_message_is_left_out_where_middles_are_cut_and_none_but_texts_are_cut(body: Message, limit: int) -> None:
    fitted = try_to_fit(body, limit, "middle", EncodingCounter(CL100K))

    if fitted is not None:
        assert list(map(without_texts, fitted.body["messages"])) == list(map(without_texts, body["messages"]))
        assert {**fitted.body, "messages": None} == {**body, "messages": None}


def without_texts(message: Message) -> Message:
    content = message["content"]
    if isinstance(content, list):
        return {**message, "content": [{**part, "text": ""} if part["type"] == "text" else part for part in content]}
    return {**message, "content": "" if isinstance(content, str) else content}


def texts_of(message: Message) -> list[str]:
    content = message["content"]
    parts = content if isinstance(content, list) else [{"text": content or ""}]
    return [part["text"] for part in parts if "text" in part]


@pytest.mark.parametrize("policy", ["drop_oldest", "middle"])
@given(text=TEXTS, limit=st.integers(60, 300))
@settings(max_examples=150, deadline=None)
def test_a_text_that_is_cut_keeps_its_beginning_and_its_end_and_breaks_no_character(
    policy: ChatPolicy, text: str, limit: int
) -> None:
    fitted = try_to_fit({"messages": [said("user", text)]}, limit, policy, EncodingCounter(CL100K))

    if fitted is not None and fitted.dropped:
        first, _, rest = fitted.body["messages"][0]["content"].partition("\n[… ")
        told, _, last = rest.partition(" tokens left out …]\n")
        assert text.startswith(first)
        assert text.endswith(last)
        assert int(told) > 0
        for place in (len(first), len(text) - len(last)):
            assert place in (0, len(text)) or is_between(text, place, 0)


def words(count: int) -> str:
    return "word " * count


def test_the_oldest_exchanges_are_dropped_whole_and_no_more_than_needed() -> None:
    exchanges = [[said("user", words(100)), said("assistant", words(100))] for _ in range(5)]
    system = said("system", "be brief")
    body = {"messages": [system, *exchanges[0], *exchanges[1], system, *exchanges[2], *exchanges[3], *exchanges[4]]}
    counter = EncodingCounter(CL100K)

    fitted = fit_chat(body, 700, "drop_oldest", counter)

    assert fitted.body["messages"] == [system, system, *exchanges[2], *exchanges[3], *exchanges[4]]
    assert fitted.body["messages"][-1] is exchanges[4][1]


def test_a_result_that_comes_after_the_user_spoke_stays_with_its_call() -> None:
    late = said("tool", "found", tool_call_id="call_1")
    turn = [said("user", words(10)), calling(["call_1"]), said("user", "and?"), late]
    body = {"messages": [said("user", words(300)), said("assistant", words(300)), *turn]}

    fitted = fit_chat(body, 200, "drop_oldest", EncodingCounter(CL100K))

    assert fitted.body["messages"] == turn


def test_in_the_last_turn_results_are_cut_before_the_user_and_the_longest_first() -> None:
    turn = [
        said("user", words(300)),
        calling(["call_1", "call_2"]),
        said("tool", words(900), tool_call_id="call_1"),
        said("tool", words(80), tool_call_id="call_2"),
    ]

    fitted = fit_chat({"messages": turn}, 800, "drop_oldest", EncodingCounter(CL100K))

    user, calls, long, short = fitted.body["messages"]
    assert (user, calls, short) == (turn[0], turn[1], turn[3])
    assert "tokens left out" in long["content"]
    assert 760 <= fitted.total <= 800


def test_where_results_are_not_enough_the_user_is_cut_and_then_the_answer() -> None:
    turn = [
        said("user", words(600)),
        said("assistant", words(600)),
        calling(["call_1"]),
        said("tool", words(600), tool_call_id="call_1"),
    ]

    cut = fit_chat({"messages": turn}, 320, "drop_oldest", EncodingCounter(CL100K)).body["messages"]

    assert all("tokens left out" in cut[place]["content"] for place in (0, 1, 3))


def test_where_middles_are_cut_instructions_are_cut_last() -> None:
    messages = [said("system", words(200)), said("user", words(800)), said("assistant", words(100))]

    once = fit_chat({"messages": messages}, 700, "middle", EncodingCounter(CL100K)).body["messages"]
    more = fit_chat({"messages": messages}, 300, "middle", EncodingCounter(CL100K)).body["messages"]

    assert (once[0], once[2]) == (messages[0], messages[2])
    assert "tokens left out" in once[1]["content"]
    assert "tokens left out" in more[0]["content"]


@pytest.mark.parametrize(
    ("policy", "prompt", "kept"),
    [
        ("drop_oldest", list(range(100)), list(range(90, 100))),
        ("drop_oldest", [[1, 2], list(range(100))], [[1, 2], list(range(90, 100))]),
        ("drop_oldest", words(100) + "end", " word" * 9 + " end"),
        ("drop_oldest", [7, [1] * 20], [7, [1] * 10]),  # not ids, whatever it begins with
    ],
)
def test_of_a_prompt_the_end_is_kept(policy: ChatPolicy, prompt: Any, kept: Any) -> None:
    fitted = fit_chat({"prompt": prompt}, 10, policy, EncodingCounter(CL100K))

    assert fitted.body["prompt"] == kept


def test_of_a_prompt_the_middle_is_cut_where_that_is_asked_for() -> None:
    counter = EncodingCounter(CL100K)

    text = fit_chat({"prompt": [words(300), "short"]}, 100, "middle", counter)
    ids = fit_chat({"prompt": list(range(300)), "suffix": "end"}, 101, "middle", counter)

    assert "tokens left out" in text.body["prompt"][0]
    assert text.body["prompt"][1] == "short"
    assert ids.body == {"prompt": [*range(50), *range(250, 300)], "suffix": "end"}


@pytest.mark.parametrize("policy", POLICIES)
@given(
    prompt=st.one_of(TEXTS, st.lists(TEXTS, min_size=1, max_size=4), st.lists(st.integers(0, 9), min_size=1)),
    suffix=st.one_of(st.none(), st.text(max_size=5)),
    limit=st.integers(-1, 200),
)
@settings(max_examples=100, deadline=None)
def test_each_prompt_that_is_sent_fits(policy: ChatPolicy, prompt: Any, suffix: str | None, limit: int) -> None:
    body = {"prompt": prompt, "suffix": suffix}

    fitted = try_to_fit(body, limit, policy, EncodingCounter(CL100K))

    if fitted is not None:
        after = count_chat(fitted.body, EncodingCounter(CL100K))
        lost = sum(count_chat(body, EncodingCounter(CL100K)).messages) - sum(after.messages)
        assert (fitted.total, fitted.dropped) == (after.total, lost)
        assert after.total <= limit
        assert fit_chat(fitted.body, limit, policy, EncodingCounter(CL100K)).body is fitted.body


BIG = said("user", words(2000))
IMAGE = said("user", [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}])


@pytest.mark.parametrize("policy", ["drop_oldest", "middle"])
@pytest.mark.parametrize(
    "messages",
    [[BIG], [said("user", "look"), calling(["call_1"]), said("tool", words(2000), tool_call_id="call_1")]],
)
def test_a_message_or_a_result_larger_than_the_window_loses_its_middle(
    policy: ChatPolicy, messages: list[Message]
) -> None:
    fitted = fit_chat({"messages": messages}, 1000, policy, EncodingCounter(CL100K))

    assert "tokens left out" in fitted.body["messages"][-1]["content"]
    assert 900 < fitted.total <= 1000


@pytest.mark.parametrize(
    ("policy", "messages"),
    [
        ("refuse", [BIG]),
        ("drop_oldest", [said("system", words(2000))]),
        ("drop_oldest", [said("system", words(2000)), said("user", "hello")]),
        ("drop_oldest", [BIG, IMAGE]),
        ("middle", [BIG, IMAGE]),
        ("middle", [said("user", "short")] * 400),
        ("drop_oldest", [said("assistant", "", thinking=[words(2000)])]),
    ],
)
def test_what_cannot_be_made_to_fit_is_refused_with_the_least_it_could_have(
    policy: ChatPolicy, messages: list[Message]
) -> None:
    with pytest.raises(DoesNotFit) as refused:
        fit_chat({"messages": messages}, 1000, policy, EncodingCounter(CL100K))

    assert refused.value.before >= refused.value.least > refused.value.limit == 1000


ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-9, 99), st.text(max_size=300)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.sampled_from(
                [
                    "role",
                    "content",
                    "type",
                    "text",
                    "name",
                    "id",
                    "tool_calls",
                    "function",
                    "function_call",
                    "image_url",
                ]
            ),
            st.one_of(st.sampled_from(["tool", "user", "text", "image_url", "assistant"]), inner),
            max_size=5,
        ),
    ),
    max_leaves=20,
)


@pytest.mark.parametrize("policy", POLICIES)
@given(
    body=st.fixed_dictionaries(
        {},
        optional={
            "messages": st.lists(ANYTHING, max_size=5),
            "prompt": ANYTHING,
            "tools": ANYTHING,
            "suffix": ANYTHING,
        },
    ),
    limit=st.integers(-1, 400),
)
@settings(max_examples=200, deadline=None)
def test_whatever_a_body_is_it_fits_or_is_refused(policy: ChatPolicy, body: Message, limit: int) -> None:
    fitted = try_to_fit(body, limit, policy, EncodingCounter(CL100K))

    assert fitted is None or count_chat(fitted.body, EncodingCounter(CL100K)).total == fitted.total <= limit


def test_only_instructions_lose_their_middle_where_that_is_asked_for() -> None:
    fitted = fit_chat({"messages": [said("system", words(2000))]}, 1000, "middle", EncodingCounter(CL100K))

    assert 900 < fitted.total <= 1000


def test_a_conversation_is_counted_once_over_all_its_fittings() -> None:
    asked: list[str] = []

    def count(text: str) -> int:
        asked.append(text)
        return len(text.split())

    body = {"messages": [said("user", f"{number} {words(100)}") for number in range(50)]}
    counter = SearchingCounter(count)

    for limit in (4000, 2000, 1000):
        fit_chat(body, limit, "drop_oldest", counter)

    assert len(asked) == len(set(asked)) == 51  # and the word "user"
