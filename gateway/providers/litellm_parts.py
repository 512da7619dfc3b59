"""What litellm says of a message besides its text and its calls: refusals, legacy calls, sound, sources and thoughts.

Pure: reads a whole message or a piece of one. How parts are put together is decided in `litellm_reply.py` and
`litellm_chunks.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from gateway.errors import UpstreamRejected

# What a thought is sent back with. Anthropic continues only thoughts that are as it signed them.
_OF_THOUGHTS: Mapping[str, tuple[str, ...]] = {
    "thinking": ("type", "thinking", "signature"),
    "redacted_thinking": ("type", "data"),
}


class Thoughts:
    """Puts pieces of thoughts together into blocks that can be sent back, which need their signature."""

    __slots__ = ("_signed", "_text")

    def __init__(self) -> None:
        self._text = ""
        self._signed: list[dict[str, Any]] = []

    @property
    def blocks(self) -> list[dict[str, Any]]:
        """Return the blocks that are whole."""
        return self._signed

    def feed(self, told: Any) -> None:
        """Take in the `thinking_blocks` of a message or a piece of one."""
        for block in told or ():
            kind = get(block, "type")
            if kind == "thinking":
                self._text += get(block, "thinking") or ""
            if kind not in _OF_THOUGHTS or not (get(block, "signature") or get(block, "data")):
                continue
            whole = {name: get(block, name) for name in _OF_THOUGHTS[kind]}
            if kind == "thinking":
                whole["thinking"], self._text = self._text, ""
            self._signed.append(whole)


def unnumber(messages: Any) -> None:
    """Take the index, which blocks of thoughts have in a stream, out of those that are sent back, in place."""
    for message in messages:
        blocks = message.get("thinking_blocks")
        for block in blocks if isinstance(blocks, list) else ():
            if isinstance(block, dict):  # others are the upstream's to judge
                block.pop("index", None)


def refusal_of(message: Any) -> str | None:
    """Return why the model will not answer, in its own words."""
    told = getattr(message, "refusal", None) or (getattr(message, "provider_specific_fields", None) or {}).get(
        "refusal"
    )
    return told if isinstance(told, str) and told else None


def legacy_call_of(message: Any) -> dict[str, str]:
    """Return what is said of a call in the form that came before tools, as far as it is said."""
    told = getattr(message, "function_call", None)
    said = {name: get(told, name) for name in ("name", "arguments")}
    return {name: word for name, word in said.items() if isinstance(word, str) and word}


def call_of(told: Any) -> dict[str, Any]:
    """Return the type of a tool's call and what it says under that name; what is not said of it is empty."""
    custom = getattr(told, "custom", None)
    if custom is not None:
        said = {"name": get(custom, "name") or "", "input": get(custom, "input") or ""}
        return {"type": "custom", "custom": said}
    function = told.function
    return {
        "type": "function",
        "function": {"name": get(function, "name") or "", "arguments": get(function, "arguments") or ""},
    }


def audio_of(message: Any) -> dict[str, Any]:
    """Return the sound of a message or a piece of one, {} where there is none."""
    told = getattr(message, "audio", None)
    names = ("id", "data", "expires_at", "transcript")
    return {name: get(told, name) for name in names if get(told, name) is not None} if told is not None else {}


def refuse_sound(asked: Mapping[str, Any]) -> None:
    """Raise UpstreamRejected for a stream that is to have sound in it, where litellm loses it."""
    modalities = asked.get("modalities")
    wants = {"audio": "audio" in asked, "modalities": isinstance(modalities, list) and "audio" in modalities}
    fields = tuple(name for name, is_wanted in wants.items() if is_wanted)
    if fields:
        told = f"Unsupported parameter: '{fields[0]}' is not supported with this model in a stream."
        error = UpstreamRejected(told, param=fields[0], code="unsupported_parameter")
        error.fields = fields
        raise error


def sources_of(message: Any) -> list[dict[str, Any]]:
    """Return the sources that a message names, as OpenAI's `annotations`."""
    told = [plain(source) for source in getattr(message, "annotations", None) or ()]
    return told or list(_cited(message))


def source_in(piece: Any, start: int, end: int) -> dict[str, Any] | None:
    """Return the source that a piece of Anthropic's names for the text from `start` to `end`, in characters."""
    return _source((getattr(piece, "provider_specific_fields", None) or {}).get("citation"), start, end)


def _cited(message: Any) -> Iterator[dict[str, Any]]:
    """Yield Anthropic's citations, which are told with the text that each supports, in its order."""
    content, place = getattr(message, "content", None) or "", 0
    groups: Iterable[Any] = (getattr(message, "provider_specific_fields", None) or {}).get("citations") or ()
    for group in groups:
        end = place
        for citation in group if isinstance(group, list) else ():
            text = get(citation, "supported_text") or ""
            start = max(place, content.find(text, place))
            end = start + len(text)
            source = _source(citation, start, end)
            if source is not None:
                yield source
        place = end


def _source(citation: Any, start: int, end: int) -> dict[str, Any] | None:
    url = get(citation, "url")
    if not isinstance(url, str):
        return None  # a place in a document of the caller's, which OpenAI's form has no word for
    said = {"url": url, "title": get(citation, "title") or "", "start_index": start, "end_index": end}
    return {"type": "url_citation", "url_citation": said}


def plain(told: Any) -> Any:
    return told.model_dump() if hasattr(told, "model_dump") else told


def get(item: Any, name: str) -> Any:
    """Return what litellm says under a name, be it in an object or a mapping."""
    return item.get(name) if isinstance(item, dict) else getattr(item, name, None)
