"""The scanner gives the same events however the bytes are cut and whatever form they have."""

from __future__ import annotations

from itertools import pairwise

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire import DONE_EVENT, EventTooLarge, SseScanner, encode_event
from gateway.wire.sse import MAX_EVENT_BYTES
from tests.support.contract import parse_sse

FINISH = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
USAGE = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}}


def chunk(text: str) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}], "usage": None}


def scan(pieces: list[bytes], *, keep_usage: bool = False) -> tuple[bytes, SseScanner]:
    scanner = SseScanner(keep_usage=keep_usage)
    out = b"".join(scanner.feed(piece) for piece in pieces)
    return out + scanner.end(), scanner


def cut(whole: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(whole), *(place % (len(whole) + 1) for place in places)})
    return [whole[begin:end] for begin, end in pairwise(edges)]


texts = st.lists(st.text(max_size=40), max_size=12)
line_ends = st.sampled_from([b"\n", b"\r\n", b"\r"])
places = st.lists(st.integers(0, 10_000), max_size=60)


@given(texts, line_ends, places, st.booleans())
def test_any_split_and_any_line_end_give_the_same_events(
    words: list[str], line_end: bytes, where: list[int], asked: bool
) -> None:
    payloads = [chunk(word) for word in words] + [FINISH, USAGE]
    wire = b"".join(encode_event(payload) for payload in payloads) + DONE_EVENT

    out, scanner = scan(cut(wire.replace(b"\n", line_end), where), keep_usage=asked)

    expected = payloads if asked else payloads[:-1]
    *events, last = parse_sse(out)
    assert [orjson.loads(event) for event in events] == expected
    assert last == "[DONE]"
    assert scanner.done
    assert scanner.usage is not None
    assert scanner.usage.completion_tokens == 5


@given(texts, places)
def test_comments_names_and_ids_between_events_change_nothing(words: list[str], where: list[int]) -> None:
    payloads = [chunk(word) for word in words] + [FINISH]
    wire = b"\xef\xbb\xbf: hello\n\n" + b"".join(
        b": ping\nevent: message\nid: 7\nretry: 100\ndata:" + orjson.dumps(payload) + b"\n\n\n" for payload in payloads
    )

    out, scanner = scan(cut(wire + DONE_EVENT, where))

    *events, last = parse_sse(out)
    assert [orjson.loads(event) for event in events] == payloads
    assert last == "[DONE]"
    assert scanner.started


def test_every_single_byte_may_arrive_alone() -> None:
    wire = encode_event(chunk("grüße 🦙")) + encode_event(FINISH) + DONE_EVENT

    out, _ = scan([wire[i : i + 1] for i in range(len(wire))])

    assert out == wire


def test_a_line_of_one_megabyte_passes_untouched() -> None:
    wire = encode_event(chunk("x" * 1_000_000)) + encode_event(FINISH) + DONE_EVENT

    out, _ = scan([wire[i : i + 65_536] for i in range(0, len(wire), 65_536)])

    assert out == wire


def test_an_event_over_the_cap_is_refused() -> None:
    scanner = SseScanner(keep_usage=False)
    scanner.feed(b"data: " + b"x" * (MAX_EVENT_BYTES - 10))

    with pytest.raises(EventTooLarge):
        scanner.feed(b"x" * 20)


def test_data_over_several_lines_is_one_event() -> None:
    out, _ = scan([b'data: {"choices":\ndata: []}\n\n', DONE_EVENT])

    assert parse_sse(out) == ['{"choices":\n[]}', "[DONE]"]


def test_usage_that_was_not_asked_for_is_taken_out_of_a_chunk_with_content() -> None:
    wire = encode_event({**chunk("hi"), "usage": USAGE["usage"]}) + encode_event(
        {**chunk("ho"), "usage": USAGE["usage"]}
    )

    out, scanner = scan([wire, DONE_EVENT])

    assert all("usage" not in orjson.loads(event) for event in parse_sse(out)[:-1])
    assert scanner.usage is not None


def test_usage_in_the_text_of_an_answer_is_not_usage() -> None:
    wire = encode_event(chunk('he said "usage":{"prompt_tokens":9} and "error":{} and [DONE]')) + DONE_EVENT

    out, scanner = scan([wire])

    assert out == wire
    assert scanner.usage is None
    assert scanner.error is None


def test_nothing_after_the_end_is_relayed() -> None:
    out, scanner = scan([encode_event(FINISH) + DONE_EVENT + encode_event(chunk("late"))])

    assert out == encode_event(FINISH) + DONE_EVENT
    assert scanner.done


def test_an_error_event_is_kept_back_with_everything_after_it() -> None:
    wire = encode_event(chunk("hi")) + encode_event({"error": {"message": "boom"}}) + encode_event(chunk("late"))

    out, scanner = scan([wire])

    assert out == encode_event(chunk("hi"))
    assert scanner.error == {"message": "boom"}


def test_a_first_event_that_is_not_json_is_broken() -> None:
    out, scanner = scan([b"data: <html>\n\n"])

    assert out == b""
    assert scanner.broken


def test_half_an_event_at_the_end_is_never_relayed() -> None:
    out, scanner = scan([encode_event(chunk("hi")), b'data: {"choices":[{"index":0,"del'])

    assert out == encode_event(chunk("hi"))
    assert not scanner.finished


def test_a_last_event_without_its_blank_line_counts() -> None:
    out, scanner = scan([encode_event(FINISH), b"data: [DONE]"])

    assert out == encode_event(FINISH) + DONE_EVENT
    assert scanner.done


def test_a_finish_reason_is_remembered() -> None:
    _, scanner = scan([encode_event(chunk("hi")), encode_event(FINISH), encode_event(USAGE)])

    assert scanner.finished
    assert not scanner.done


def test_comments_alone_do_not_start_a_stream() -> None:
    scanner = SseScanner(keep_usage=False)

    scanner.feed(b": ping\n\n")

    assert not scanner.started


def test_an_error_before_the_last_events_of_a_large_block_is_kept_back() -> None:
    late = b"".join(encode_event(chunk("x" * 2_000)) for _ in range(6))

    out, scanner = scan([encode_event(chunk("hi")) + encode_event({"error": {"message": "boom"}}) + late])

    assert out == encode_event(chunk("hi"))
    assert scanner.error == {"message": "boom"}


def test_an_end_before_the_last_events_of_a_large_block_ends_it() -> None:
    late = (b": " + b"x" * 2_000 + b"\n\n") * 6

    out, scanner = scan([encode_event(FINISH) + DONE_EVENT + late])

    assert out == encode_event(FINISH) + DONE_EVENT
    assert scanner.done


def test_comments_before_the_first_event_are_dropped_with_it_in_one_block() -> None:
    out, scanner = scan([b": processing\n\n" + encode_event({"error": {"message": "boom"}})])

    assert out == b""
    assert scanner.error == {"message": "boom"}


@pytest.mark.parametrize("end", [b"data: [DONE] \n\n", b"data:  [DONE]\n\n", b"data:[DONE]\n\n"])
def test_spaces_around_the_closing_word_do_not_hide_it(end: bytes) -> None:
    out, scanner = scan([encode_event(FINISH), end])

    assert out == encode_event(FINISH) + DONE_EVENT
    assert scanner.done


@pytest.mark.parametrize("odd", [b": ping [DONE]\n\n", b': "error" here\n\n', b'event: "error"\n\n'])
def test_words_outside_of_data_mean_nothing(odd: bytes) -> None:
    out, scanner = scan([encode_event(chunk("hi")), odd, encode_event(FINISH), DONE_EVENT])

    assert parse_sse(out)[-1] == "[DONE]"
    assert scanner.done


@pytest.mark.parametrize("together", [True, False])
def test_a_role_that_comes_in_every_chunk_passes_once_for_each_choice(together: bool) -> None:
    def spoken(index: int, text: str) -> bytes:
        delta = {"role": "assistant", "content": text}
        return encode_event({"choices": [{"index": index, "delta": delta, "finish_reason": None}]})

    events = [spoken(0, "a"), spoken(1, "b"), spoken(0, "c"), spoken(1, "d"), DONE_EVENT]

    out, _ = scan([b"".join(events)] if together else events)

    choices = [choice for event in parse_sse(out)[:-1] for choice in orjson.loads(event)["choices"]]
    assert [choice["index"] for choice in choices if "role" in choice["delta"]] == [0, 1]
    assert "".join(choice["delta"]["content"] for choice in choices) == "abcd"


def test_usage_on_the_finish_chunk_becomes_the_last_chunk_when_it_was_asked_for() -> None:
    out, _ = scan(
        [encode_event(chunk("hi")), encode_event({**FINISH, "usage": USAGE["usage"]}), DONE_EVENT], keep_usage=True
    )

    _, finish, last, done = parse_sse(out)
    assert "usage" not in orjson.loads(finish)
    assert (orjson.loads(last)["choices"], orjson.loads(last)["usage"]) == ([], USAGE["usage"])
    assert done == "[DONE]"


def test_of_several_choices_one_that_finished_does_not_finish_the_stream() -> None:
    scanner = SseScanner(keep_usage=False, choices=2)

    scanner.feed(encode_event(chunk("hi")) + encode_event(FINISH))

    assert not scanner.finished


BAD_EVENTS = [b"data: hello\n\n", b'data: {"a": \n\n', b'data: {"a": "\xff"}\n\n', b"data: [1]\n\n", b"data: null\n\n"]


@pytest.mark.parametrize("bad", BAD_EVENTS)
@pytest.mark.parametrize("together", [True, False])
def test_an_event_that_is_no_json_object_ends_the_stream_behind_what_was_good(bad: bytes, together: bool) -> None:
    good = [encode_event(chunk("a")), encode_event(chunk("b"))]
    never = encode_event(chunk("never"))

    out, scanner = scan([b"".join((*good, bad, never))] if together else [*good, bad])

    assert out == b"".join(good)
    assert scanner.broken


def test_bytes_that_are_no_text_are_found_in_large_blocks_too() -> None:
    good = encode_event(chunk("ä")) * 100

    out, scanner = scan([good + BAD_EVENTS[2] + good])

    assert out == good
    assert scanner.broken


@pytest.mark.parametrize("odd", [b": ping\n\n", b"\n\n", b"\n", b"event: ping\n\n", b"data:\n\n", b"data: \n\n"])
def test_events_without_data_break_nothing(odd: bytes) -> None:
    _, scanner = scan(
        [encode_event(chunk("a")), odd, encode_event(chunk("b")) + odd, odd + encode_event(FINISH) + DONE_EVENT]
    )

    assert scanner.done


@pytest.mark.parametrize("usage", [[9, 12], "many", 7, True])
@pytest.mark.parametrize("asked", [True, False])
def test_usage_that_is_no_object_is_taken_out(usage: object, asked: bool) -> None:
    good = [encode_event(chunk("a")), encode_event(FINISH)]
    wire = [*good, encode_event({"choices": [], "usage": usage}), DONE_EVENT]

    out, scanner = scan(wire, keep_usage=asked)

    assert out == b"".join((*good, DONE_EVENT))
    assert scanner.usage is None


def test_a_finish_reason_at_the_end_of_a_large_block_is_remembered() -> None:
    _, scanner = scan([encode_event(chunk("x" * 100)) * 200 + encode_event(FINISH), b": ping\n\n"])

    assert scanner.finished
