"""Our errors for those of aiohttp, of the system, and of reading what an upstream sent.

What an answer that could be read means is decided in `classify.py`.
"""

from __future__ import annotations

import ssl

import aiohttp

from gateway.errors import GatewayError, UpstreamError, UpstreamProtocolError, UpstreamTimeout, UpstreamUnavailable


def translate(error: BaseException, limit_seconds: float) -> BaseException:
    """Return our error for one of aiohttp's or the system's; what is neither is returned as it is.

    The table is complete: everything that aiohttp's client raises derives from ClientError, OSError or TimeoutError.
    """
    if isinstance(error, GatewayError):
        return error
    for kind, make in _FOREIGN:
        if isinstance(error, kind):
            return make(error, limit_seconds)
    return error


def translate_answer(error: BaseException, limit_seconds: float) -> BaseException:
    """Return our error for what was raised once an answer had begun.

    Parsers allow what nobody writes: a thousand levels, numbers of any length, a list for a name. What is raised over
    that is the upstream's failure, so that another deployment is asked.
    """
    translated = translate(error, limit_seconds)
    if isinstance(translated, TypeError | ValueError | RecursionError):
        return UpstreamProtocolError("The upstream's answer makes no sense.", code="upstream_bad_response")
    return translated


def _unreachable(error: BaseException, _: float) -> UpstreamError:
    return UpstreamUnavailable(f"The upstream cannot be reached ({type(error).__name__}).", code="upstream_unreachable")


def _late_connection(_error: BaseException, _: float) -> UpstreamError:
    return UpstreamTimeout("The upstream did not accept a connection in time.")


def _late_answer(_error: BaseException, seconds: float) -> UpstreamError:
    return UpstreamTimeout(f"The upstream did not answer within {seconds:g} seconds.")


def _bad_tls(_error: BaseException, _: float) -> UpstreamError:
    return UpstreamUnavailable("No trusted TLS connection to the upstream.", code="upstream_tls_error")


def _truncated(_error: BaseException, _: float) -> UpstreamError:
    return UpstreamUnavailable("The upstream's answer was cut short.", code="upstream_truncated")


def _nonsense(error: BaseException, _: float) -> UpstreamError:
    return UpstreamProtocolError(f"The upstream broke HTTP ({type(error).__name__}).")


def _reset(error: BaseException, _: float) -> UpstreamError:
    return UpstreamUnavailable(f"The upstream closed the connection ({type(error).__name__}).")


# The first match counts, so the special stands before the general.
_FOREIGN = (
    (aiohttp.ConnectionTimeoutError, _late_connection),
    (TimeoutError, _late_answer),
    (aiohttp.ClientConnectorCertificateError, _bad_tls),
    (aiohttp.ClientSSLError, _bad_tls),
    (ssl.SSLError, _bad_tls),
    (aiohttp.ClientConnectorError, _unreachable),
    (aiohttp.ClientPayloadError, _truncated),
    (aiohttp.ClientResponseError, _nonsense),
    (aiohttp.ClientError, _reset),
    (OSError, _reset),
)
