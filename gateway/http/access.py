"""Who may enter a route: authentication is attached to each handler, so an unlisted route is a closed one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from gateway.auth import KeyRing
from gateway.call import Caller, Role
from gateway.errors import PermissionDenied
from gateway.http.lifecycle import RECORD, Step

Closed = Callable[[web.Request, Caller], Awaitable[web.StreamResponse]]


def guard(handler: Closed, ring: KeyRing, roles: frozenset[Role]) -> Step:
    """Return `handler` behind a check of the caller's key and role, made before the body is looked at."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        caller = ring.identify(token_of(request))
        if caller.role not in roles:
            raise PermissionDenied(f"This API key's role '{caller.role}' may not do this.", code="role_not_allowed")
        request[RECORD].caller = caller.name
        return await handler(request, caller)

    return guarded


def token_of(request: web.Request) -> str | None:
    """Return the key: a bearer token, or the header that Azure's and Anthropic's clients send."""
    headers = request.headers
    authorization = headers.get("Authorization")
    if authorization is not None:
        scheme, _, token = authorization.partition(" ")
        return token.strip() if scheme.lower() == "bearer" else None
    return headers.get("api-key") or headers.get("x-api-key")
