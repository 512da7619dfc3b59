"""Where llama.cpp's server departs from the OpenAI wire, and how it is brought back.

Seen with xllamacpp 2026.10.11549: fields it ignores in silence, chunks out of order with several choices, a usage for
each of them, a `created` that moves with the clock, an empty first event, logprobs of completions in the form of chats.
Local models give some hundred events a second, so here every event may be read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from gateway.errors import ContextLengthExceeded, InvalidRequest, UpstreamError, UpstreamRejected
from gateway.providers.base import Exchange
from gateway.providers.llamacpp_fields import ECHO
from gateway.wire import DONE_EVENT, FLOAT_BYTES, SseScanner, data_of, encode_event, parse_event, read_usage

Payload = dict[str, Any]

DEFAULT_COMPLETION_TOKENS = 16  # OpenAI's own default, where llama.cpp would go on to the end of the window
_BAD_FIELD = re.compile(r"Field '(\w+)'")
_UNABLE = re.compile(r"does not support (reranking|embeddings|completions|chat)")


def refuse_unsupported(exchange: Exchange, *, is_embedding: bool) -> None:
    """Raise InvalidRequest for what this model cannot do or would ignore."""
    if exchange.endpoint == "rerank":
        return  # whether the model ranks is known to its process only
    if exchange.endpoint == "images/generations" or is_embedding != (exchange.endpoint == "embeddings"):
        able = "embeddings" if is_embedding else "chat and completions"
        raise InvalidRequest(
            f"The model '{exchange.model}' serves {able}, not /v1/{exchange.endpoint}.",
            param="model",
            code="unsupported_model",
        )
    if exchange.endpoint == "completions":
        _refuse_in_completions(exchange)
    if (exchange.body.get("best_of") or 1) > 1:
        raise _unsupported("best_of")


def _refuse_in_completions(exchange: Exchange) -> None:
    if not exchange.body.get("echo"):
        return
    if exchange.body.get("logprobs") is not None:
        raise InvalidRequest(
            "'logprobs' of the prompt are not told by local models: use 'echo' without it.",
            param="logprobs",
            code="unsupported_parameter",
        )
    if not all(isinstance(prompt, str) for prompt in _prompts_of(exchange.body)):
        raise InvalidRequest(
            "'echo' of token ids is not supported by local models: send the prompt as text.",
            param="echo",
            code="unsupported_parameter",
        )


def explain_failure(error: UpstreamError) -> None:
    """Raise what llama.cpp means where it answers 500 or 501 for a request that this model cannot take."""
    if found := _UNABLE.search(error.message):
        raise InvalidRequest(
            f"This local model does not serve {found[1]}.", param="model", code="unsupported_model"
        ) from error
    for kind in ("image", "audio"):
        if f"{kind} input is not supported" in error.message:
            raise InvalidRequest(
                f"This local model does not take {kind} input.", param="messages", code="unsupported_parameter"
            ) from error
    if "is too large to process" in error.message:
        raise ContextLengthExceeded(
            "The input has more tokens than this model's window. Please reduce its length.", param="input"
        ) from error


def explain_tokens(exchange: Exchange, error: UpstreamRejected) -> None:
    """Raise InvalidRequest if the token ids of the request are not this model's; LangChain sends OpenAI's by default.

    Of another refusal the field is named where llama.cpp tells it in its sentence only.
    """
    if error.param is None:
        error.param = _param_in(error.message, exchange.body)
    if "invalid tokens" in error.message:
        param = "input" if exchange.endpoint == "embeddings" else "prompt"
        raise InvalidRequest(
            f"The token ids in '{param}' are not in the vocabulary of '{exchange.model}'. Send text instead; with "
            "LangChain's OpenAIEmbeddings set check_embedding_ctx_length=False.",
            param=param,
            code="invalid_tokens",
        ) from error


def _param_in(message: str, body: Mapping[str, Any]) -> str | None:
    if found := _BAD_FIELD.search(message):
        return found[1]
    if "JSON schema" not in message and "grammar" not in message:
        return None
    return next((name for name in ("response_format", "grammar", "json_schema", "tools") if body.get(name)), None)


def check_dimensions(asked: int, vectors: Sequence[bytes]) -> None:
    """Raise InvalidRequest when the vectors do not have the size that was asked for; llama.cpp does not shorten them."""
    size = len(vectors[0]) // FLOAT_BYTES
    if size != asked:
        raise InvalidRequest(
            f"This model does not support specifying dimensions: its vectors have {size}.", param="dimensions"
        )


def tidy_completion(reply: Payload, told: dict[int, int] | None = None) -> Payload:
    """Return a legacy completion, or a chunk of one, whose logprobs have the legacy form.

    `told` is how many characters of each choice came in chunks before, and is brought up to date.
    """
    before = {} if told is None else told
    for choice in reply.get("choices", ()):
        logprobs = choice.get("logprobs")
        if isinstance(logprobs, dict) and isinstance(logprobs.get("content"), list):
            index = choice.get("index", 0)
            ends = list(
                accumulate((len(token["token"]) for token in logprobs["content"]), initial=before.get(index, 0))
            )
            choice["logprobs"] = _legacy_logprobs(logprobs["content"], ends[:-1])
            before[index] = ends[-1]
    return reply


def _legacy_logprobs(tokens: Sequence[Mapping[str, Any]], offsets: Sequence[int]) -> Payload:
    return {
        "tokens": [token["token"] for token in tokens],
        "token_logprobs": [token["logprob"] for token in tokens],
        "top_logprobs": [{top["token"]: top["logprob"] for top in token["top_logprobs"]} for token in tokens],
        "text_offset": offsets,
    }


def _unsupported(name: str) -> InvalidRequest:
    return InvalidRequest(f"'{name}' is not supported by local models.", param=name, code="unsupported_parameter")


class LlamaCppScanner(SseScanner):
    """Gives one role chunk or echoed prompt for each choice first and in order, and one usage chunk last.

    A plain answer that was asked for as a stream is gathered: the texts of a choice come out together.
    """

    def __init__(self, exchange: Exchange) -> None:
        prompts = _prompts_of(exchange.body)
        self._for_each = exchange.body.get("n") or 1
        super().__init__(keep_usage=exchange.wants_usage or not exchange.stream, choices=self._for_each * len(prompts))
        self._echoed = prompts if ECHO in exchange.body else None
        self._gathered: dict[int, Payload] | None = None if exchange.stream else {}
        self._is_legacy = exchange.endpoint == "completions"
        self._characters: dict[int, int] = {}  # of each choice, told with logprobs
        self._created: Any = None
        self._usages: list[Payload] = []
        self._last: Payload = {}

    def inspect(self, block: bytes) -> bytes:
        kept: list[bytes] = []
        for event in block.split(b"\n\n"):
            kept.extend(self._tidy(data_of(event)))
            if self.is_over:
                break
        whole = b"".join(kept)
        self.recall(whole)
        return whole

    def _tidy(self, data: bytes) -> Iterator[bytes]:
        if data in (b"", b"null"):  # completions of several prompts begin with an event that says null
            return
        if data == b"[DONE]":
            yield from self._finish()
            return
        payload = parse_event(data)
        if payload is None:
            self.started = True
            self.break_off()
        elif payload.get("error"):
            self.started = True
            self.fail(payload["error"])
        else:
            yield from self._tidy_chunk(payload)

    def _tidy_chunk(self, payload: Payload) -> Iterator[bytes]:
        usage = payload.pop("usage", None)
        if isinstance(usage, dict):
            self._usages.append(usage)
        if not self.started:
            self.started = True
            self._created = payload.get("created")
            yield from self._beginnings(payload)
        self._settle(payload)
        if not any(_says_something(choice) for choice in payload.get("choices", ())):
            return
        if self._gathered is None:
            yield encode_event(payload)
        elif not self._gather(payload):
            yield from self._let_go()
            yield encode_event(payload)

    def _settle(self, payload: Payload) -> None:
        """Bring a chunk to the OpenAI wire."""
        payload["created"] = self._created
        self._last = payload
        for choice in payload.get("choices", ()):
            delta = choice.get("delta")
            if isinstance(delta, dict) and delta.pop("role", None) is not None and delta.get("content") is None:
                delta.pop("content", None)
        if self._is_legacy:
            tidy_completion(payload, self._characters)

    def _beginnings(self, first: Payload) -> Iterator[bytes]:
        told: Payload
        for index in range(self.choices):
            if first.get("object") == "chat.completion.chunk":
                told = {"delta": {"role": "assistant", "content": "", "refusal": None}}
            elif self._echoed is not None:
                told = {"text": self._echoed[index // self._for_each]}
            else:
                return
            choice = {"index": index, **told, "logprobs": None, "finish_reason": None}
            yield encode_event({**first, "choices": [choice]})

    def _gather(self, payload: Payload) -> bool:
        """Keep the text of this chunk for later; False where there is more in it than text."""
        choice = payload["choices"][0]
        told = choice.get("delta", choice)
        word = "content" if "delta" in choice else "text"
        if len(payload["choices"]) > 1 or choice.get("finish_reason") or choice.get("logprobs") or not told.get(word):
            return False
        if told is not choice and len(told) > 1:
            return False
        assert self._gathered is not None  # noqa: S101  only plain answers are gathered
        kept = self._gathered.setdefault(choice.get("index", 0), {**payload, "choices": [{**choice, "texts": []}]})
        kept["choices"][0]["texts"].append(told[word])
        return True

    def _let_go(self) -> Iterator[bytes]:
        for payload in (self._gathered or {}).values():
            choice = payload["choices"][0]
            text = "".join(choice.pop("texts"))
            choice |= {"delta": {"content": text}} if "delta" in choice else {"text": text}
            yield encode_event(payload)
        if self._gathered:
            self._gathered = {}

    def _finish(self) -> Iterator[bytes]:
        yield from self._let_go()
        self.finish()
        if self._usages:
            total = self._add_up()
            self.usage = read_usage(total)
            if self.keep_usage:
                yield encode_event({**self._last, "choices": [], "usage": total})
        yield DONE_EVENT

    def _add_up(self) -> Payload:
        """Return one usage for all choices; llama.cpp gives each its own, and a shared prompt counts once."""
        prompt = sum(usage.get("prompt_tokens", 0) for usage in self._usages) // self._for_each
        completion = sum(usage.get("completion_tokens", 0) for usage in self._usages)
        counted = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        return {**self._usages[0], **counted}


def _prompts_of(body: Mapping[str, Any]) -> Sequence[Any]:
    """Return the prompts of a completion, one for a chat: a text or a list of token ids is one."""
    prompt = body.get("prompt")
    return prompt if isinstance(prompt, list) and not isinstance(prompt[0], int) else (prompt,)


def _says_something(choice: Mapping[str, Any]) -> bool:
    return bool(choice.get("delta") or choice.get("finish_reason") or "text" in choice)
