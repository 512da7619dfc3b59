"""Thoughts and calls of tools are told apart from the answer, however the text is cut."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.worker.batching.speech import Kind, Part, Speech, read_call

CALL = '{"name": "look", "arguments": {"at": "it"}}'
PIECES = st.lists(
    st.sampled_from(["a", " ", "\n", "<", "<think>", "</think>", "<tool_call>", "</tool_call>", CALL, ">"])
)


def split(
    pieces: list[str], thinks: Literal["no", "maybe", "inside"] = "no", *, calls: bool = False
) -> dict[Kind, str]:
    speech = Speech(thinks, calls=calls)
    parts = [part for piece in pieces for part in speech.add(piece)] + speech.finish()
    texts: dict[Kind, str] = {}
    for part in parts:
        texts[part.kind] = texts.get(part.kind, "") + part.text
    return texts


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
@pytest.mark.parametrize(
    ("text", "thinks", "calls", "found"),
    [
        ("plain <think>", "no", False, {"content": "plain <think>"}),
        ("<think>\nwhy\n</think>\n\nso", "maybe", False, {"reasoning": "why", "content": "so"}),
        ("why</think>so", "inside", False, {"reasoning": "why", "content": "so"}),
        ("so it <think> is", "maybe", False, {"content": "so it <think> is"}),
        ("<think>never ends", "maybe", False, {"reasoning": "never ends"}),
        (f"Well\n<tool_call>\n{CALL}\n</tool_call>", "no", True, {"content": "Well", "call": f"\n{CALL}\n"}),
        ("<tool_call>nonsense</tool_call>", "no", True, {"content": "<tool_call>nonsense</tool_call>"}),
        ("<tool_call>{cut off", "no", True, {"content": "<tool_call>{cut off"}),
        (f"<tool_call>{CALL}</tool_call>", "no", False, {"content": f"<tool_call>{CALL}</tool_call>"}),
    ],
)
def test_each_kind_is_told_as_what_it_is(
    text: str, thinks: Literal["no", "maybe", "inside"], calls: bool, found: dict[str, str], size: int
) -> None:
    pieces = [text[place : place + size] for place in range(0, len(text), size)]

    texts = split(pieces, thinks, calls=calls)

    assert {kind: told.strip() for kind, told in texts.items()} == {kind: told.strip() for kind, told in found.items()}


@given(PIECES)
def test_without_tags_to_look_for_every_character_is_told(pieces: list[str]) -> None:
    assert split(pieces).get("content", "") == "".join(pieces)


@given(PIECES, st.sampled_from(["no", "maybe", "inside"]), st.booleans())
def test_how_a_text_is_cut_makes_no_difference(
    pieces: list[str], thinks: Literal["no", "maybe", "inside"], calls: bool
) -> None:
    assert split(pieces, thinks, calls=calls) == split(["".join(pieces)], thinks, calls=calls)


def test_plain_text_is_told_at_once() -> None:
    speech = Speech("maybe", calls=True)

    assert [speech.add(text) for text in ("Hel", "lo")] == [[Part("content", "Hel")], [Part("content", "lo")]]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": 5}', '{"name": "x", "arguments": "text"}', "{" * 5000])
def test_what_is_no_call_is_not_read_as_one(text: str) -> None:
    assert read_call(text) is None


def test_a_call_has_a_name_and_arguments_as_json() -> None:
    assert read_call(CALL) == ("look", '{"at": "it"}')
