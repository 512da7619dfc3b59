"""What is to be thought of an answer: whether the caller was served, was told the truth in time, or was left alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gateway.chaos.cases import Case
from gateway.chaos.sound import DONE, EVENTS, JSON, text_of

# ok: the answer came. honest: a proper error in time, where no answer could come. avoidable: the same, though a sound
# deployment stood by. lost: no answer in time, one that is not OpenAI's, another deployment's words, a defect.
Word = Literal["ok", "honest", "avoidable", "lost"]
WORDS: tuple[Word, ...] = ("ok", "honest", "avoidable", "lost")

_ENVELOPE = {"message", "type", "param", "code"}


@dataclass(frozen=True, slots=True)
class Answer:
    """All that a caller got; `seconds` is how long it took."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """`code` is that of the error the caller read, `reason` says what is wrong with a lost answer."""

    word: Word
    code: str | None = None
    reason: str = ""


class _Wrong(Exception):
    """The answer is not what OpenAI's clients take."""


def judge(case: Case, answer: Answer) -> Verdict:
    """Return what is to be thought of the answer to a case."""
    try:
        error = _read(case, answer)
    except _Wrong as wrong:
        return Verdict("lost", reason=str(wrong))
    if error is None:
        return Verdict("ok")
    code = error["code"]
    if answer.status == 500 or code == "internal_error":
        return Verdict("lost", code, "a defect of the gateway; its log has the trace")
    return Verdict("avoidable" if case.survivable else "honest", code)


def _read(case: Case, answer: Answer) -> Mapping[str, Any] | None:
    """Return the error that the answer holds, None if it is a good one."""
    expected = EVENTS if case.form == "stream" and answer.status == 200 else JSON
    if not answer.headers.get("Content-Type", "").startswith(expected):
        raise _Wrong(f"status {answer.status} with the content type {answer.headers.get('Content-Type')}")
    if answer.status != 200:
        return _error(_object(answer.body))
    if case.form == "stream":
        return _read_stream(case, answer.body)
    _check_words(case, _words(case, _object(answer.body)))
    return None


def _read_stream(case: Case, body: bytes) -> Mapping[str, Any] | None:
    blocks = [block for block in body.split(b"\n\n") if block]
    events = [block.removeprefix(b"data: ") for block in blocks if not block.startswith(b":")]
    is_done = body.endswith(DONE)
    chunks = [_object(event) for event in (events[:-1] if is_done else events)]
    error = next((chunk for chunk in chunks if "error" in chunk), None)
    if is_done and error is not None:
        raise _Wrong("a stream with an error event and [DONE]")
    if not is_done:
        # What went out before it may be half a sentence: the error event is what counts, if it comes last.
        if not chunks or error is not chunks[-1]:
            raise _Wrong("a stream that ends without [DONE] and without an error event")
        return _error(chunks[-1])
    deltas = [choice["delta"] for chunk in chunks for choice in chunk.get("choices", ())]
    _check_words(case, "".join(delta.get("content") or "" for delta in deltas))
    return None


def _object(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        raise _Wrong("an answer with malformed JSON") from None
    if not isinstance(found, dict):
        raise _Wrong("an answer that is no JSON object")
    return found


def _error(found: Mapping[str, Any]) -> Mapping[str, Any]:
    error = found.get("error")
    if not isinstance(error, dict) or not error.keys() >= _ENVELOPE:
        raise _Wrong("an error that is not in OpenAI's envelope")
    return error


def _words(case: Case, found: Mapping[str, Any]) -> object:
    try:
        if case.form == "embeddings":
            return found["model"]
        if case.form == "images":
            return found["data"][0]["revised_prompt"]
        return found["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        raise _Wrong("an answer without its content") from None


def _check_words(case: Case, words: object) -> None:
    if words not in {text_of(name) for name in case.deployments}:
        raise _Wrong("an answer that is not the whole of what one deployment said")
