"""How many tokens a call has for each deployment of its route, and what of it would be sent; no model is asked to answer.

What fits, and how a text is counted, is the business of `tokens/` and `routing/windows.py`. A local model that is loaded
tells its tokens itself; one that would have to be loaded, maybe in another's place, is counted by the nearest encoding.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from gateway.call import Call, Endpoint
from gateway.dispatch.fitting import window_of
from gateway.dispatch.tokenizers import ModelGone
from gateway.routing import (
    EMBEDDING_TRUNCATIONS,
    ChatCounters,
    Deployment,
    Route,
    RouteTable,
    may_cut,
    output_asked,
    policy_of,
    room_for,
    spare_for,
)
from gateway.tokens import (
    ChatCount,
    ChatPolicy,
    Counter,
    Counting,
    DoesNotFit,
    Encodings,
    FittedChat,
    ModelTokenizer,
    count_chat,
    counting_of,
    fit_chat,
)
from gateway.wire import split_inputs

OWN = "model's own"
_CUTTING = ("end", "mean_pool")
_ENDLESS = 1 << 62  # tokens

Input = str | list[int]


@dataclass(frozen=True, slots=True)
class TokenCount:
    """What a call comes to at one deployment; `margin` is the share by which the counts are raised.

    `tokens` are told by part, with their `total`. `would_drop` is None where the call would be refused, `would_lower_to`
    where the longest answer may stay as it is asked for. Else None stands for a window that nobody knows, for no wish of how long the answer may be, and for what cannot be told without them.
    """

    deployment: str
    encoding: str
    margin: float
    tokens: Mapping[str, Any]
    context_window: int | None
    output_asked: int | None
    input_limit: int | None
    fits: bool | None
    would_drop: int | None
    policy: str
    would_lower_to: int | None = None


@dataclass(frozen=True, slots=True)
class _Asked:
    """A call at one deployment of its route, whose model has this window for requests and answers.

    The answer may have `output` tokens, if that is said.
    """

    call: Call
    route: Route
    deployment: Deployment
    window: int | None
    output: int | None
    counting: Counting | None = None  # None where the model tells its tokens itself


class TokenCounts:
    """Counts calls; `own_of` finds a model that tells its tokens, None where it is not to be asked."""

    def __init__(
        self, routes: RouteTable, encodings: Encodings, own_of: Callable[[Deployment], ModelTokenizer | None]
    ) -> None:
        self._routes = routes
        self._encodings = encodings
        self._own_of = own_of
        self._own_turn = asyncio.Semaphore(1)  # slow models must not take all threads, which others need too

    async def count(self, call: Call) -> tuple[str, list[TokenCount]]:
        """Return the alias that the name stands for, and the counts for the deployments that may be asked, in order.

        Raises ModelNotFound or PermissionDenied.
        """
        route = self._routes.resolve(call)
        call.record.alias = route.label
        if call.endpoint == "embeddings":
            route = route.in_one_space
        return route.alias, [await self._count(call, route, each) for each in route.deployments]

    async def _count(self, call: Call, route: Route, deployment: Deployment) -> TokenCount:
        asked = _Asked(call, route, deployment, deployment.context_window, _output_of(call, deployment))
        count = self._count_inputs if call.endpoint == "embeddings" else self._count_chat
        own = self._own_of(deployment)
        if own is not None:
            with suppress(ModelGone):
                async with self._own_turn:
                    return await count(replace(asked, window=_least(asked.window, await own.window())), own)
        return await count(replace(asked, counting=counting_of(deployment.model)), None)

    async def _count_chat(self, asked: _Asked, own: ModelTokenizer | None) -> TokenCount:
        counters = ChatCounters(self._encodings, lambda _: own)
        counter = counters.counter_of(asked.call, asked.deployment)
        return await counters.run(asked.deployment, partial(_weigh_chat, asked, counter))

    async def _count_inputs(self, asked: _Asked, own: ModelTokenizer | None) -> TokenCount:
        inputs = split_inputs(asked.call.body["input"])
        if own is not None:
            return _weigh_inputs(asked, [await _count_own(own, given) for given in inputs])
        async with self._encodings.turns:
            return await asyncio.to_thread(self._count_hosted, asked, inputs)

    def _count_hosted(self, asked: _Asked, inputs: Sequence[Input]) -> TokenCount:
        assert asked.counting is not None  # noqa: S101  there is nobody else who counts
        encoding, margin = self._encodings[asked.counting.encoding], asked.counting.margin
        return _weigh_inputs(
            asked,
            [
                math.floor(encoding.take_apart(given, gives_way=True).tokens * (1.0 + margin))
                if isinstance(given, str)
                else len(given)
                for given in inputs
            ],
        )


async def _count_own(own: ModelTokenizer, given: Input) -> int:
    if isinstance(given, str):
        return await own.count(given)
    fitted = await own.fit_ids(given, _ENDLESS, "end")
    return fitted.pieces[0].tokens + fitted.over


def _weigh_inputs(asked: _Asked, counts: Sequence[int]) -> TokenCount:
    said = (asked.call.truncation, asked.route.truncation)
    policy = next((word for word in said if word in EMBEDDING_TRUNCATIONS), None) or "none"
    limit = asked.window
    if policy in _CUTTING:  # what is cut must fit whoever is asked
        limit = _least(limit, window_of(asked.route))
    over = 0 if limit is None else sum(max(0, count - limit) for count in counts)
    dropped = {"end": over, "mean_pool": 0}.get(policy, None if over else 0)
    tokens = {"inputs": counts, "total": sum(counts)}
    return _told(asked, tokens, limit, dropped, policy, fits=None if limit is None else not over)


def _weigh_chat(asked: _Asked, counter: Counter) -> TokenCount:
    """Return the count; to be called in a thread beside the event loop."""
    body = _filled(asked.call, asked.deployment)
    counted = count_chat(body, counter)
    policy = policy_of(asked.call, asked.route) if may_cut(asked.call, asked.route) else "refuse"
    limit = None if asked.window is None else room_for(asked.window, asked.output)
    spare = spare_for(body) if asked.counting is None else 0
    if limit is not None:
        limit = max(0, limit - spare)
    fits = None if limit is None else counted.total <= limit
    fitted = None if limit is None else _fit(body, limit, policy, counter)
    dropped = 0 if limit is None else None if fitted is None else fitted.dropped
    told = _told(asked, _parts(counted, asked.call.endpoint), limit, dropped, policy, fits=fits)
    return told if fitted is None else replace(told, would_lower_to=_lowered(asked, fitted.total + spare))


def _filled(call: Call, deployment: Deployment) -> dict[str, Any]:
    """Return the body with the deployment's settings for what the caller left out."""
    said = {name: value for name, value in call.body.items() if value is not None}
    return {**deployment.settings[call.endpoint], **said}


def _output_of(call: Call, deployment: Deployment) -> int | None:
    if call.endpoint == "embeddings":
        return None
    asked = output_asked(call.body)  # by whatever name: it wins over what the deployment's settings say
    if asked is None:
        asked = output_asked(deployment.settings[call.endpoint])
    return None if asked is None else _least(asked, deployment.max_output_tokens)


def _fit(body: Mapping[str, Any], limit: int, policy: ChatPolicy, counter: Counter) -> FittedChat | None:
    try:
        return fit_chat(body, limit, policy, counter)
    except DoesNotFit:
        return None


def _lowered(asked: _Asked, sent: int) -> int | None:
    """Return what the longest answer would be lowered to beside so many tokens of the request and its template."""
    if asked.window is None or asked.output is None:
        return None
    left = max(1, asked.window - sent)
    return left if asked.output > left else None


def _parts(counted: ChatCount, endpoint: Endpoint) -> dict[str, Any]:
    if endpoint == "completions":
        return {"prompts": counted.messages, "around": counted.around, "total": counted.total}
    return {
        "messages": counted.messages,
        "images": counted.images,
        "tools": counted.tools,
        "schema": counted.schema,
        "around": counted.around,
        "total": counted.total,
    }


def _told(
    asked: _Asked,
    tokens: Mapping[str, Any],
    limit: int | None,
    dropped: int | None,
    policy: str,
    *,
    fits: bool | None,
) -> TokenCount:
    counting = asked.counting
    return TokenCount(
        deployment=asked.deployment.name,
        encoding=OWN if counting is None else counting.encoding,
        margin=0.0 if counting is None else counting.margin,
        tokens=tokens,
        context_window=asked.window,
        output_asked=asked.output,
        input_limit=limit,
        fits=fits,
        would_drop=dropped,
        policy=policy,
    )


def _least(*limits: int | None) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)
