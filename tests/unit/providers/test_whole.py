"""A whole answer may be as large as what was asked for can be, and not a piece larger."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.call import Endpoint
from gateway.errors import UpstreamError, UpstreamTooLarge
from gateway.providers import OpenAIWire
from gateway.providers.whole import MAX_ERROR_BYTES, most_bytes, read_object
from tests.support.exchanges import make_exchange, numbers_of
from tests.support.upstream import Body, Framed, Framing, Huge, ScriptedUpstream, Typed

MIB = 1024 * 1024
INPUTS: dict[str, tuple[Any, float]] = {
    "one text": ("hello", 4.25),
    "none": (None, 4.25),
    "an empty list": ([], 4.0),
    "four texts": (["a", "b", "c", "d"], 5.0),
    "as many as there may be": (["a"] * 2048, 64.0),
}


@pytest.mark.parametrize("name", INPUTS)
def test_vectors_have_room_for_what_was_asked(name: str) -> None:
    given, mib = INPUTS[name]

    limit = most_bytes(make_exchange(endpoint="embeddings", body={"input": given}))

    assert limit == mib * MIB


@pytest.mark.parametrize(
    ("endpoint", "mib"), [("chat/completions", 24), ("completions", 24), ("images/generations", 64)]
)
def test_texts_and_images_have_a_fixed_limit(endpoint: Endpoint, mib: int) -> None:
    assert most_bytes(make_exchange(endpoint=endpoint)) == mib * MIB


@pytest.mark.parametrize("framing", list(Framing))
@pytest.mark.parametrize("beyond", [0, 1])
async def test_the_last_byte_that_is_allowed_is_the_last(
    wire: OpenAIWire, upstream: ScriptedUpstream, framing: Framing, beyond: int
) -> None:
    limit = most_bytes(make_exchange(endpoint="embeddings"))
    vectors = b'{"data":[{"index":0,"embedding":[0.5]}]}'
    answer = vectors + b" " * (limit + beyond - len(vectors))
    upstream.script(Framed(Body(answer), framing))
    exchange = make_exchange(endpoint="embeddings", body={"input": "a"})

    if not beyond:
        async with await wire.send(exchange) as reply:
            assert numbers_of(reply) == [[0.5]]
        return
    with pytest.raises(UpstreamTooLarge) as caught:
        await wire.send(exchange)
    assert caught.value.code == "upstream_reply_too_large"


async def test_a_page_where_a_stream_was_asked_is_not_read_to_its_end(
    wire: OpenAIWire, upstream: ScriptedUpstream
) -> None:
    upstream.script(Typed(Huge(10 * 1024**3), "text/html"), Typed(Huge(MAX_ERROR_BYTES), "text/html"))

    codes = []
    for _ in range(2):
        with pytest.raises(UpstreamError) as caught:
            await wire.send(make_exchange(stream=True))
        codes.append(caught.value.code)

    assert codes == ["upstream_reply_too_large", "upstream_protocol_error"]
    await upstream.closed_by_client(0)


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b'"x"', b"{", b"{}x", b'{"a":NaN}', b'{"a":"\xff"}', b"\xef\xbb\xbf{}"]
)
def test_only_an_object_is_an_object(body: bytes) -> None:
    assert read_object(body) is None
