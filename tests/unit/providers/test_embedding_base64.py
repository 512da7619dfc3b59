"""Vectors are asked for as bytes where the upstream can, and taken as they come."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.call import Usage
from gateway.errors import UpstreamProtocolError, UpstreamRejected, UpstreamWrongSize
from gateway.providers import Exchange, Manners, OpenAIWire, PlainReply
from tests.support.exchanges import make_exchange, numbers_of
from tests.support.upstream import Body, Embeddings, ScriptedUpstream, Status, make_vector, reverse_order

TEXTS = ["one", "two"]
EXPECTED = [make_vector(text) for text in TEXTS]
NO_BASE64: dict[str, Status | Body] = {
    "by its name": Status(400, param="encoding_format", code="unsupported_parameter", message="Unknown parameter."),
    "in a sentence": Status(400, message="encoding_format: only float is supported"),
    "without its name": Status(400, message="base64 encoding is not currently supported"),
    "in a list": Status(422, {"detail": [{"loc": ["body", "encoding_format"], "msg": "unexpected value"}]}),
    "saying nothing": Body(b'[{"error":{"code":400,"message":"Request contains an invalid argument."}}]', status=400),
}


def asking(**body: Any) -> Exchange:
    return make_exchange(endpoint="embeddings", body={"model": "e", "input": TEXTS, **body})


def encodings(upstream: ScriptedUpstream) -> list[str | None]:
    """Return the encoding that each request asked for, None where it said nothing."""
    return [request.json.get("encoding_format") for request in upstream.requests]


@pytest.mark.parametrize("wanted", [{}, {"encoding_format": "float"}, {"encoding_format": "base64"}])
async def test_base64_is_asked_for_whatever_the_caller_wants(
    wire: OpenAIWire, upstream: ScriptedUpstream, wanted: dict[str, Any]
) -> None:
    reply = await wire.send(asking(**wanted))

    assert numbers_of(reply) == EXPECTED
    assert encodings(upstream) == ["base64"]


async def test_a_reply_has_vectors_and_the_upstreams_model_and_usage(
    wire: OpenAIWire, upstream: ScriptedUpstream
) -> None:
    reply = await wire.send(asking())

    assert isinstance(reply, PlainReply)
    assert (reply.model, reply.usage, reply.flaws) == ("upstream-model", Usage(2), ())


@pytest.mark.parametrize("form", ["float", "base64"])
async def test_vectors_are_taken_in_any_form_and_put_in_order(
    wire: OpenAIWire, upstream: ScriptedUpstream, form: str
) -> None:
    upstream.script(Embeddings(force=form, spoil=reverse_order))

    reply = await wire.send(asking())

    assert numbers_of(reply) == EXPECTED


@pytest.mark.parametrize("name", NO_BASE64)
async def test_a_model_that_refuses_base64_is_asked_for_digits_from_then_on(
    wire: OpenAIWire, upstream: ScriptedUpstream, name: str
) -> None:
    upstream.script(NO_BASE64[name])

    replies = [await wire.send(asking(encoding_format="base64")) for _ in range(2)]

    assert [numbers_of(reply) for reply in replies] == [EXPECTED, EXPECTED]
    assert encodings(upstream) == ["base64", None, None]


async def test_another_model_of_the_upstream_is_still_asked_for_base64(
    wire: OpenAIWire, upstream: ScriptedUpstream
) -> None:
    upstream.script(NO_BASE64["by its name"])
    other = make_exchange(endpoint="embeddings", model="other", body={"model": "e", "input": TEXTS})

    await wire.send(asking())
    await wire.send(other)

    assert encodings(upstream) == ["base64", None, "base64"]


async def test_a_model_that_took_it_once_is_not_asked_twice_for_what_it_refuses(
    wire: OpenAIWire, upstream: ScriptedUpstream
) -> None:
    await wire.send(asking())
    upstream.script(Status(400, message="The input is bad."))

    with pytest.raises(UpstreamRejected):
        await wire.send(asking())

    assert encodings(upstream) == ["base64", "base64"]


async def test_nothing_is_learnt_from_a_request_that_is_refused_all_the_same(
    wire: OpenAIWire, upstream: ScriptedUpstream
) -> None:
    mistake = Status(400, message="The input is no base64.")
    upstream.script(mistake, mistake)

    with pytest.raises(UpstreamRejected):
        await wire.send(asking())
    await wire.send(asking())

    assert encodings(upstream) == ["base64", None, "base64"]


async def test_a_refusal_that_does_not_name_it_is_told_at_once(wire: OpenAIWire, upstream: ScriptedUpstream) -> None:
    upstream.script(Status(400, message="Token ids are out of range."))

    with pytest.raises(UpstreamRejected):
        await wire.send(asking())

    assert encodings(upstream) == ["base64"]


async def test_a_refusal_of_another_field_is_told_at_once(wire: OpenAIWire, upstream: ScriptedUpstream) -> None:
    upstream.script(Status(400, param="dimensions", message="Not supported."))

    with pytest.raises(UpstreamRejected):
        await wire.send(asking(dimensions=4))

    assert encodings(upstream) == ["base64"]


async def test_an_upstream_that_is_known_to_have_no_base64_is_not_asked_for_it(upstream: ScriptedUpstream) -> None:
    wire = OpenAIWire("lab", upstream.base_url, manners=Manners(embeds_base64=False))

    reply = await wire.send(asking(encoding_format="base64"))
    await wire.close()

    assert numbers_of(reply) == EXPECTED
    assert encodings(upstream) == [None]


async def test_other_requests_have_no_encoding(wire: OpenAIWire, upstream: ScriptedUpstream) -> None:
    await wire.send(make_exchange())

    assert encodings(upstream) == [None]


@pytest.mark.parametrize("is_asked_for", [True, False])
async def test_vectors_of_another_size_than_is_expected_are_no_good_answer(
    wire: OpenAIWire, upstream: ScriptedUpstream, is_asked_for: bool
) -> None:
    exchange = asking(dimensions=4) if is_asked_for else asking()
    exchange.dimensions = 5 if is_asked_for else 4
    upstream.script(Embeddings(spoil=lambda items: [{**item, "embedding": [0.5] * 8} for item in items]))

    with pytest.raises(UpstreamWrongSize, match="of 8 numbers instead of 4") as caught:
        await wire.send(exchange)

    assert (caught.value.code, caught.value.http_status, caught.value.failover) == ("upstream_bad_response", 502, True)


async def test_vectors_of_the_expected_size_are_good(wire: OpenAIWire) -> None:
    exchange = asking()
    exchange.dimensions = 8

    assert numbers_of(await wire.send(exchange)) == EXPECTED


async def test_a_wrong_list_is_the_upstreams_failure(wire: OpenAIWire, upstream: ScriptedUpstream) -> None:
    upstream.script(Embeddings(spoil=lambda items: items[:1]))

    with pytest.raises(UpstreamProtocolError, match="has 1 embeddings for 2 inputs") as caught:
        await wire.send(asking())

    assert caught.value.code == "upstream_bad_response"
