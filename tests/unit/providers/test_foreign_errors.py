"""Everything that aiohttp's client and the system may raise has a class in our tree."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator

import aiohttp
import pytest

from gateway.errors import InvalidRequest, UpstreamError, UpstreamProtocolError, UpstreamTimeout, UpstreamUnavailable
from gateway.providers.foreign import translate


def walk(kind: type[BaseException]) -> Iterator[type[BaseException]]:
    yield kind
    for child in kind.__subclasses__():
        yield from walk(child)


def make(kind: type[BaseException]) -> BaseException:
    """Return an instance without caring for what its constructor wants."""
    return kind.__new__(kind)


FOREIGN = sorted({*walk(aiohttp.ClientError), *walk(TimeoutError), *walk(ConnectionError), ssl.SSLError}, key=str)


@pytest.mark.parametrize("kind", FOREIGN, ids=lambda kind: kind.__name__)
def test_every_foreign_error_becomes_one_that_lets_the_next_deployment_try(kind: type[BaseException]) -> None:
    translated = translate(make(kind), 60.0)

    assert isinstance(translated, UpstreamError)
    assert translated.failover
    assert kind.__name__ not in ("", translated.message)


@pytest.mark.parametrize(
    ("kind", "ours", "code"),
    [
        (aiohttp.ConnectionTimeoutError, UpstreamTimeout, "upstream_timeout"),
        (TimeoutError, UpstreamTimeout, "upstream_timeout"),
        (aiohttp.ClientConnectorError, UpstreamUnavailable, "upstream_unreachable"),
        (aiohttp.ClientConnectorDNSError, UpstreamUnavailable, "upstream_unreachable"),
        (aiohttp.ClientConnectorSSLError, UpstreamUnavailable, "upstream_tls_error"),
        (aiohttp.ClientConnectorCertificateError, UpstreamUnavailable, "upstream_tls_error"),
        (ssl.SSLCertVerificationError, UpstreamUnavailable, "upstream_tls_error"),
        (aiohttp.ServerDisconnectedError, UpstreamUnavailable, "upstream_error"),
        (ConnectionResetError, UpstreamUnavailable, "upstream_error"),
        (aiohttp.ClientPayloadError, UpstreamUnavailable, "upstream_truncated"),
        (aiohttp.ClientResponseError, UpstreamProtocolError, "upstream_protocol_error"),
    ],
)
def test_an_error_is_translated_by_its_most_special_class(
    kind: type[BaseException], ours: type[UpstreamError], code: str
) -> None:
    translated = translate(make(kind), 60.0)

    assert type(translated) is ours
    assert translated.code == code


@pytest.mark.parametrize("error", [asyncio.CancelledError(), KeyError("defect"), InvalidRequest("ours")])
def test_cancellation_defects_and_our_own_errors_stay_what_they_are(error: BaseException) -> None:
    assert translate(error, 60.0) is error
