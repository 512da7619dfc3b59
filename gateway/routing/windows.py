"""Requests that are longer than a deployment's window: how much fits, what it turned out to take, fitting once more.

Nothing is counted where it cannot matter: a request has at most as many tokens as bytes. What is left out of a
conversation is decided in `tokens/`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Protocol, TypeVar

from gateway.call import Call, Endpoint
from gateway.errors import ContextLengthExceeded, InvalidRequest, OverWindow
from gateway.routing.corrections import Corrections, smallest
from gateway.routing.limits import read_limit
from gateway.routing.settings import CHAT_TRUNCATIONS, EMBEDDING_TRUNCATIONS, ChatTruncation
from gateway.routing.table import Deployment, Route
from gateway.tokens import Counter, DoesNotFit, FittedChat, fit_chat, most_tokens

T = TypeVar("T")


class Uncounted(Exception):
    """The one who alone could count does not."""


TRUNCATION_HEADER = "x-gateway-truncation"
TOKEN_FIELDS = ("max_completion_tokens", "max_tokens")
USUAL: ChatTruncation = "drop_oldest"

_FITTED = ("chat/completions", "completions")
_MOST_RATIO = 4.0  # tokens of an upstream for one of ours; what says more is no count of this text
_TOLD_BY_TEXT = 512  # tokens; by a shorter request, or one with images, nobody knows how a deployment counts texts
_UNTOLD_SHARE = 0.75  # of a request that was too long, where the upstream does not say by how much
_LEAST_UNTOLD = 512  # tokens; a shorter request is not too long for any model, whatever its upstream says
# SmolLM2's ChatML writes one more for each message than is counted, and 24 where there is no system message.
_TEMPLATE_TOKENS, _TEMPLATE_TOKENS_EACH = 32, 1
_LEAST_WINDOW = 1024  # tokens; what a local model takes at least, until it has been asked


class Counters(Protocol):
    """Finds who counts for a deployment, and has counting done beside the event loop."""

    def counter_of(self, call: Call, deployment: Deployment) -> Counter: ...
    def is_own(self, deployment: Deployment) -> bool:
        """Tell whether the model is on this machine, where its process knows its window."""
        ...

    async def window_of(self, deployment: Deployment) -> int | None:
        """Return what that process says; None where it does not."""
        ...

    def run(self, deployment: Deployment, work: Callable[[], T]) -> Awaitable[T]: ...


class Windows:
    """Fits requests into the windows of deployments, and remembers what those say of them."""

    def __init__(self, counters: Counters, clock: Callable[[], float] = time.monotonic) -> None:
        self._counters = counters
        self._corrections = Corrections(clock)
        self._own: dict[str, int] = {}  # what local models said of their windows; there are as many as are configured

    def may_exceed(self, call: Call, deployment: Deployment, body: dict[str, Any]) -> bool:
        """Tell whether a request could be too long; no is certain, and costs nothing."""
        if call.endpoint not in _FITTED:
            return False
        call.record.truncated_tokens = 0  # whatever was left out for a deployment before
        call.record.max_tokens = None
        call.tokens = None
        learnt = self._corrections.of(deployment.name)
        window = deployment.context_window or self._own.get(deployment.name)
        if learnt is not None:
            window = smallest(window, learnt.window, learnt.most_input)
        if window is None:
            if not self._counters.is_own(deployment):
                return False
            window = _LEAST_WINDOW
        ratio = 1.0 if learnt is None else learnt.ratio
        return call.has_media or call.size * ratio + (output_asked(body) or 0) > window

    async def fit(self, call: Call, route: Route, deployment: Deployment, body: dict[str, Any]) -> dict[str, Any]:
        """Return the body as it fits the deployment's window, the same one where all of it does.

        Raises OverWindow where it is not to be cut or cannot be.
        """
        learnt = self._corrections.of(deployment.name)
        window = smallest(await self._window_of(deployment), None if learnt is None else learnt.window)
        most_input, ratio = (None, 1.0) if learnt is None else (learnt.most_input, learnt.ratio)
        if window is None and most_input is None:
            return body
        asked = output_asked(body)
        spare = spare_for(body) if self._counters.is_own(deployment) else 0
        room = _most_input(window, most_input, asked) - spare
        most = most_tokens(body, call.size) * ratio
        if most <= room and (window is None or most + spare + (asked or 0) <= window):
            return body
        try:
            fitted = await self._fit(call, route, deployment, body, (room, ratio))
        except Uncounted:  # the model will say itself what it makes of the request
            return body
        return _settle(call, body, fitted, None if window is None else window - spare, ratio)

    async def _window_of(self, deployment: Deployment) -> int | None:
        window = deployment.context_window or self._own.get(deployment.name)
        if window is None and self._counters.is_own(deployment):
            window = await self._counters.window_of(deployment)
            if window is not None:
                self._own[deployment.name] = window
        return window

    async def fit_again(
        self, call: Call, route: Route, deployment: Deployment, body: dict[str, Any], refusal: ContextLengthExceeded
    ) -> dict[str, Any] | None:
        """Return the body as it may fit after the deployment said that it does not, None where that is all there is to say.

        What it told of its limit is remembered. `body` is the whole request, before anything was left out of it.
        """
        if call.endpoint not in _FITTED:
            return None
        known = await self._window_of(deployment)
        told = read_limit(refusal.message)
        try:
            sent = await self._tokens_sent(call, deployment, body)
        except Uncounted:
            return None
        ratio = min(max(1.0, (told.counted or 0) / max(1, sent)), _MOST_RATIO)
        is_told_by_text = sent >= _TOLD_BY_TEXT and not call.has_media
        self._corrections.note(deployment.name, told, ratio if is_told_by_text else 1.0, known)
        if not may_cut(call, route):
            return None
        window = smallest(known, told.window)
        if told.window is None and told.most_input is None:
            if sent < _LEAST_UNTOLD:
                return None
            limit = math.floor(sent * _UNTOLD_SHARE)
        else:
            limit = math.floor(_most_input(window, told.most_input, output_asked(body) or told.answer) / ratio)
            if told.counted is None:  # its count is another one, and nobody knows by how much
                limit = min(limit, math.floor(sent * _UNTOLD_SHARE)) if sent >= _LEAST_UNTOLD else limit
        try:
            fitted = await self._fit(call, route, deployment, body, (limit, 1.0))
        except (OverWindow, Uncounted):
            return None
        again = _settle(call, body, fitted, window, ratio)
        return None if again is body else again

    async def _fit(
        self, call: Call, route: Route, deployment: Deployment, body: dict[str, Any], most: tuple[int, float]
    ) -> FittedChat:
        counter = self._counters.counter_of(call, deployment)
        limit = max(0, math.floor(most[0] / most[1]))
        policy = policy_of(call, route) if may_cut(call, route) else "refuse"
        try:
            fitted = await self._run(deployment, partial(fit_chat, body, limit, policy, counter))
        except DoesNotFit as error:
            raise _too_long(error, call, await self._window_of(deployment) or error.limit) from None
        finally:
            call.record.is_counted = True
        return fitted

    def _run(self, deployment: Deployment, work: Callable[[], T]) -> Awaitable[T]:
        return self._counters.run(deployment, work)

    async def _tokens_sent(self, call: Call, deployment: Deployment, body: dict[str, Any]) -> int:
        """Return how many tokens were sent, by our count; `body` is the whole request, of which some may be left out."""
        if call.tokens is None:  # nothing was: it has not been counted yet
            counter = self._counters.counter_of(call, deployment)
            call.tokens = (await self._run(deployment, partial(_measure, body, counter))).before
            call.record.is_counted = True
        return call.tokens


def policy_of(call: Call, route: Route) -> ChatTruncation:
    """Return what becomes of a request that is too long: by its own word, by the alias's, or what is usual."""
    for word in (call.truncation, route.truncation):
        if word in CHAT_TRUNCATIONS:
            return word
    return USUAL


def check_truncation(word: str, endpoint: Endpoint) -> str:
    """Return what a request says is to become of it if it is too long; raises InvalidRequest for what it may not say."""
    known: tuple[str, ...] = EMBEDDING_TRUNCATIONS if endpoint == "embeddings" else CHAT_TRUNCATIONS
    name = word.strip().lower()
    if endpoint not in (*_FITTED, "embeddings"):
        raise InvalidRequest("Nothing is cut at this endpoint.", param=TRUNCATION_HEADER)
    if name not in known:
        raise InvalidRequest(
            f"Unknown truncation '{name[:100]}'; expected one of: {', '.join(known)}.", param=TRUNCATION_HEADER
        )
    return name


def may_cut(call: Call, route: Route) -> bool:
    """Tell whether something may be left out here: not where a larger model is to be asked first, and nobody said more."""
    if policy_of(call, route) == "refuse":
        return False
    return route.larger is None or call.truncation in CHAT_TRUNCATIONS or route.truncation in CHAT_TRUNCATIONS


def room_for(window: int, asked: int | None) -> int:
    """Return how many tokens a request may have in a window when so many are asked of the answer.

    The answer is given half of the window at most: who asks for more is lowered to what is left.
    """
    return max(0, window - min(max(asked or 0, 1), window // 2))


def spare_for(body: Mapping[str, Any]) -> int:
    """Return how many tokens a local model's own template may write around messages beyond what is counted."""
    return _TEMPLATE_TOKENS + _TEMPLATE_TOKENS_EACH * len(body.get("messages") or ())


def output_asked(body: Mapping[str, Any]) -> int | None:
    """Return the longest answer that a body asks for, in tokens."""
    for name in TOKEN_FIELDS:
        value = body.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return None


def _most_input(window: int | None, most_input: int | None, asked: int | None) -> int:
    """Return how many tokens a request may have; there must be one of the limits."""
    found = smallest(None if window is None else room_for(window, asked), most_input)
    assert found is not None  # noqa: S101  nothing is fitted where nothing is known
    return found


def _measure(body: dict[str, Any], counter: Counter) -> FittedChat:
    return fit_chat(body, 1 << 62, USUAL, counter)


def _settle(call: Call, body: dict[str, Any], fitted: FittedChat, window: int | None, ratio: float) -> dict[str, Any]:
    """Return what is sent, with the answer's length lowered to what is left, and write down what was left out."""
    call.record.truncated_tokens = fitted.dropped
    call.tokens = fitted.total
    sent = fitted.body
    asked = output_asked(sent)
    if window is not None and asked is not None:
        left = max(1, window - math.ceil(fitted.total * ratio))
        if asked > left:
            call.record.max_tokens = left
            sent = {**sent, **{name: left for name in TOKEN_FIELDS if sent.get(name) is not None}}
    return body if sent is fitted.body and fitted.body is body else dict(sent)


def _too_long(error: DoesNotFit, call: Call, window: int) -> OverWindow:
    """Return the refusal in OpenAI's words, which clients look for."""
    what = "prompt" if call.endpoint == "completions" else "messages"
    stays = f", of which {error.least} cannot be left out" if error.limit < error.least < error.before else ""
    return OverWindow(
        f"This model's maximum context length is {window} tokens, {error.limit} of them for the request. However, your "
        f"{what} resulted in {error.before} tokens{stays}. Please reduce the length of the {what}.",
        param=what,
    )
