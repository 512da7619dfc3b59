"""What litellm answers, put into the shapes that OpenAI's clients expect: whole answers.

The words that whole answers and streams share are here; streams are put together in `litellm_stream.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.call import Usage
from gateway.errors import UpstreamProtocolError
from gateway.providers.base import Exchange, PlainReply
from gateway.providers.litellm_images import pictures_of
from gateway.providers.litellm_parts import Thoughts, audio_of, call_of, get, legacy_call_of, refusal_of, sources_of
from gateway.providers.plain import unpack_vectors
from gateway.wire import dump, read_usage

_FINISHES = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
NO_ARGUMENTS = "{}"
_BYTES_OF_A_TOKEN = 4  # roughly, of text in UTF-8
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


def without_untold(usage: dict[str, Any] | None, *, thought: bool) -> dict[str, Any] | None:
    """Return the usage without the nought that litellm puts where the upstream thought and told no count of it."""
    group = "completion_tokens_details"
    if usage is None or not thought or usage.get(group, {}).get("reasoning_tokens") != 0:
        return usage
    return {name: count for name, count in usage.items() if name != group}


def chat_reply(answer: Any, exchange: Exchange, *, signs: bool = False) -> PlainReply:
    """Return the `chat.completion`; `signs` says that this upstream continues thoughts that are sent back to it.

    Raises UpstreamProtocolError for an answer with nothing in it.
    """
    choices = [_choice(index, choice, signs=signs) for index, choice in enumerate(answer.choices or ())]
    if not choices:
        raise _empty()
    payload = {
        "id": completion_id(answer.id),
        "object": "chat.completion",
        "created": int(answer.created),
        "model": exchange.model,
        "choices": choices,
    }
    thought = any("reasoning_content" in each["message"] or "thinking_blocks" in each["message"] for each in choices)
    if usage := without_untold(usage_of(getattr(answer, "usage", None)), thought=thought):
        payload["usage"] = usage
    return PlainReply(dump(payload), read_usage(usage))


def _choice(index: int, told: Any, *, signs: bool) -> dict[str, Any]:
    said = told.message
    calls = [_tool_call(call) for call in said.tool_calls or () if not is_of_upstream(call.id)]
    parts = {
        "reasoning_content": getattr(said, "reasoning_content", None),
        "thinking_blocks": _thoughts(said) if signs else None,
        "images": pictures_of(said),
        "audio": audio_of(said),
        "annotations": sources_of(said),
        "tool_calls": calls,
        "function_call": _legacy_call(said),
    }
    message: dict[str, Any] = {"role": "assistant", "content": said.content or None, "refusal": refusal_of(said)}
    if not any((calls, parts["audio"], parts["function_call"], message["content"], message["refusal"])):
        message["content"] = ""
    message |= {name: part for name, part in parts.items() if part}
    word = told.finish_reason or "stop"
    is_legacy = bool(parts["function_call"]) and word in ("stop", "tool_calls")
    return {
        "index": index,
        "message": message,
        "logprobs": logprobs_of(told),
        "finish_reason": "function_call" if is_legacy else finish_reason(word, has_calls=bool(calls)),
    }


def _thoughts(message: Any) -> list[dict[str, Any]]:
    thoughts = Thoughts()
    thoughts.feed(getattr(message, "thinking_blocks", None))
    return thoughts.blocks


def _legacy_call(message: Any) -> dict[str, str] | None:
    said = legacy_call_of(message)
    return {"arguments": NO_ARGUMENTS, **said} if said.get("name") else None


def logprobs_of(choice: Any) -> Any:
    told = getattr(choice, "logprobs", None)
    if told is None or isinstance(told, dict):
        return told
    return told.model_dump()


def _tool_call(told: Any) -> dict[str, Any]:
    call = call_of(told)
    if call["type"] == "function":
        call["function"]["arguments"] = call["function"]["arguments"] or NO_ARGUMENTS
    return {"id": told.id, **call}


def embedding_reply(answer: Any, exchange: Exchange) -> PlainReply:
    """Return the reply with the vectors in the order of the inputs.

    Raises UpstreamProtocolError for what are not the vectors that were asked for.
    """
    told = (usage_of(getattr(answer, "usage", None)) or {}).get("prompt_tokens", 0)
    tokens = told or _estimate(exchange.body.get("input"))  # clients want a figure, and nought would be a wrong one
    data = [{"embedding": get(item, "embedding")} for item in _in_order(answer.data or ())]
    model = getattr(answer, "model", None)
    vectors = unpack_vectors({"data": data}, exchange)
    return PlainReply(b"", Usage(tokens), vectors=vectors, model=model if isinstance(model, str) else "")


def _estimate(given: Any) -> int:
    """Return about how many tokens the input of embeddings has, where the upstream does not tell: one for four bytes."""
    if isinstance(given, str):
        return max(1, len(given.encode("utf-8", "replace")) // _BYTES_OF_A_TOKEN)
    return sum(_estimate(each) if isinstance(each, str | list) else 1 for each in given or ())


def _in_order(items: Sequence[Any]) -> Sequence[Any]:
    """Return the items by the index that each has; as they came where an upstream gives none that can be right."""
    places = [get(item, "index") for item in items]
    if not all(type(place) is int for place in places) or len(set(places)) != len(places):
        return items
    return sorted(items, key=lambda item: int(get(item, "index")))


def _empty() -> UpstreamProtocolError:
    return UpstreamProtocolError("The upstream's answer has nothing in it.", code="upstream_bad_response")
