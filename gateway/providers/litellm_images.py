"""Images through litellm: which fields an upstream takes, and what it answers in OpenAI's shape.

How litellm is asked for them without blocking the event loop is in `litellm_threads.py`.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from gateway.errors import UpstreamProtocolError, UpstreamRejected
from gateway.providers.base import Exchange, PlainReply
from gateway.wire import dump, encode_event, read_image_usage

# Without `user`, which litellm reads as the name of an account of its own, and without `partial_images`: they may be
# fewer than asked for, and litellm's pictures are whole.
IMAGE_FIELDS = frozenset(
    [
        "background",
        "moderation",
        "n",
        "output_compression",
        "output_format",
        "prompt",
        "quality",
        "response_format",
        "size",
        "steps",
        "style",
    ]
)
_DEFAULTS: Mapping[str, str] = MappingProxyType({"response_format": "b64_json"})  # what all give that take no other
_COMPLETED = "image_generation.completed"
_FORMATS: Mapping[str, str] = MappingProxyType({"iVBORw0KGgo": "png", "/9j/": "jpeg", "UklGR": "webp"})
# OpenAI's words for pictures, of which strict clients take no others.
_WORDS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "background": frozenset({"opaque", "transparent"}),
        "output_format": frozenset(_FORMATS.values()),
        "quality": frozenset({"low", "medium", "high"}),
        "size": frozenset({"1024x1024", "1024x1536", "1536x1024"}),
    }
)
_UNKNOWN: Mapping[str, str] = MappingProxyType({"background": "auto", "quality": "auto", "size": "auto"})  # of events
_PNG_SIZE_BYTES = 24  # of the picture, up to the end of its width and height


def fields_taken(library: Any, prefix: str, model: str) -> frozenset[str]:
    """Return the fields that litellm has words of the upstream for; all where it passes on whatever it is given."""
    if prefix == "bedrock":
        told = library.BedrockImageGeneration.get_config_class(model)
    elif prefix in library.provider_list:
        provider = library.LlmProviders(prefix)
        told = library.utils.ProviderConfigManager.get_provider_image_generation_config(model=model, provider=provider)
    else:
        told = None
    if told is None:
        return IMAGE_FIELDS
    own = {"steps"} if hasattr(told, "steps") else set()
    return frozenset({"prompt", *told.get_supported_openai_params(model), *own})


def fit(made: dict[str, Any], taken: frozenset[str]) -> None:
    """Leave out of a call's keywords what asks for nothing else than the upstream does anyway.

    Raises UpstreamRejected for a field it does not take, which litellm would leave out without a word.
    """
    for name in sorted((made.keys() & IMAGE_FIELDS) - taken):
        if made[name] not in ("auto", _DEFAULTS.get(name)):
            text = f"Unsupported parameter: '{name}' is not supported with this model."
            raise UpstreamRejected(text, param=name, code="unsupported_parameter")
        del made[name]


def image_reply(answer: Any, exchange: Exchange) -> PlainReply:
    """Return the pictures, each as base64 or as the URL where it lies; for a stream as events of whole ones."""
    pictures = []
    for item in answer.data or ():
        named = {name: _get(item, name) for name in ("b64_json", "url", "revised_prompt")}
        picture = {name: value for name, value in named.items() if value}
        if "b64_json" in picture or "url" in picture:
            pictures.append(picture)
    if not pictures:
        raise UpstreamProtocolError("The upstream's answer has nothing in it.", code="upstream_bad_response")
    created, usage = int(answer.created), _usage(answer)
    told = {} if usage is None else {"usage": usage}
    if exchange.stream:
        *others, last = ({**picture, **_UNKNOWN, **_nature(answer, picture, exchange)} for picture in pictures)
        events = [_completed(picture, created) for picture in others]
        body = b"".join(events) + _completed({**last, **told}, created)  # they are counted together
    else:
        body = dump({"created": created, "data": pictures, **_nature(answer, pictures[0], exchange), **told})
    return PlainReply(body, read_image_usage(usage))


def _usage(answer: Any) -> dict[str, Any] | None:
    """Return OpenAI's usage object of images; litellm's has zeros where the upstream told none."""
    told = getattr(answer, "usage", None)
    sent, made = _count(told, "input_tokens"), _count(told, "output_tokens")
    made = max(made, _count(told, "total_tokens") - sent)  # thoughts are in Google's total only
    if not (sent or made):
        return None
    details = getattr(told, "input_tokens_details", None)
    seen = min(_count(details, "image_tokens"), sent)
    return {
        "input_tokens": sent,
        "output_tokens": made,
        "total_tokens": sent + made,
        "input_tokens_details": {"image_tokens": seen, "text_tokens": sent - seen},
    }


def _count(told: Any, name: str) -> int:
    value = getattr(told, name, None)
    return value if type(value) is int and value >= 0 else 0


def _nature(answer: Any, picture: Mapping[str, Any], exchange: Exchange) -> dict[str, str]:
    """Return what is known of a picture: seen in it, told by the upstream, or asked for and not refused."""
    seen = _seen(picture.get("b64_json") or "")
    nature: dict[str, str] = {}
    for name, words in _WORDS.items():
        value = seen.get(name) or getattr(answer, name, None) or exchange.body.get(name)
        if isinstance(value, str) and value in words:
            nature[name] = value
    return nature


def _seen(packed: str) -> dict[str, str]:
    kind = next((name for begin, name in _FORMATS.items() if packed.startswith(begin)), "")
    if kind != "png":
        return {"output_format": kind}
    try:
        head = base64.b64decode(packed[: _PNG_SIZE_BYTES * 4 // 3], validate=True)
        width, height = struct.unpack(">II", head[16:])
    except (binascii.Error, struct.error):
        return {"output_format": kind}
    return {"output_format": kind, "size": f"{width}x{height}"}


def _completed(picture: dict[str, Any], created: int) -> bytes:
    event = encode_event({"type": _COMPLETED, "created_at": created, **picture})
    return b"event: " + _COMPLETED.encode() + b"\n" + event


def pictures_of(message: Any) -> list[dict[str, Any]]:
    """Return the pictures within a chat's answer, or a piece of one, in the form of `image_url` parts."""
    found = []
    for picture in getattr(message, "images", None) or ():
        url = _get(_get(picture, "image_url") or {}, "url")
        if isinstance(url, str) and url:
            found.append({"type": "image_url", "image_url": {"url": url}, "index": _get(picture, "index") or 0})
    return found


def _get(item: Any, name: str) -> Any:
    return item.get(name) if isinstance(item, dict) else getattr(item, name, None)
