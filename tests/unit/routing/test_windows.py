"""What deployments tell of their windows is learnt within bounds, for a while, and nobody's request is cut for good."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from gateway.call import Call
from gateway.errors import ContextLengthExceeded, UpstreamRejected
from gateway.routing.corrections import FORGET_SECONDS, Corrections, Learnt
from gateway.routing.limits import ToldLimit, as_too_long
from gateway.routing.table import Deployment
from gateway.routing.windows import Windows
from gateway.tokens import Counter, SearchingCounter
from tests.support.deployments import FakeClock, make_table
from tests.support.exchanges import make_call

T = TypeVar("T")


class Words:
    """Counts a word as a token, for models that are elsewhere."""

    def counter_of(self, call: Call, deployment: Deployment) -> Counter:
        del call, deployment
        return SearchingCounter(lambda text: len(text.split()))

    def is_own(self, deployment: Deployment) -> bool:
        del deployment
        return False

    async def window_of(self, deployment: Deployment) -> int | None:
        del deployment
        return None

    def run(self, deployment: Deployment, work: Callable[[], T]) -> Awaitable[T]:
        async def at_once() -> T:
            return work()

        del deployment
        return at_once()


async def tell(windows: Windows, body: dict[str, Any], sentence: str, *, truncation: str = "") -> dict[str, Any] | None:
    """Fit a request, have it refused with a sentence, and return what is sent then."""
    table = make_table({"small": ["first/m"]})
    call = make_call(body=body)
    if "prompt" in body:
        call.endpoint = "completions"
        del call.body["messages"]
    call.size, call.truncation = 10**6, truncation
    route = table.resolve(call)
    (deployment,) = route.deployments
    if windows.may_exceed(call, deployment, call.body):
        await windows.fit(call, route, deployment, call.body)
    return await windows.fit_again(call, route, deployment, call.body, ContextLengthExceeded(sentence))


async def sent_words(windows: Windows, words: int = 3000) -> int:
    """Return how many words of a later request are sent."""
    call = make_call(body={"messages": [{"role": "user", "content": "word " * words}]})
    call.size = 5 * words
    route = make_table({"small": ["first/m"]}).resolve(call)
    (deployment,) = route.deployments
    body = call.body
    if windows.may_exceed(call, deployment, body):
        body = await windows.fit(call, route, deployment, body)
    return len(body["messages"][0]["content"].split())


LONG = {"messages": [{"role": "user", "content": "word " * 3000}]}


async def test_a_limit_is_forgotten_after_a_while(clock: FakeClock) -> None:
    windows = Windows(Words(), clock)

    again = await tell(windows, LONG, "maximum context length is 2000 tokens, your messages resulted in 3004 tokens")
    clock.advance(FORGET_SECONDS - 1)
    soon = await sent_words(windows)
    clock.advance(1)

    assert again is not None
    assert 1800 < soon < 2000
    assert await sent_words(windows) == 3000


async def test_what_is_learnt_later_does_not_prolong_what_was_learnt_before(clock: FakeClock) -> None:
    corrections = Corrections(clock)

    corrections.note("first/m", ToldLimit(window=600), 1.0, None)
    clock.advance(FORGET_SECONDS - 1)
    corrections.note("first/m", ToldLimit(window=2000), 1.2, None)
    soon = corrections.of("first/m")
    clock.advance(1)

    assert soon is not None
    assert (soon.window, soon.ratio) == (600, 1.2)
    assert corrections.of("first/m") is None


@pytest.mark.parametrize(
    ("told", "known"),
    [
        (ToldLimit(window=5), None),
        (ToldLimit(most_input=100), None),
        (ToldLimit(window=4096), 128_000),
        (ToldLimit(counted=9000), 128_000),
        (ToldLimit(), None),
    ],
)
def test_a_limit_that_cannot_be_is_not_remembered(clock: FakeClock, told: ToldLimit, known: int | None) -> None:
    corrections = Corrections(clock)

    corrections.note("first/m", told, 2.0, known)

    assert corrections.of("first/m") is None


def test_no_more_deployments_are_remembered_than_there_is_room_for(clock: FakeClock) -> None:
    corrections = Corrections(clock)

    for number in range(1001):
        corrections.note(f"first/{number}", ToldLimit(window=1000), 9.0, None)

    assert corrections.of("first/0") is None
    assert corrections.of("first/1000") == Learnt(clock() + FORGET_SECONDS, 1000, None, 2.0)


async def test_how_an_upstream_counts_is_not_learnt_from_a_short_request(clock: FakeClock) -> None:
    windows = Windows(Words(), clock)

    await tell(
        windows,
        {"messages": [{"role": "user", "content": "word " * 100}]},
        "maximum context length is 4000 tokens, your messages resulted in 9000 tokens",
    )

    assert await sent_words(windows) == 3000


async def test_how_an_upstream_counts_is_learnt_from_the_longest_of_several_prompts(clock: FakeClock) -> None:
    windows = Windows(Words(), clock)
    sentence = "maximum context length is 2000 tokens, however you requested 2001 tokens (2001 in your prompt)"
    prompts = {"prompt": ["word " * 3000, "word " * 2900, "word " * 2800]}

    await tell(windows, prompts, "maximum context length is 2000 tokens")  # of which it is cut from now on
    again = await tell(windows, prompts, sentence)

    assert again is not None
    assert all(1900 < len(prompt.split()) < 2000 for prompt in again["prompt"])
    assert await sent_words(windows) > 1900


async def test_who_refuses_to_be_cut_still_has_the_limit_learnt_for_others(clock: FakeClock) -> None:
    windows = Windows(Words(), clock)

    again = await tell(windows, LONG, "maximum context length is 2000 tokens", truncation="refuse")

    assert again is None
    assert await sent_words(windows) < 2000


WORDS = "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens."


@pytest.mark.parametrize(
    ("message", "param", "status", "is_too_long"),
    [
        (WORDS, None, 400, True),
        (WORDS, "messages", 422, True),
        (WORDS, "tools[0].function.name", 400, False),
        (WORDS, None, 451, False),
        ("Invalid role 'emperor'.", None, 400, False),
        ("The context window is closed.", None, 400, False),
    ],
)
def test_a_refusal_that_only_says_in_words_that_it_is_too_long_is_one(
    message: str, param: str | None, status: int, is_too_long: bool
) -> None:
    refusal = UpstreamRejected(message, param=param, upstream_status=status)

    error = as_too_long(refusal, "chat/completions")

    assert isinstance(error, ContextLengthExceeded) == is_too_long
    assert is_too_long or error is refusal
    assert error.message == message


async def test_room_is_left_for_an_answer_that_the_caller_did_not_ask_for(clock: FakeClock) -> None:
    again = await tell(Windows(Words(), clock), LONG, "exceed context limit: 3100 + 1000 > 4000, decrease input length")

    assert again is not None
    assert 2700 < len(again["messages"][0]["content"].split()) < 3000
