"""Images as an upstream gives them: a picture follows from its prompt alone, so that tests can foretell it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .answer import Answer, Framing
from .bodies import CREATED, encode
from .chat import EVENT_STREAM
from .seen import SeenRequest

PARTIAL, COMPLETED = "image_generation.partial_image", "image_generation.completed"
PICTURE_BYTES = 96

Items = list[dict[str, Any]]


def make_picture(prompt: str, number: int = 0, size: int = PICTURE_BYTES) -> str:
    """Return the base64 of `size` bytes; no two prompts and numbers have the same."""
    seed = hashlib.sha256(f"{number} {prompt}".encode()).digest()
    return base64.b64encode((seed * (size // len(seed) + 1))[:size]).decode()


def make_image_usage(input_tokens: int = 7, output_tokens: int = 4160) -> dict[str, Any]:
    """Return the usage of images, whose fields have other names than those of text."""
    return {
        "input_tokens": input_tokens,
        "input_tokens_details": {"image_tokens": 0, "text_tokens": input_tokens},
        "output_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
    }


def encode_named_event(content: Mapping[str, Any]) -> bytes:
    """Return one event that also has its type in an `event:` line, as OpenAI writes those of images."""
    return f"event: {content['type']}\n".encode() + b"data: " + encode(content) + b"\n\n"


@dataclass(frozen=True)
class Images:
    """The images that were asked for, right by the contract unless a field says otherwise.

    `stream` None does what the request asks. A stream has `partial_images` parts, then one `completed` for each image,
    and no [DONE]. A picture has `size` bytes before base64. `form` overrides the asked `response_format`, b64_json if
    there is none. `spoil` takes the plain answer's `data` and gives back a wrong one. `usage` None is missing.
    """

    stream: bool | None = None
    size: int = PICTURE_BYTES
    form: str | None = None
    spoil: Callable[[Items], Any] | None = None
    usage: Any = field(default_factory=make_image_usage)

    def answer(self, request: SeenRequest) -> Answer:
        streams = request.stream if self.stream is None else self.stream
        if streams:
            headers = (("Content-Type", EVENT_STREAM), ("Cache-Control", "no-cache"))
            return Answer(headers=headers, parts=tuple(self._events(request)), framing=Framing.CHUNKED)
        return Answer(headers=(("Content-Type", "application/json"),), parts=(encode(self._plain(request)),))

    def _plain(self, request: SeenRequest) -> dict[str, Any]:
        form = self.form or request.fields.get("response_format") or "b64_json"
        items: Items = [
            {"url": f"https://images.invalid/{number}.png"}
            if form == "url"
            else {"b64_json": make_picture(request.fields.get("prompt", ""), number, self.size)}
            for number in range(request.fields.get("n") or 1)
        ]
        data = self.spoil(items) if self.spoil else items
        return {"created": CREATED, "data": data, **({} if self.usage is None else {"usage": self.usage})}

    def _events(self, request: SeenRequest) -> Iterator[bytes]:
        fields = request.fields
        prompt = fields.get("prompt", "")
        common = {
            "created_at": CREATED,
            "size": "1024x1024",
            "quality": "high",
            "background": "opaque",
            "output_format": "png",
        }
        for index in range(fields.get("partial_images") or 0):
            picture = make_picture(prompt, -1 - index, self.size)
            yield encode_named_event({"type": PARTIAL, "partial_image_index": index, "b64_json": picture, **common})
        for number in range(fields.get("n") or 1):
            picture = make_picture(prompt, number, self.size)
            told = {} if self.usage is None else {"usage": self.usage}
            yield encode_named_event({"type": COMPLETED, "b64_json": picture, **common, **told})
