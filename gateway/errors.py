"""The error tree. Every failure a caller can see is one class here; `http/` renders them all in one place.

    GatewayError                        status · type · code │ message · param · retry_after
    ├── RequestError                    the caller's fault; never fails over, cools nothing
    │   ├── InvalidRequest         400
    │   ├── ContextLengthExceeded  400
    │   │   └── OverWindow
    │   ├── Unauthenticated        401
    │   ├── PermissionDenied       403
    │   ├── ModelNotFound          404
    │   ├── UnknownRoute           404
    │   ├── MethodNotAllowed       405  + Allow
    │   ├── RequestTimeout         408  the caller's body did not arrive
    │   ├── RequestTooLarge        413
    │   ├── UnsupportedMediaType   415
    │   ├── ExpectationFailed      417
    │   ├── UnknownHost            421
    │   ├── NotRemembered          504  the caller wanted remembered embeddings only
    │   └── RateLimited            429  + Retry-After
    ├── UpstreamError                   the far side's fault; `failover` says whether the next deployment is tried
    │   ├── UpstreamUnavailable    502  not reached, reset, or answered 5xx
    │   ├── UpstreamProtocolError  502  answered something that is not the OpenAI wire
    │   │   └── UpstreamWrongSize  502  vectors of another size than the one that is expected
    │   ├── UpstreamAuthFailed     502  our key is refused
    │   ├── UpstreamTooLarge       502  its answer is larger than anything is read; another's would be too
    │   ├── UpstreamModelMissing   502  the upstream does not know the configured model
    │   ├── EndpointNotServed      404  the upstream has no such endpoint for this model; says nothing of its health
    │   ├── UpstreamOverloaded     503  says it is overloaded
    │   ├── LocalModelUnavailable  503  a model process is loading, broken, or has a full queue
    │   ├── UpstreamTimeout        504
    │   ├── UpstreamRateLimited    429
    │   └── UpstreamRejected       4xx  relayed to the caller; the next deployment would say the same
    ├── NoDeployment               503  every deployment is resting; Retry-After = the earliest to wake
    ├── ShuttingDown               503  the gateway ends and the grace for running answers is over
    ├── InternalError              500  a defect of ours
    └── ConfigError                     start-up and reload only; see `mistakes.py`

What must not live here: how an error is rendered (`http/`), or which upstream answer becomes which class (`providers/`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

REQUEST_EXCEEDS_RATE_LIMIT = "request_exceeds_rate_limit"  # this one request is larger than the limit by itself


class GatewayError(Exception):
    """A failure with the words that OpenAI's SDKs expect.

    `retry_after` is in seconds. `str(error)` is the message that the caller reads.
    """

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: str | None = "internal_error"

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after
        self.code = code or self.code

    @property
    def http_status(self) -> int:
        return self.status

    @property
    def outcome(self) -> str:
        """Return the word for logs and metrics: one of ours, never one that a far side chose."""
        return self.code or self.type

    def envelope(self) -> dict[str, Any]:
        """Return the body every error answer has."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


class ShuttingDown(GatewayError):
    status = 503
    type = "service_unavailable_error"
    code = "server_shutting_down"

    def __init__(self) -> None:
        super().__init__("The gateway is shutting down.")


class InternalError(GatewayError):
    """A defect of the gateway itself; the message never tells details."""


class RequestError(GatewayError):
    status = 400
    type = "invalid_request_error"
    code: str | None = None


class InvalidRequest(RequestError):
    pass


class ContextLengthExceeded(RequestError):
    code = "context_length_exceeded"


class OverWindow(ContextLengthExceeded):
    """The gateway counted more tokens than a deployment takes, and asked nobody."""


class Unauthenticated(RequestError):
    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class PermissionDenied(RequestError):
    status = 403
    type = "permission_error"
    code = "model_not_allowed"


class ModelNotFound(RequestError):
    status = 404
    code = "model_not_found"


class UnknownRoute(RequestError):
    status = 404
    code = "unknown_url"


class MethodNotAllowed(RequestError):
    """The route exists, the method does not; `allowed` becomes the Allow header."""

    status = 405
    code = "method_not_allowed"

    def __init__(self, message: str, allowed: Sequence[str]) -> None:
        super().__init__(message)
        self.allowed = tuple(allowed)


class RequestTimeout(RequestError):
    status = 408
    code = "request_timeout"


class RequestTooLarge(RequestError):
    status = 413
    code = "request_too_large"


class UnsupportedMediaType(RequestError):
    status = 415
    code = "unsupported_media_type"


class ExpectationFailed(RequestError):
    status = 417
    code = "expectation_failed"


class UnknownHost(RequestError):
    status = 421
    code = "unknown_host"


class NotRemembered(RequestError):
    status = 504  # as HTTP says it of only-if-cached
    code = "not_remembered"


class RateLimited(RequestError):
    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class UpstreamError(GatewayError):
    """The far side failed; `failover` says whether another deployment may do better.

    `deployment` is filled in by the failover loop; `upstream_status` is what the far side answered, if anything.
    """

    status = 502
    code: str | None = "upstream_error"
    failover: ClassVar[bool] = True

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
        upstream_status: int | None = None,
    ) -> None:
        super().__init__(message, param=param, code=code, retry_after=retry_after)
        self.upstream_status = upstream_status
        self.deployment: str | None = None


class UpstreamUnavailable(UpstreamError):
    pass


class UpstreamProtocolError(UpstreamError):
    code = "upstream_protocol_error"


class UpstreamWrongSize(UpstreamProtocolError):
    code = "upstream_bad_response"


class UpstreamTooLarge(UpstreamError):
    code = "upstream_reply_too_large"
    failover = False  # what is asked for makes it so, and asking elsewhere would cost as much


class UpstreamAuthFailed(UpstreamError):
    code = "upstream_auth_failed"


class UpstreamModelMissing(UpstreamError):
    code = "upstream_model_not_found"


class EndpointNotServed(UpstreamError):
    """The model cannot be asked in this way; one of another deployment may."""

    status = 404
    type = "invalid_request_error"
    code = "endpoint_not_supported"

    def __init__(self, endpoint: str) -> None:
        advice = "; use /v1/chat/completions" if endpoint == "completions" else ""
        super().__init__(f"This model does not serve /v1/{endpoint}{advice}.", param="model")


class UpstreamOverloaded(UpstreamError):
    status = 503
    type = "service_unavailable_error"
    code = "server_is_overloaded"


class LocalModelUnavailable(UpstreamError):
    status = 503
    type = "service_unavailable_error"
    code = "local_model_unavailable"


class UpstreamTimeout(UpstreamError):
    status = 504
    code = "upstream_timeout"


class UpstreamRateLimited(UpstreamError):
    status = 429
    type = "rate_limit_error"
    code = "upstream_rate_limited"


class UpstreamRejected(UpstreamError):
    """The upstream says the request itself is wrong; its status, type, param and code are kept.

    `fields` are what it may be about, where that is not `param` alone; with `clashes` it refuses them together only.
    """

    status = 400
    type = "invalid_request_error"
    code: str | None = None
    failover = False
    outcome = "upstream_rejected"
    fields: tuple[str, ...] = ()
    clashes = False

    @property
    def http_status(self) -> int:
        return self.upstream_status or self.status


class NoDeployment(GatewayError):
    status = 503
    type = "service_unavailable_error"
    code = "no_healthy_deployment"
