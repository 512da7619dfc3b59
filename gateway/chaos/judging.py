"""What is to be thought of an answer: whether the caller was served, was told the truth in time, or was left alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gateway.chaos.cases import Case
from gateway.chaos.sound import DONE, EVENTS, JSON, text_of

# ok: the answer came. honest: an error that is true of the fault, in time, where no answer could come. remark: broken as
# the product says it may be. avoidable: a true error, though a sound deployment stood by. dishonest: an error that is not
# true of the fault, or anything too late. not asked: the deployment whose turn it was never was. lost: no answer at
# all, one that is not OpenAI's, another deployment's words, a defect.
Word = Literal["ok", "honest", "remark", "avoidable", "dishonest", "not asked", "lost"]
WORDS: tuple[Word, ...] = ("ok", "honest", "remark", "avoidable", "dishonest", "not asked", "lost")
FAILURES: frozenset[Word] = frozenset({"avoidable", "dishonest", "not asked", "lost"})
GRACE_SECONDS = 1.0  # what an answer may take beyond all patience

_ENVELOPE = {"message", "type", "param", "code"}


@dataclass(frozen=True, slots=True)
class Answer:
    """All that a caller got; `seconds` is how long it took."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float

    @property
    def attempts(self) -> int:
        """Return how often the gateway says it asked."""
        return int(self.headers.get("x-gateway-attempts", "0"))


@dataclass(frozen=True, slots=True)
class Verdict:
    """`code` is that of the error the caller read, `reason` says what is wrong with the answer, or is to be known of it."""

    word: Word
    code: str | None = None
    reason: str = ""


class _Wrong(Exception):
    """The answer is not what OpenAI's clients take."""


def judge(case: Case, answer: Answer, patience: float, *, touched: bool = True) -> Verdict:
    """Return what is to be thought of the answer to a case.

    `patience`, in seconds, is that of an attempt; `touched` says whether a deployment whose turn it was has been asked.
    """
    try:
        error = _read(case, answer)
    except _Wrong as wrong:
        return Verdict("lost", reason=str(wrong))
    code = None if error is None else error["code"]
    if answer.status == 500 or code == "internal_error":
        return Verdict("lost", code, "a defect of the gateway; its log has the trace")
    if not touched:
        return Verdict("not asked", code, f"it was the turn of {', '.join(sorted(case.turn))}, never asked")
    untrue = _late(case, answer, patience) or (_untrue(case, answer, code) if error is not None else "")
    if untrue:
        return Verdict("dishonest", code, untrue)
    if error is not None:
        return Verdict("avoidable" if case.survivable else "honest", code)
    if _passed(case, answer.body):
        return Verdict("remark", reason=f"what stands between braces is relayed unread ({case.fault.row})")
    return Verdict("ok")


def _late(case: Case, answer: Answer, patience: float) -> str:
    """Return what is wrong with the time an answer took."""
    most = patience * case.fault.patiences * answer.attempts + GRACE_SECONDS
    if answer.seconds <= most:
        return ""
    return f"after {answer.seconds:.1f} s, where {answer.attempts} attempts may take {most:g} s"


def _untrue(case: Case, answer: Answer, code: str | None) -> str:
    """Return what is wrong with an error as the caller's word on the fault."""
    truths = case.fault.truths
    retry_after = answer.headers.get("Retry-After")
    if any(truth.fits(answer.status, code, retry_after) for truth in truths):
        return ""
    waits = "without Retry-After" if retry_after is None else f"with Retry-After: {retry_after}"
    return f"{answer.status} {code} {waits}, where {'; '.join(map(str, truths))} would be true"


def _passed(case: Case, body: bytes) -> bool:
    """Tell whether the answer has the broken event that may be relayed."""
    passing = case.fault.may_pass
    return bool(passing) and b"data: " + passing + b"\n\n" in body


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
    events = [event for event in events if event != case.fault.may_pass]
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
