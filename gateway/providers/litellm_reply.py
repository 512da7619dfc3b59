"""What litellm answers, put into the shapes that OpenAI's clients expect: whole answers.

The words that whole answers and streams share are here; streams are put together in `litellm_stream.py`.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gateway.errors import UpstreamProtocolError
from gateway.providers.base import Exchange, PlainReply
from gateway.providers.litellm_images import pictures_of
from gateway.wire import dump, find_flaw, read_usage

_FINISHES = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
NO_ARGUMENTS = "{}"
_LARGEST_FLOAT32 = (2 - 2**-23) * 2.0**127
_OTHER_FINISHES: Mapping[str, str] = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "safety": "content_filter",
    "refusal": "content_filter",
    "content_filtered": "content_filter",
    "recitation": "content_filter",
    "guardrail_intervened": "content_filter",
}


def finish_reason(told: str, *, has_calls: bool) -> str:
    """Return OpenAI's word for why a choice ended: with tool calls it is never a mere stop."""
    word = told if told in _FINISHES else _OTHER_FINISHES.get(told.lower(), "stop")
    if not has_calls and word == "tool_calls":
        return "stop"  # what was called is the upstream's own
    return "tool_calls" if has_calls and word == "stop" else word


def is_of_upstream(call_id: Any) -> bool:
    """Tell whether a tool was called and answered by the upstream itself, such as Anthropic's web search."""
    return isinstance(call_id, str) and call_id.startswith("srvtoolu_")


def completion_id(told: Any) -> str:
    word = told if isinstance(told, str) else ""
    return word if word.startswith("chatcmpl-") else f"chatcmpl-{word}"


def usage_of(told: Any) -> dict[str, Any] | None:
    """Return OpenAI's usage object of litellm's, without prices and without details that are not known."""
    prompt, completion = getattr(told, "prompt_tokens", None), getattr(told, "completion_tokens", None)
    if not isinstance(prompt, int) or not isinstance(completion, int):
        return None
    usage: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    for group, name in (("prompt_tokens_details", "cached_tokens"), ("completion_tokens_details", "reasoning_tokens")):
        count = getattr(getattr(told, group, None), name, None)
        if isinstance(count, int):
            usage[group] = {name: count}
    return usage


def chat_reply(answer: Any, exchange: Exchange) -> PlainReply:
    """Return the `chat.completion`; raises UpstreamProtocolError for an answer with nothing in it."""
    choices = [_choice(index, choice) for index, choice in enumerate(answer.choices or ())]
    if not choices:
        raise _empty()
    payload = {
        "id": completion_id(answer.id),
        "object": "chat.completion",
        "created": int(answer.created),
        "model": exchange.model,
        "choices": choices,
    }
    if usage := usage_of(getattr(answer, "usage", None)):
        payload["usage"] = usage
    return PlainReply(dump(payload), read_usage(usage))


def _choice(index: int, told: Any) -> dict[str, Any]:
    calls = [_tool_call(call) for call in told.message.tool_calls or () if not is_of_upstream(call.id)]
    message: dict[str, Any] = {"role": "assistant", "content": told.message.content or None, "refusal": None}
    if not calls and message["content"] is None:
        message["content"] = ""
    if thoughts := getattr(told.message, "reasoning_content", None):
        message["reasoning_content"] = thoughts
    if pictures := pictures_of(told.message):
        message["images"] = pictures
    if calls:
        message["tool_calls"] = calls
    return {
        "index": index,
        "message": message,
        "logprobs": logprobs_of(told),
        "finish_reason": finish_reason(told.finish_reason or "stop", has_calls=bool(calls)),
    }


def logprobs_of(choice: Any) -> Any:
    told = getattr(choice, "logprobs", None)
    if told is None or isinstance(told, dict):
        return told
    return told.model_dump()


def _tool_call(told: Any) -> dict[str, Any]:
    function = {"name": told.function.name or "", "arguments": told.function.arguments or NO_ARGUMENTS}
    return {"id": told.id, "type": "function", "function": function}


def embedding_reply(answer: Any, exchange: Exchange) -> PlainReply:
    """Return the list of vectors in the order of the inputs, as floats or base64 as the caller wants them.

    Raises UpstreamProtocolError for what are not the vectors that were asked for.
    """
    usage = usage_of(getattr(answer, "usage", None)) or {"prompt_tokens": 0}
    counted = {"prompt_tokens": usage["prompt_tokens"], "total_tokens": usage["prompt_tokens"]}
    data = [
        {"object": "embedding", "index": index, "embedding": _get(item, "embedding")}
        for index, item in enumerate(_in_order(answer.data or ()))
    ]
    payload = {"object": "list", "data": data, "model": exchange.model, "usage": counted}
    flaw = find_flaw(payload, exchange.body, dump(payload))
    if flaw is None and not all(_is_finite(each["embedding"]) for each in data):
        flaw = "an embedding that is no vector of numbers"
    if flaw is not None:
        raise UpstreamProtocolError(f"The upstream's answer has {flaw}.", code="upstream_bad_response")
    encode = _as_base64 if exchange.body.get("encoding_format") == "base64" else _as_floats
    for each in data:
        each["embedding"] = encode(each["embedding"])
    return PlainReply(dump(payload), read_usage(counted))


def _is_finite(vector: Any) -> bool:
    """Tell whether numbers, which Python's reader of JSON takes for infinite too, fit into what base64 is made of."""
    return isinstance(vector, str) or all(abs(number) <= _LARGEST_FLOAT32 for number in vector)


def _in_order(items: Sequence[Any]) -> Sequence[Any]:
    """Return the items by the index that each has; as they came where an upstream gives none that can be right."""
    places = [_get(item, "index") for item in items]
    if not all(type(place) is int for place in places) or len(set(places)) != len(places):
        return items
    return sorted(items, key=lambda item: int(_get(item, "index")))


def _as_base64(vector: Any) -> str:
    if isinstance(vector, str):
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _as_floats(vector: Any) -> Iterable[float]:
    if not isinstance(vector, str):
        return list(vector)
    packed = base64.b64decode(vector)
    return struct.unpack(f"<{len(packed) // 4}f", packed)


def _get(item: Any, name: str) -> Any:
    return item.get(name) if isinstance(item, dict) else getattr(item, name, None)


def _empty() -> UpstreamProtocolError:
    return UpstreamProtocolError("The upstream's answer has nothing in it.", code="upstream_bad_response")
