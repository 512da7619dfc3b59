"""Fields that are sent to an upstream though the caller did not send them, and how one says that it has none of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

USAGE_FIELD, ENCODING_FIELD = "stream_options", "encoding_format"
# How a refusal names them; the last is all that Google says of any field.
_NAMED_BY: Mapping[str, tuple[bytes, ...]] = MappingProxyType(
    {
        USAGE_FIELD: (USAGE_FIELD.encode(),),
        ENCODING_FIELD: (ENCODING_FIELD.encode(), b"base64", b"Request contains an invalid argument."),
    }
)


@dataclass(frozen=True, slots=True)
class Manners:
    """Which of the fields an upstream understands.

    By `stream_options` the gateway learns the tokens of every stream; a caller that did not ask for them does not see
    them. By `encoding_format` vectors come as bytes instead of digits, whatever the caller wants of the gateway.
    """

    streams_usage: bool = True
    embeds_base64: bool = True


def name_added(refusal: bytes) -> str | None:
    """Return the field that the text of a refusal names, None where it names none of them."""
    return next((name for name, words in _NAMED_BY.items() if any(word in refusal for word in words)), None)
