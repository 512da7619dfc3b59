"""The tokens of a text as a local model counts them, asked of its process.

They are wanted before the model is asked anything, so whatever goes wrong here is left for that to show.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import aiohttp

from gateway.providers.pool import LARGEST_SINGLE_WRITE
from gateway.providers.whole import read_object
from gateway.wire import dump

TELL_SECONDS = 60.0  # a model that is not loaded yet is waited for


class TokenIds(NamedTuple):
    """A text by a model's own tokens, `total` in all, and what it puts before and behind each text.

    `ids` are as many of them as were asked for. The model takes `window` tokens, those around a text included.
    """

    before: list[int]
    ids: list[int]
    after: list[int]
    total: int
    window: int


@runtime_checkable
class TakesApart(Protocol):
    """A provider whose models tell their tokens and take token ids as input."""

    async def take_apart(
        self, model: str, text: str, *, most: int | None = None, seconds: float = TELL_SECONDS
    ) -> TokenIds | None:
        """Return the first `most` tokens of a text, None where the model does not tell them within so many seconds."""
        ...


async def ask_tokens(socket: Path, text: str, most: int | None, seconds: float) -> TokenIds | None:
    """Return the first `most` tokens of a text, None where nobody at this socket tells them within so many seconds."""
    body = dump({"content": text, "most": most})
    timeout = aiohttp.ClientTimeout(total=seconds)
    connector = aiohttp.UnixConnector(str(socket), force_close=True)
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session,
            session.post("http://model/tokenize", data=_payload(body)) as answer,
        ):
            told = await answer.read() if answer.status == 200 else b""
    except (aiohttp.ClientError, OSError, TimeoutError):
        return None
    return _read(read_object(told) or {})


def _read(told: Mapping[str, Any]) -> TokenIds | None:
    values = [told.get(name) for name in TokenIds._fields]
    if list(map(type, values)) != [list, list, list, int, int]:
        return None
    return TokenIds(*values)  # type: ignore[arg-type]  # as was just seen


def _payload(body: bytes) -> bytes | io.BytesIO:
    return body if len(body) <= LARGEST_SINGLE_WRITE else io.BytesIO(body)
