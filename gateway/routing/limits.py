"""What upstreams say of their limits when a request is too long for them, read out of their sentences.

Each maker words it in its own way, and some change the words; a sentence that is not understood tells nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from gateway.call import Endpoint
from gateway.errors import ContextLengthExceeded, GatewayError, UpstreamRejected

_NUMBER = r"(\d[\d,_]{0,12})"
_MOST_READ = 2000  # characters; what follows are quotations
# Of request and answer together.
_WINDOW = (
    rf"maximum context length (?:is|of) {_NUMBER}",  # OpenAI, Azure, vLLM, DeepSeek, OpenRouter, Together
    rf"{_NUMBER} maximum context length",  # Mistral
    rf"context limit: {_NUMBER} \+ {_NUMBER} > {_NUMBER}",  # Anthropic; the last one
    rf"maximum model length of {_NUMBER}",  # older vLLM
    rf"`max_new_tokens` must be <= {_NUMBER}",  # text-generation-inference
    rf"context (?:size|window|length)[^.\d]{{0,30}}{_NUMBER} tokens",  # llama.cpp, LM Studio
)
# Of the request alone.
_MOST_INPUT = (
    rf"tokens > {_NUMBER} maximum",  # Anthropic
    rf"maximum prompt length is {_NUMBER}",  # xAI
    rf"maximum number of tokens allowed \(?{_NUMBER}",  # Gemini
    rf"model only supports up to {_NUMBER}",  # Vertex
    rf"maximum allowed (?:input )?length (?:of )?{_NUMBER} tokens",  # SGLang and others; of characters there are limits, too
    rf"cannot exceed {_NUMBER}",  # Cohere
)
# How many tokens the request had by the upstream's own count.
_COUNTED = (
    rf"messages resulted in {_NUMBER} tokens",
    rf"\({_NUMBER} (?:of text input|in the messages|in the prompt|in your prompt)",
    rf"too long: {_NUMBER} tokens",
    rf"context limit: {_NUMBER} \+",
    rf"request contains {_NUMBER} tokens",
    rf"input token count (?:is )?\(?{_NUMBER}",
    rf"(?:request|input) \({_NUMBER} tokens\)",
    rf"request has {_NUMBER} input tokens",
    rf"{_NUMBER} tokens from the input",
    rf"(?:prompt \(|input )length {_NUMBER}",
    rf"Given: {_NUMBER} `inputs`",
    rf"Prompt contains {_NUMBER} tokens",
    rf"received {_NUMBER}",
)
# What a refusal for its length may name, if anything: a sentence about another field is about what the caller wrote there.
_ABOUT = frozenset({None, "messages", "prompt", "input", "max_tokens", "max_completion_tokens"})
_STATUSES = frozenset({400, 413, 422})
_PARAMS: Mapping[str, str] = MappingProxyType({"chat/completions": "messages", "completions": "prompt"})
# How long an answer it was to leave room for, which some lanes ask for where the caller did not.
_ANSWER = (rf"context limit: {_NUMBER} \+ {_NUMBER} >", rf"{_NUMBER} (?:in|for) the completion")


@dataclass(frozen=True, slots=True)
class ToldLimit:
    """What an upstream said, in its own tokens: its `window` for request and answer, the longest request, this one's length.

    `answer` is the longest answer that it was asked for.
    """

    window: int | None = None
    most_input: int | None = None
    counted: int | None = None
    answer: int | None = None


def read_limit(message: str) -> ToldLimit:
    """Return what a refusal tells of the limit; what it does not tell is None."""
    text = message[:_MOST_READ]
    return ToldLimit(_find(_WINDOW, text), _find(_MOST_INPUT, text), _find(_COUNTED, text), _find(_ANSWER, text))


def as_too_long(error: UpstreamRejected, endpoint: Endpoint) -> GatewayError:
    """Return a refusal that says only in words that the request is too long as what it is, any other as it was.

    vLLM, Mistral and others have no code for it. What tells no limit is left alone.
    """
    if error.upstream_status not in _STATUSES or error.param not in _ABOUT:
        return error
    told = read_limit(error.message)
    if told.window is None and told.most_input is None:
        return error
    return ContextLengthExceeded(error.message, param=error.param or _PARAMS.get(endpoint, "input"))


def _find(patterns: tuple[str, ...], text: str) -> int | None:
    for pattern in patterns:
        if found := re.search(pattern, text, re.IGNORECASE):
            number = int(re.sub(r"[,_]", "", found[found.lastindex or 1]))
            return number or None
    return None
