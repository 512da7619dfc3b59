"""The wire of llama.cpp's server: the JSON and the events that answers are told in.

What must not live here: how an answer comes about, or how its bytes travel.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence as Many
from dataclasses import dataclass, field
from typing import Any

from gateway.wire import DONE_EVENT, dump, encode_event
from gateway.worker.batching.requests import Manner
from gateway.worker.batching.speech import Part, Speech, read_call
from gateway.worker.batching.work import Ending, Piece, Rated, Rating, Timings

Json = dict[str, Any]
FINGERPRINT = "llama-cpp-python"


@dataclass(slots=True)
class Choice:
    """One choice while it is written."""

    speech: Speech
    echo: str = ""
    begun: bool = False
    calls: int = 0
    content: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    called: list[Json] = field(default_factory=list)
    ratings: list[Json] = field(default_factory=list)
    ending: Ending | None = None


class Teller:
    """Tells the answer to one request; `key` is what makes its id unique, `created` in seconds since 1970.

    Feed it the events of each sequence; `piece` and `end` return the events where a stream is wanted, `whole` gives the plain answer.
    """

    def __init__(self, manner: Manner, count: int, *, model: str, key: str, created: int) -> None:
        self._manner = manner
        self._head = {
            "created": created,
            "id": f"chatcmpl-{key}",
            "model": model,
            "system_fingerprint": FINGERPRINT,
        }
        self._key = key
        self._choices = [
            Choice(Speech(manner.thinks, calls=manner.calls), manner.echoes[place] if manner.echoes else "")
            for place in range(count)
        ]

    def piece(self, index: int, piece: Piece) -> bytes:
        """Take more of one choice."""
        choice = self._choices[index]
        ratings = [rating_json(piece.rating)] if piece.rating is not None else []
        return self._tell(choice, index, choice.speech.add(piece.text), ratings, piece.timings)

    def end(self, index: int, ending: Ending) -> bytes:
        """Take the end of one choice."""
        choice = self._choices[index]
        choice.ending = ending
        parts = [*choice.speech.add(ending.text), *choice.speech.finish()]
        told = self._tell(choice, index, parts, [], ending.timings)
        if not self._manner.stream:
            return told
        extra: Json = {"timings": timings_json([ending.timings])}
        if not self._manner.is_chat:
            extra["usage"] = usage_json([ending.timings], 1)
        last: Json = {"text": "", "logprobs": None} if not self._manner.is_chat else {"delta": {}}
        told += self._event({"finish_reason": finish_reason(choice), "index": index, **last}, extra)
        return told + self._close() if self.is_over else told

    @property
    def is_over(self) -> bool:
        return all(choice.ending is not None for choice in self._choices)

    @property
    def failed(self) -> bool:
        return any(choice.ending is not None and choice.ending.reason == "failed" for choice in self._choices)

    def whole(self) -> bytes:
        """Return the plain answer."""
        kind = "chat.completion" if self._manner.is_chat else "text_completion"
        make = self._message if self._manner.is_chat else _text_choice
        choices = [make(index, choice) for index, choice in enumerate(self._choices)]
        figures = {"usage": self._usage(), "timings": timings_json(self._timings())}
        return dump({"choices": choices, **self._head, "object": kind, **figures})

    def _tell(
        self, choice: Choice, index: int, parts: list[Part], ratings: list[Json], timings: Timings
    ) -> bytes:  # fmt: skip
        events = [] if choice.begun else self._begin(choice, index)
        choice.ratings.extend(ratings)
        if not self._manner.stream:
            for part in parts:
                self._part(choice, part)
            return b""
        for part in parts or ([Part("content", "")] if ratings else []):
            told = self._part(choice, part)
            if told is not None:
                logprobs: Json = {"logprobs": {"content": ratings}} if ratings else {}
                if not self._manner.is_chat:
                    told, logprobs = {"text": part.text}, {"logprobs": {"content": ratings} if ratings else None}
                else:
                    told = {"delta": told}
                extra: Json = {"timings": timings_json([timings])} if self._manner.timed else {}
                events.append(self._event({"finish_reason": None, "index": index, **told, **logprobs}, extra))
                ratings = []
        return b"".join(events)

    def _begin(self, choice: Choice, index: int) -> list[bytes]:
        choice.begun = True
        if self._manner.is_chat:
            delta = {"delta": {"role": "assistant", "content": None}}
            return [self._event({"finish_reason": None, "index": index, **delta}, {})]
        if choice.echo:
            choice.content.append(choice.echo)
            return [self._event({"text": choice.echo, "index": index, "logprobs": None, "finish_reason": None}, {})]
        return []

    def _part(self, choice: Choice, part: Part) -> Json | None:
        """Keep a part and return its delta, None for a call too many."""
        if part.kind == "content":
            choice.content.append(part.text)
            return {"content": part.text}
        if part.kind == "reasoning":
            choice.reasoning.append(part.text)
            return {"reasoning_content": part.text}
        read = read_call(part.text)
        if read is None or (self._manner.one_call and choice.called):
            return None
        place = len(choice.called)
        function = {"name": read[0], "arguments": read[1]}
        call = {"id": f"call_{self._key[:16]}{place}", "type": "function", "function": function}
        choice.called.append(call)
        return {"tool_calls": [{"index": place, **call}]}

    def _message(self, index: int, choice: Choice) -> Json:
        content = "".join(choice.content)
        message: Json = {"role": "assistant", "content": content}
        if choice.reasoning:
            message["reasoning_content"] = "".join(choice.reasoning)
        if choice.called:
            message |= {"content": content or None, "tool_calls": choice.called}
        told: Json = {"finish_reason": finish_reason(choice), "index": index, "message": message}
        return told | ({"logprobs": {"content": choice.ratings}} if choice.ratings else {})

    def _event(self, choice: Json, extra: Json) -> bytes:
        kind = "chat.completion.chunk" if self._manner.is_chat else "text_completion"
        return encode_event({"choices": [choice], **self._head, "object": kind, **extra})

    def _close(self) -> bytes:
        if not (self._manner.is_chat and self._manner.with_usage):
            return DONE_EVENT
        figures = {"usage": self._usage(), "timings": timings_json(self._timings())}
        return encode_event({"choices": [], **self._head, "object": "chat.completion.chunk", **figures}) + DONE_EVENT

    def _timings(self) -> list[Timings]:
        return [choice.ending.timings for choice in self._choices if choice.ending is not None]

    def _usage(self) -> Json:
        return usage_json(self._timings(), self._manner.choices)


def finish_reason(choice: Choice) -> str:
    """Return the reason in OpenAI's words."""
    reason = choice.ending.reason if choice.ending is not None else "stop"
    if choice.called and reason == "stop":
        return "tool_calls"
    return "length" if reason == "length" else "stop"


def _text_choice(index: int, choice: Choice) -> Json:
    logprobs = {"content": choice.ratings} if choice.ratings else None
    text = "".join(choice.content)
    return {"text": text, "index": index, "logprobs": logprobs, "finish_reason": finish_reason(choice)}


def rating_json(rating: Rating) -> Json:
    """Return one token with its rivals."""
    return {**_rated(rating.chosen), "top_logprobs": [_rated(rival) for rival in rating.rivals]}


def _rated(one: Rated) -> Json:
    text = one.text.decode("utf-8", "replace")
    return {"id": one.token, "token": text, "bytes": list(one.text), "logprob": max(one.logprob, -9999.0)}


def usage_json(timings: Many[Timings], choices: int) -> Json:
    """Return the usage of answers of which each `choices` share their prompt."""
    prompt = sum(one.prompt for one in timings[::choices])
    cached = sum(one.found for one in timings[::choices])
    completion = sum(one.produced for one in timings)
    return {
        "completion_tokens": completion,
        "prompt_tokens": prompt,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def timings_json(timings: Many[Timings]) -> Json:
    """Return llama.cpp's `timings`: of the first choice what was read, of all what was written."""
    first = timings[0]
    computed = first.prompt - first.cached
    produced = sum(one.produced for one in timings)
    read_ms = first.prompt_seconds * 1000
    # The first token comes with the last of the prompt, so the time between tokens is what is measured.
    write_ms = max(one.produced_seconds for one in timings) * 1000
    return {
        "cache_n": first.cached,
        "prompt_n": computed,
        "prompt_ms": read_ms,
        "prompt_per_token_ms": read_ms / max(computed, 1),
        "prompt_per_second": computed * 1000 / read_ms if read_ms else 0.0,
        "predicted_n": produced,
        "predicted_ms": write_ms,
        "predicted_per_token_ms": write_ms / max(produced, 1),
        "predicted_per_second": produced * 1000 / write_ms if write_ms else 0.0,
    }


def embeddings_json(vectors: Many[Any], tokens: int, *, model: str, as_base64: bool) -> bytes:
    """Return the answer to an embeddings request; `vectors` are numpy arrays of float32."""
    told = [base64.b64encode(vector.tobytes()).decode() if as_base64 else vector.tolist() for vector in vectors]
    data = [{"embedding": vector, "index": index, "object": "embedding"} for index, vector in enumerate(told)]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return dump({"model": model, "object": "list", "usage": usage, "data": data})
