"""Images on the OpenAI wire: the shape of a request, and the little that is read of answers and streams.

Images are megabytes of base64: a whole answer is parsed once and its bytes relayed, and of a stream's large events only
those that say they are the last are parsed. What an upstream's failure means is decided in `providers/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Required

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from gateway.call import Usage
from gateway.errors import InvalidRequest
from gateway.wire.events import data_of, parse_event
from gateway.wire.mistakes import explain
from gateway.wire.sse import SseScanner
from gateway.wire.usage import read_usage

LONGEST_PROMPT = 32_000  # characters; OpenAI's own limit for its image models
MAX_IMAGES = 10
# One image in an event may be as large as one in a plain answer, which 64 MiB hold: a lossless 3840x2160 in base64
# comes to 33 MB at most. A stream holds one event at a time, so it costs no more memory than the plain answer.
MAX_IMAGE_EVENT_BYTES = 64 * 1024 * 1024

_COMPLETED = "image_generation.completed"
_COMPLETED_WORD = _COMPLETED.encode()
_LARGE_EVENT_BYTES = 64 * 1024  # what is smaller has no image in it to speak of, and is always read
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@with_config(ConfigDict(extra="allow", strict=True))
class Image(TypedDict, total=False):
    prompt: Required[Annotated[str, Field(min_length=1, max_length=LONGEST_PROMPT)] | None]
    model: Annotated[str, Field(min_length=1)] | None
    background: str | None
    moderation: str | None
    n: Annotated[int, Field(ge=1, le=MAX_IMAGES)] | None
    output_compression: Annotated[int, Field(ge=0, le=100)] | None
    output_format: str | None
    partial_images: Annotated[int, Field(ge=0, le=3)] | None
    quality: str | None
    response_format: Literal["url", "b64_json"] | None
    size: str | None
    stream: bool | None
    stream_options: dict[str, Any] | None  # not OpenAI's here, but whoever asks looks into it
    style: str | None
    user: str | None


_image = TypeAdapter(Image).validator


def check_image(body: dict[str, Any]) -> None:
    """Raise InvalidRequest, its `param` naming the field, unless `body` asks for images; `model` may be left out."""
    try:
        _image.validate_python(body)
    except ValidationError as error:
        raise _explain(error.errors(include_url=False)[0]) from None
    if body["prompt"] is None:
        raise _explain({"type": "missing", "loc": ("prompt",)})


def _explain(found: Mapping[str, Any]) -> InvalidRequest:
    if found["type"] == "string_too_long":
        limit, length = found["ctx"]["max_length"], len(found["input"])
        return InvalidRequest(
            f"Invalid 'prompt': string too long. Expected a string with maximum length {limit}, "
            f"but got a string with length {length} instead.",
            param="prompt",
            code="string_above_max_length",
        )
    mistake = explain(found)
    if found["type"] == "string_type" and found["loc"] == ("prompt",):
        # The prompts of completions have more forms; what was sent instead is told in the same words.
        got = mistake.message.rpartition(", but got ")[2]
        text = f"Invalid type for 'prompt': expected a string, but got {got}"
        return InvalidRequest(text, param="prompt", code="invalid_type")
    return mistake


def has_images(reply: Mapping[str, Any]) -> bool:
    """Tell whether a plain answer is a list of images, each of them in it or with its address."""
    images = reply.get("data")
    return (
        isinstance(images, list)
        and bool(images)
        and all(isinstance(image, dict) and (image.get("b64_json") or image.get("url")) for image in images)
    )


def read_image_usage(reported: Any) -> Usage | None:
    """Return the `usage` of images, which has names of its own, or None when it is absent or makes no sense."""
    if not isinstance(reported, dict) or "input_tokens" not in reported:
        return read_usage(reported)
    return read_usage(
        {
            "prompt_tokens": reported["input_tokens"],
            "completion_tokens": reported.get("output_tokens", 0),
            "prompt_tokens_details": reported.get("input_tokens_details"),
        }
    )


class ImageScanner(SseScanner):
    """Cuts a stream of images into whole events and learns how it goes.

    OpenAI says no [DONE] here and clients wait for the end of the body: the stream is done with the `completed` event
    of the last of `images`. Some upstreams say one for all of them, without a picture of its own, and some say [DONE]
    when there are fewer; nothing else makes the end of the body a good end before the last.
    """

    max_event_bytes = MAX_IMAGE_EVENT_BYTES

    def __init__(self, *, images: int = 1) -> None:
        super().__init__(keep_usage=False)
        self._images = images
        self._completed = 0
        self._is_for_all = False

    @property
    def finished(self) -> bool:
        return self._is_for_all or self._completed >= self._images

    def closing(self) -> bytes:
        self.finish()
        return b""

    def inspect(self, block: bytes) -> bytes:
        if not self.started:
            block = block.removeprefix(_BYTE_ORDER_MARK)
        kept: list[bytes] = []
        position = 0
        while position < len(block) and not self.is_over:
            end = block.find(b"\n\n", position) + 2
            if end == 1:  # a blank line too many
                break
            kept.append(self._take(block[position:end]))
            position = end
        return b"".join(kept)

    def _take(self, event: bytes) -> bytes:
        if self.started and len(event) > _LARGE_EVENT_BYTES and _COMPLETED_WORD not in event:
            return event
        data = data_of(event).strip()
        if not data:
            return event if self.started else b""  # until the first image the caller was promised nothing
        if data == b"[DONE]" and self._completed:
            return self.closing()
        self.started = True
        payload = parse_event(data)
        if payload is None:
            self.break_off()
            return b""
        if payload.get("error"):
            self.fail(payload["error"])
            return b""
        if payload.get("type") == _COMPLETED:
            self._complete(payload)
        return event

    def _complete(self, payload: Mapping[str, Any]) -> None:
        told = read_image_usage(payload.get("usage"))
        if told is not None and self.usage is not None:
            told.prompt_tokens += self.usage.prompt_tokens
            told.completion_tokens += self.usage.completion_tokens
            told.cached_tokens += self.usage.cached_tokens
        self.usage = told or self.usage
        self._completed += 1
        self._is_for_all = not (payload.get("b64_json") or payload.get("url"))
        if self._completed >= self._images:
            self.finish()
