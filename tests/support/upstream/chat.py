"""Generated text as an upstream gives it, plain or streamed: chat, tool calls, several choices, legacy completions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .answer import Answer, Framing
from .bodies import CREATED, encode, encode_event, make_completion, make_delta, make_usage
from .seen import SeenRequest

DONE = b"data: [DONE]\n\n"
EVENT_STREAM = "text/event-stream"
UsageOn = Literal["own_chunk", "finish_chunk", "every_chunk"]


@dataclass(frozen=True)
class ToolCall:
    """One call of a function; a stream sends its arguments in pieces of `piece_length` characters."""

    name: str
    arguments: str = "{}"
    id: str = "call_1"
    piece_length: int = 8

    def whole(self) -> dict[str, Any]:
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}

    def deltas(self, index: int) -> Iterator[dict[str, Any]]:
        head = {"index": index, "id": self.id, "type": "function", "function": {"name": self.name, "arguments": ""}}
        yield {"tool_calls": [head]}
        for start in range(0, len(self.arguments), self.piece_length):
            piece = self.arguments[start : start + self.piece_length]
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


@dataclass(frozen=True)
class Chat:
    """A chat completion, right by the contract unless a field says otherwise.

    `content`: the text, or its deltas; None with tool calls alone. Of several choices, those after the first end
    with " #1", " #2". `stream` and `n` None do what the request asks. A stream has one part per event: the role of
    each choice, then per choice in turn its deltas, the finish of each, usage when asked, [DONE].
    `usage` None is missing, anything else is sent as it is. `finish_reason` None never finishes.
    `usage_unasked` sends usage in a stream though nobody asked. `extra` goes into each object, over its own fields.
    """

    content: str | tuple[str, ...] | None = ("Hel", "lo", " there")
    stream: bool | None = None
    n: int | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning: str | None = None
    finish_reason: str | None = "stop"
    done: bool = True
    usage: Any = field(default_factory=make_usage)
    usage_on: UsageOn = "own_chunk"
    usage_unasked: bool = False
    model: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def answer(self, request: SeenRequest) -> Answer:
        streams = request.stream if self.stream is None else self.stream
        return _events(self._stream(request)) if streams else _object(self._plain(request))

    @property
    def text(self) -> str | None:
        """Return the whole text of the first choice."""
        return None if self.content is None else "".join(self.content)

    def _identity(self, request: SeenRequest, kind: str) -> dict[str, Any]:
        model = self.model or request.model or "scripted"
        name = f"chatcmpl-scripted-{request.index}"
        return {"id": name, "object": kind, "created": CREATED, "model": model, **self.extra}

    def _choices(self, request: SeenRequest) -> range:
        return range(self.n or request.fields.get("n") or 1)

    @property
    def _reason(self) -> str | None:
        return "tool_calls" if self.tool_calls and self.finish_reason == "stop" else self.finish_reason

    def _plain(self, request: SeenRequest) -> dict[str, Any]:
        choices = []
        for index in self._choices(request):
            text = None if self.text is None else self.text + (f" #{index}" if index else "")
            message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
            if self.reasoning is not None:
                message["reasoning_content"] = self.reasoning
            if self.tool_calls:
                message["tool_calls"] = [call.whole() for call in self.tool_calls]
            choices.append({"index": index, "message": message, "logprobs": None, "finish_reason": self._reason})
        return make_completion(self._identity(request, "chat.completion"), choices, self.usage)

    def _stream(self, request: SeenRequest) -> Iterator[bytes]:
        with_usage = (request.include_usage or self.usage_unasked) and self.usage is not None
        identity = self._identity(request, "chat.completion.chunk")
        everywhere = self.usage if self.usage_on == "every_chunk" else None
        filler = {"usage": everywhere} if with_usage else {}
        for choice in self._deltas(request):
            yield encode_event({**identity, "choices": [choice], **filler})
        last = {"usage": self.usage} if with_usage and self.usage_on == "finish_chunk" else filler
        if self._reason is not None:
            for index in self._choices(request):
                yield encode_event({**identity, "choices": [make_delta(index, {}, self._reason)], **last})
        if with_usage and self.usage_on == "own_chunk":
            yield encode_event({**identity, "choices": [], "usage": self.usage})
        if self.done:
            yield DONE

    def _deltas(self, request: SeenRequest) -> Iterator[dict[str, Any]]:
        choices = self._choices(request)
        for index in choices:
            yield make_delta(index, {"role": "assistant", "content": "", "refusal": None})
        if self.reasoning is not None:
            yield from (make_delta(index, {"reasoning_content": self.reasoning}) for index in choices)
        for piece in _pieces(self.content):
            yield from (make_delta(index, {"content": piece}) for index in choices)
        if self.content is not None:
            yield from (make_delta(index, {"content": f" #{index}"}) for index in choices[1:])
        for position, call in enumerate(self.tool_calls):
            for delta in call.deltas(position):
                yield from (make_delta(index, delta) for index in choices)


@dataclass(frozen=True)
class Completion:
    """A legacy text completion: one choice per prompt and `n`, plain or streamed as asked; the fields are Chat's."""

    content: str | tuple[str, ...] = ("Hel", "lo", " there")
    stream: bool | None = None
    finish_reason: str | None = "stop"
    done: bool = True
    usage: Any = field(default_factory=make_usage)
    model: str | None = None

    def answer(self, request: SeenRequest) -> Answer:
        streams = request.stream if self.stream is None else self.stream
        return _events(self._stream(request)) if streams else _object(self._plain(request))

    def _identity(self, request: SeenRequest) -> dict[str, Any]:
        model = self.model or request.model or "scripted"
        return {"id": f"cmpl-scripted-{request.index}", "object": "text_completion", "created": CREATED, "model": model}

    def _choices(self, request: SeenRequest) -> range:
        prompt = request.fields.get("prompt")
        several = isinstance(prompt, list) and prompt and not isinstance(prompt[0], int)
        return range((len(prompt) if several and prompt else 1) * (request.fields.get("n") or 1))

    def _plain(self, request: SeenRequest) -> dict[str, Any]:
        text = "".join(self.content)
        choices = [_text_choice(index, text, self.finish_reason) for index in self._choices(request)]
        return make_completion(self._identity(request), choices, self.usage)

    def _stream(self, request: SeenRequest) -> Iterator[bytes]:
        with_usage = request.include_usage and self.usage is not None
        filler = {"usage": None} if with_usage else {}
        identity = self._identity(request)
        choices = self._choices(request)
        for piece in _pieces(self.content):
            for index in choices:
                yield encode_event({**identity, "choices": [_text_choice(index, piece, None)], **filler})
        if self.finish_reason is not None:
            for index in choices:
                yield encode_event({**identity, "choices": [_text_choice(index, "", self.finish_reason)], **filler})
        if with_usage:
            yield encode_event({**identity, "choices": [], "usage": self.usage})
        if self.done:
            yield DONE


def _text_choice(index: int, text: str, finish_reason: str | None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": finish_reason}


def _pieces(content: str | tuple[str, ...] | None) -> tuple[str, ...]:
    if content is None:
        return ()
    return (content,) if isinstance(content, str) else content


def _object(content: dict[str, Any]) -> Answer:
    return Answer(headers=(("Content-Type", "application/json"),), parts=(encode(content),))


def _events(events: Iterator[bytes]) -> Answer:
    headers = (("Content-Type", EVENT_STREAM), ("Cache-Control", "no-cache"))
    return Answer(headers=headers, parts=tuple(events), framing=Framing.CHUNKED)
