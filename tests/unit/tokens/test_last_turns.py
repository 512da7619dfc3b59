"""A last turn that cannot be cut to what fits: an agent's, that wrote and read files since the user last spoke."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.tokens import DoesNotFit, EncodingCounter, Encodings, fit_chat

CL100K = Encodings()["cl100k_base"]
Message = dict[str, Any]


def words(count: int) -> str:
    return "word " * count


def said(role: str, content: Any, **more: Any) -> Message:
    return {"role": role, "content": content, **more}


def calling(ids: list[str]) -> Message:
    calls = [{"id": each, "type": "function", "function": {"name": "look", "arguments": "{}"}} for each in ids]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def working(number: int, size: int) -> list[Message]:
    """Return a call whose arguments have so many words, and its result."""
    calls = calling([f"call_{number}"])
    calls["tool_calls"][0]["function"]["arguments"] = words(size)
    return [calls, said("tool", f"written {number}", tool_call_id=f"call_{number}")]


def test_of_a_last_turn_that_cannot_be_cut_the_oldest_calls_are_left_out_with_their_results() -> None:
    question, work = said("user", "write them all"), [working(number, 200) for number in range(20)]
    body = {"messages": [said("system", "be brief"), question, *(message for pair in work for message in pair)]}

    fitted = fit_chat(body, 1200, "drop_oldest", EncodingCounter(CL100K))

    assert fitted.body["messages"] == [*body["messages"][:2], *(message for pair in work[-5:] for message in pair)]
    assert fitted.total <= 1200


def test_calls_beside_each_other_are_left_out_with_all_of_their_results() -> None:
    both = calling(["call_a", "call_b"])
    both["tool_calls"][0]["function"]["arguments"] = words(900)
    results = [said("tool", "found", tool_call_id=name) for name in ("call_a", "call_b")]
    rest = working(1, 10)
    body = {"messages": [said("user", "look"), both, *results, *rest]}

    fitted = fit_chat(body, 300, "drop_oldest", EncodingCounter(CL100K))

    assert fitted.body["messages"] == [body["messages"][0], *rest]


def test_a_conversation_of_answers_alone_keeps_the_newest() -> None:
    answers = [said("assistant", f"{number} {words(50)}") for number in range(100)]

    fitted = fit_chat({"messages": answers}, 1000, "drop_oldest", EncodingCounter(CL100K))

    kept = fitted.body["messages"]
    assert 10 < len(kept) < 20
    assert kept == answers[-len(kept) :]


def test_what_the_user_said_while_tools_were_at_work_stays_with_what_led_to_it() -> None:
    late = said("tool", "found", tool_call_id="call_1")
    turn = [said("user", "look"), calling(["call_1"]), said("user", "and?"), late, *working(2, 400), *working(3, 10)]

    with pytest.raises(DoesNotFit):
        fit_chat({"messages": turn}, 300, "drop_oldest", EncodingCounter(CL100K))
