"""Rows F32 to F42 and F51: what goes wrong in a stream. Before its first event another deployment may answer;
afterwards the caller has seen content, so the stream ends in an error event without [DONE], and nobody else is asked.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from tests.faults.matrix import USUAL
from tests.support.contract import assert_stream_obeys_contract, join_content
from tests.support.drill import SOUND_TEXT, Drill, Seen
from tests.support.upstream import (
    FORMS,
    Chat,
    CommentsOnly,
    Cut,
    Ending,
    ErrorEvent,
    Formed,
    Inserted,
    Pause,
    Repeated,
    Sliced,
    encode_event,
    make_error,
)
from tests.support.verdicts import is_answered_by_the_sound_one, unwell

Open = Callable[..., AbstractAsyncContextManager[Drill]]
streams = pytest.mark.parametrize("kind", ["stream"])
CONTENT = ("Zwölf ", "Boxkämpfer ", "jagen 🥊 ", "Viktor")
TEXT = "".join(CONTENT)
WHOLE = Chat(CONTENT)
AFTER_TWO = 3  # parts: the role, and two pieces of content
SEEN_SO_FAR = "".join(CONTENT[:2])


def is_broken_off(it: Drill, seen: Seen, code: str) -> bool:
    """Tell whether the caller kept what it had, was told `code` in an event, and nobody else was asked."""
    others = [] if it.sound is None else it.sound.requests
    assert (len(it.broken.requests), others) == (1, [])
    assert seen.text == SEEN_SO_FAR
    return (seen.status, seen.code, seen.by, seen.attempts) == (200, code, "broken", 1)


@streams
@pytest.mark.parametrize("ending", [Ending.RESET, Ending.CLOSE], ids=["reset", "closed"])
@pytest.mark.fault("F32", "reset or closed after content")
async def test_f32_after_content_an_event_says_that_the_stream_broke(pair: Drill, ending: Ending) -> None:
    pair.broken.otherwise = Cut(WHOLE, AFTER_TWO, ending)

    seen = await pair.ask()

    assert is_broken_off(pair, seen, "upstream_stream_interrupted")
    assert seen.error is not None
    assert seen.error["type"] == "server_error"


@streams
@pytest.mark.fault("F32", "reset in the middle of an event")
async def test_f32_half_an_event_is_never_relayed(pair: Drill) -> None:
    pair.broken.otherwise = Inserted(Cut(WHOLE, AFTER_TWO), b'data: {"id": "chatcmpl-1", "cho', AFTER_TWO)

    seen = await pair.ask()

    assert is_broken_off(pair, seen, "upstream_stream_interrupted")
    assert b'"cho\n' not in seen.answer.body


@streams
@pytest.mark.parametrize("ending", [Ending.RESET, Ending.CLOSE], ids=["reset", "closed"])
@pytest.mark.fault("F32", "reset or closed before the first event")
async def test_f32_before_the_first_event_another_answers(pair: Drill, ending: Ending) -> None:
    pair.broken.otherwise = Cut(WHOLE, 0, ending)

    seen = await pair.ask()

    assert is_answered_by_the_sound_one(pair, seen)


@streams
@pytest.mark.fault("F32", "reset or closed before the first event")
async def test_f32_alone_it_is_a_real_status(alone: Drill) -> None:
    alone.broken.otherwise = Cut(WHOLE, 0, Ending.RESET)

    seen = await alone.ask()

    assert (seen.status, seen.code, seen.attempts) == (502, "upstream_stream_interrupted", 1)


@streams
@pytest.mark.fault("F33", "silence after content")
async def test_f33_silence_after_content_ends_the_stream_at_its_limit(open_drill: Open) -> None:
    async with open_drill(sound=True, timeouts={"between_events": 0.2}) as it:
        it.broken.otherwise = Cut(WHOLE, AFTER_TWO, Ending.HANG)

        seen = await it.ask()

        assert is_broken_off(it, seen, "upstream_stream_stalled")
        await it.broken.closed_by_client(within_seconds=1)


@streams
@pytest.mark.fault("F34", "ends without [DONE], but finished")
async def test_f34_a_missing_done_is_put_in(alone: Drill) -> None:
    alone.broken.otherwise = Chat(CONTENT, done=False)

    seen = await alone.ask()

    assert (seen.status, seen.text, seen.answer.events[-1]) == (200, TEXT, "[DONE]")
    assert (await alone.gateway.figures())["gateway_stream_missing_done_total", "up0/model"] == 1
    assert await unwell(alone) == {}


@streams
@pytest.mark.fault("F34", "ends without [DONE], but all of two choices finished")
async def test_f34_a_missing_done_is_put_in_behind_several_choices(alone: Drill) -> None:
    alone.broken.otherwise = Chat(CONTENT, done=False)

    answer = await alone.gateway.chat(stream=True, n=2)

    assert_stream_obeys_contract(answer.events, n=2)
    assert [join_content(answer.events, index) for index in range(2)] == [TEXT, f"{TEXT} #1"]
    assert (await alone.gateway.figures())["gateway_stream_missing_done_total", "up0/model"] == 1
    alone.note("alone", USUAL)


@streams
@pytest.mark.fault("F35", "ends without [DONE], and without a finish reason")
async def test_f35_an_answer_that_was_not_finished_is_not_passed_off_as_one(pair: Drill) -> None:
    pair.broken.otherwise = Chat(CONTENT[:2], finish_reason=None, done=False)

    seen = await pair.ask()

    assert is_broken_off(pair, seen, "upstream_stream_interrupted")


# The upstream's error object → the caller's status and code, were it told before any content.
ERRORS = {
    "no code": (make_error(500), 502, "upstream_error"),
    "rate limit": (make_error(429, code="rate_limit_exceeded"), 429, "upstream_rate_limited"),
    "overloaded": (make_error(503, kind="overloaded_error"), 503, "server_is_overloaded"),
    "a bare sentence": ({"error": "the model fell over"}, 502, "upstream_error"),
    "older vLLM's": ({"object": "error", "message": "loading", "code": 503}, 503, "server_is_overloaded"),
    "a number for its code": ({"error": {"message": "loading", "code": 503}}, 503, "server_is_overloaded"),
}


@streams
@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.fault("F36", "an error event in a 200, before content")
async def test_f36_alone_an_error_before_content_is_a_real_status(alone: Drill, name: str) -> None:
    error, status, code = ERRORS[name]
    alone.broken.otherwise = ErrorEvent(0, WHOLE, error)

    seen = await alone.ask()

    assert (seen.status, seen.code, seen.attempts) == (status, code, 1)


@streams
@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.fault("F36", "an error event in a 200, before content")
async def test_f36_another_answers_instead(pair: Drill, name: str) -> None:
    pair.broken.otherwise = ErrorEvent(0, WHOLE, ERRORS[name][0])

    seen = await pair.ask()

    assert is_answered_by_the_sound_one(pair, seen)


@streams
@pytest.mark.parametrize("pause", [0.0, 0.05], ids=["at once", "later"])
@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.fault("F36", "an error event in a 200, behind the role alone")
async def test_f36_alone_an_error_behind_the_role_is_a_real_status(alone: Drill, name: str, pause: float) -> None:
    error, status, code = ERRORS[name]
    alone.broken.otherwise = Inserted(ErrorEvent(1, WHOLE, error), Pause(pause), 1)

    seen = await alone.ask()

    assert (seen.status, seen.code, seen.attempts) == (status, code, 1)


@streams
@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.fault("F36", "an error event in a 200, behind the role alone")
async def test_f36_another_answers_instead_of_an_error_behind_the_role(pair: Drill, name: str) -> None:
    pair.broken.otherwise = ErrorEvent(1, WHOLE, ERRORS[name][0])

    seen = await pair.ask()

    assert is_answered_by_the_sound_one(pair, seen)


@streams
@pytest.mark.fault("F36", "an error event in a 200 that is about the request")
async def test_f36_an_error_that_is_the_callers_own_stays_with_it(pair: Drill) -> None:
    pair.broken.otherwise = ErrorEvent(0, WHOLE, make_error(400, code="context_length_exceeded"))

    seen = await pair.ask()

    assert (seen.status, seen.code, seen.attempts) == (400, "context_length_exceeded", 1)


@streams
@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.fault("F37", "an error event in a 200, after content")
async def test_f37_an_error_after_content_is_passed_on_and_nobody_else_is_asked(pair: Drill, name: str) -> None:
    error, _, code = ERRORS[name]
    pair.broken.otherwise = ErrorEvent(AFTER_TWO, WHOLE, error)

    seen = await pair.ask()

    assert is_broken_off(pair, seen, code)


@streams
@pytest.mark.parametrize("name", sorted(ERRORS.keys() - {"older vLLM's"}))  # it says so in its first event only
@pytest.mark.fault("F37", "an error event in a 200, after content, and much more behind it in one write")
async def test_f37_nothing_that_comes_behind_an_error_hides_it(pair: Drill, name: str) -> None:
    error, _, code = ERRORS[name]
    pair.broken.otherwise = Sliced(
        Inserted(ErrorEvent(AFTER_TWO, WHOLE, error), encode_event(error) + b": ping\n\n" * 700, AFTER_TWO), 100_000
    )

    seen = await pair.ask()

    assert is_broken_off(pair, seen, code)


@streams
@pytest.mark.fault("F37", "an error event in a 200, after content")
async def test_f37_it_is_logged_and_counted_as_the_failure_that_it_is(open_drill: Open) -> None:
    async with open_drill(sound=True) as it:
        it.broken.otherwise = ErrorEvent(AFTER_TWO, WHOLE)

        await it.ask()

        figures = await it.gateway.figures()
    assert figures[("gateway_attempts_total", "up0/model", "upstream_error")] == 1
    (line,) = it.gateway.lines()[:1]
    assert (line["status"], line["level"], line["error"]) == (200, "warning", "upstream_error")
    assert [(each["deployment"], each["outcome"]) for each in line["tried"]] == [("up0/model", "upstream_error")]


@streams
@pytest.mark.fault("F37", "an error event in a 200, after content")
async def test_f37_five_such_streams_open_the_breaker(open_drill: Open) -> None:
    async with open_drill(sound=True) as it:
        it.broken.otherwise = ErrorEvent(AFTER_TWO, WHOLE)

        for _ in range(5):
            assert (await it.ask()).by == "broken"

        assert (await unwell(it))["state"] == "open"
        # Not noted for the matrix: it is about the breaker, not about the fault.
        answer = await it.gateway.chat(stream=True)
        assert answer.headers["x-gateway-deployment"] == "up1/model"
        assert SOUND_TEXT.encode() in answer.body


@streams
@pytest.mark.parametrize("size", [1, 7, 100_000], ids=["bytewise", "sevens", "whole"])
@pytest.mark.parametrize("name", FORMS)
@pytest.mark.fault("F38", "CRLF, CR, BOM, comments, other fields, data on two lines, cut anywhere")
async def test_f38_every_form_of_events_gives_the_same_content(alone: Drill, name: str, size: int) -> None:
    alone.broken.script(WHOLE, Sliced(Formed(WHOLE, FORMS[name]), size))
    plain = await alone.gateway.chat(stream=True)

    seen = await alone.ask()

    assert seen.text == TEXT
    told = [json.loads(event) for event in seen.answer.events[:-1]]
    wanted = [json.loads(event.replace("scripted-0", "scripted-1")) for event in plain.events[:-1]]
    assert told == wanted


@streams
@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.fault("F39", "characters cut in two")
async def test_f39_characters_that_are_cut_come_out_whole(alone: Drill, size: int) -> None:
    alone.broken.otherwise = Sliced(WHOLE, size)

    seen = await alone.ask()

    assert seen.text == TEXT
    assert b"\xef\xbf\xbd" not in seen.answer.body


BAD_EVENTS = {
    "no JSON": b"data: hello\n\n",
    "half an object": b'data: {"choices": [{"delta"\n\n',
    "invalid UTF-8": b'data: {"choices":[{"index":0,"delta":{"content":"\xff\xfe"}}]}\n\n',
    "an array": b"data: [1, 2]\n\n",
}


@streams
@pytest.mark.parametrize("name", BAD_EVENTS)
@pytest.mark.fault("F40", "the first event is no JSON or no UTF-8")
async def test_f40_alone_a_bad_first_event_is_a_real_status(alone: Drill, name: str) -> None:
    alone.broken.otherwise = Inserted(WHOLE, BAD_EVENTS[name])

    seen = await alone.ask()

    assert (seen.status, seen.code) == (502, "bad_event")


@streams
@pytest.mark.parametrize("name", BAD_EVENTS)
@pytest.mark.fault("F40", "the first event is no JSON or no UTF-8")
async def test_f40_another_answers_instead_of_a_bad_first_event(pair: Drill, name: str) -> None:
    pair.broken.otherwise = Inserted(WHOLE, BAD_EVENTS[name])

    seen = await pair.ask()

    assert is_answered_by_the_sound_one(pair, seen)


@streams
@pytest.mark.parametrize("name", BAD_EVENTS)
@pytest.mark.fault("F40", "a later event of bad UTF-8, or whose data does not begin and end as an object")
async def test_f40_a_bad_event_after_content_ends_the_stream(pair: Drill, name: str) -> None:
    pair.broken.otherwise = Inserted(WHOLE, BAD_EVENTS[name], AFTER_TWO)

    seen = await pair.ask()

    assert is_broken_off(pair, seen, "bad_event")


def event_of(size: int) -> bytes:
    delta = {"index": 0, "delta": {"content": "x" * size}, "finish_reason": None}
    return encode_event(
        {
            "id": "chatcmpl-scripted-0",
            "object": "chat.completion.chunk",
            "created": 1_700_000_000,
            "model": "model",
            "choices": [delta],
        }
    )


@streams
@pytest.mark.parametrize("kibibytes", [600, 4096])
@pytest.mark.fault("F41", "one event of 600 KiB or 4 MiB")
async def test_f41_large_events_pass(alone: Drill, kibibytes: int) -> None:
    alone.broken.otherwise = Inserted(WHOLE, event_of(kibibytes * 1024), AFTER_TWO)

    seen = await alone.ask()

    assert (seen.status, len(seen.text), seen.error) == (200, len(TEXT) + kibibytes * 1024, None)


ENDLESS = Repeated(b"x" * 65_536, 320)  # 20 MiB without a line's end


@streams
@pytest.mark.fault("F41", "one event of 20 MiB, after content")
async def test_f41_an_event_beyond_all_measure_ends_the_stream(pair: Drill) -> None:
    pair.broken.otherwise = Inserted(WHOLE, ENDLESS, AFTER_TWO)

    seen = await pair.ask()

    assert is_broken_off(pair, seen, "event_too_large")


@streams
@pytest.mark.fault("F41", "one event of 20 MiB, the first")
async def test_f41_a_first_event_beyond_measure_is_not_asked_for_again_elsewhere(pair: Drill) -> None:
    pair.broken.otherwise = Inserted(WHOLE, ENDLESS)

    seen = await pair.ask()

    assert (seen.status, seen.code, seen.attempts) == (502, "event_too_large", 1)
    assert await unwell(pair) == {}  # a caller may have asked for that much


@streams
@pytest.mark.fault("F41", "one event of 20 MiB, the first")
async def test_f41_alone_it_is_a_real_status(alone: Drill) -> None:
    alone.broken.otherwise = Inserted(WHOLE, ENDLESS)

    seen = await alone.ask()

    assert (seen.status, seen.code) == (502, "event_too_large")


@streams
@pytest.mark.fault("F42", "comments for ever, never an event")
async def test_f42_comments_are_no_progress(open_drill: Open) -> None:
    async with open_drill(sound=False, timeouts={"first_event": 0.2}) as it:
        it.broken.otherwise = CommentsOnly()

        seen = await it.ask()

        assert (seen.status, seen.code) == (504, "upstream_timeout")
        await it.broken.closed_by_client(within_seconds=1)


@streams
@pytest.mark.fault("F42", "comments for ever, never an event")
async def test_f42_another_answers_instead(open_drill: Open) -> None:
    async with open_drill(sound=True, timeouts={"first_event": 0.2}) as it:
        it.broken.otherwise = CommentsOnly()

        seen = await it.ask()

        assert is_answered_by_the_sound_one(it, seen)


@streams
@pytest.mark.fault("F42", "comments for ever, after content")
async def test_f42_after_content_the_limit_of_the_whole_ends_it(open_drill: Open) -> None:
    async with open_drill(sound=True, timeouts={"total": 0.3}) as it:
        it.broken.otherwise = Inserted(WHOLE, Repeated(b": ping\n\n", None, 0.01), AFTER_TWO)

        seen = await it.ask()

        assert is_broken_off(it, seen, "upstream_stream_stalled")


@streams
@pytest.mark.fault("F51", "whole, but the connection never ends")
async def test_f51_the_answer_is_whole_at_its_done(alone: Drill) -> None:
    alone.broken.otherwise = Cut(WHOLE, None, Ending.HANG)

    seen = await alone.ask()

    assert (seen.status, seen.text, seen.error) == (200, TEXT, None)
    await alone.broken.closed_by_client(within_seconds=1)
    assert await unwell(alone) == {}
