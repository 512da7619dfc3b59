"""Files in messages to Anthropic, whose documents are PDFs in base64 or plain text; litellm sends any as base64.

Works on the call's own copies, behind `litellm_forms.py`. How media are named instead of sent is `litellm_media.py`'s.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from typing import Any

from gateway.errors import UpstreamRejected
from gateway.providers.litellm_fields import wire_of

_PDF = "application/pdf"
_ALSO = ("cache_control",)


def settle_files(fields: dict[str, Any], prefix: str, model: str) -> None:
    """Put text files into the words of the upstream; raises UpstreamRejected, its `param` the place, for what it lacks."""
    if wire_of(prefix, model) != "anthropic":
        return
    for index, message in enumerate(fields.get("messages") or ()):
        parts = message.get("content")
        for place, part in enumerate(parts if isinstance(parts, list) else ()):
            if part.get("type") == "file":
                path = f"messages[{index}].content[{place}].file.file_data"
                parts[place] = _settled(part, path, takes_text=message.get("role") == "user")


def _settled(part: dict[str, Any], path: str, *, takes_text: bool) -> dict[str, Any]:
    file = part["file"]
    head, _, data = file["file_data"].partition(",")
    kind = str(file.get("format") or head.removeprefix("data:").partition(";")[0]).lower()
    if kind == _PDF:
        return part
    if not kind.startswith("text/") or not takes_text:
        supported = f"'{_PDF}' and 'text/plain'" if takes_text else f"'{_PDF}'"
        raise _refusal(f"Supported media types here are {supported}", path)
    source = {"type": "text", "media_type": "text/plain", "data": _text(data, path)}
    title = {"title": file["filename"]} if file.get("filename") else {}
    return {"type": "document", "source": source, **title, **{name: part[name] for name in _ALSO if name in part}}


def _text(data: str, path: str) -> str:
    try:
        return b64decode(data).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise _refusal("Expected a text in UTF-8, in base64", path) from None


def _refusal(why: str, path: str) -> UpstreamRejected:
    return UpstreamRejected(f"Invalid value for '{path}'. {why}.", param=path, code="invalid_value")
