"""GET and DELETE /admin/cache: what the tiers of remembered embeddings hold, and how they are made to forget."""

from __future__ import annotations

from aiohttp import web

from gateway import logs
from gateway.cache import Tiers
from gateway.call import Caller
from gateway.errors import InvalidRequest
from gateway.http.answers import json_response

_MODEL = "model"
_LONGEST_MODEL = 1024  # characters


class CacheRoutes:
    """`tiers` are those of this process, None where nothing is remembered; all but memory are every process's.

    The memory of other processes follows within a second or so, by what the disk tells; without a disk it does not.
    """

    def __init__(self, tiers: Tiers | None) -> None:
        self._tiers = tiers

    async def show(self, _request: web.Request, _caller: Caller) -> web.StreamResponse:
        return json_response({"tiers": [], "models": []} if self._tiers is None else await self._tiers.report())

    async def clear(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        """Forget everything, or what belongs to `?model=provider/model`, in all tiers and processes."""
        model = _model_of(request)
        cleared: dict[str, int] = {}
        trouble: dict[str, str] = {}
        if self._tiers is not None:
            cleared.update(await self._tiers.clear(model))
            trouble.update((state.name, state.trouble) for state in await self._tiers.states() if state.trouble)
        logs.event("cache_cleared", caller=caller.name, model=model, entries=cleared, trouble=trouble)
        return json_response({"model": model, "cleared": cleared, "trouble": trouble})


def _model_of(request: web.Request) -> str | None:
    """Return the one model that is meant, None for all; what is not understood must not clear everything."""
    for name in request.query:
        if name != _MODEL:
            raise InvalidRequest(f"'{name[:100]}' is not understood; expected 'model' or nothing.", param=name[:100])
    models = request.query.getall(_MODEL, [])
    if not models:
        return None
    if len(models) > 1:
        raise InvalidRequest("Expected one 'model' at most.", param=_MODEL)
    provider, slash, model = models[0].partition("/")
    if not (provider and slash and model) or len(models[0]) > _LONGEST_MODEL:
        raise InvalidRequest("'model' must be provider/model, as GET /admin/cache names it.", param=_MODEL)
    return models[0]
