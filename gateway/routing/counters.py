"""Who counts the tokens of chats for which deployment, and where: beside the event loop, one conversation at a time.

One counter lives as long as its call, so that what was counted for one deployment is not counted again for the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from gateway.call import Call
from gateway.routing.table import Deployment
from gateway.routing.windows import Uncounted
from gateway.tokens import Counter, EncodingCounter, Encodings, ModelTokenizer, SearchingCounter, counting_of

T = TypeVar("T")
_SECONDS = 30.0  # that a model's own process may take to count one text


class ChatCounters:
    """Counters of this process; `tokenizer_of` finds the model's own one, None where it has to be counted here."""

    def __init__(self, encodings: Encodings, tokenizer_of: Callable[[Deployment], ModelTokenizer | None]) -> None:
        self._encodings = encodings
        self._tokenizer_of = tokenizer_of
        self._own_kinds: dict[type, bool] = {}

    def counter_of(self, call: Call, deployment: Deployment) -> Counter:
        """Return who counts for a deployment, the same one for all of a call's deployments that count alike."""
        own = self._tokenizer_of(deployment)
        if own is not None:
            made: Counter | None = call.counters.get(deployment.name)
            if made is None:
                made = call.counters[deployment.name] = _ask_model(own)
            return made
        counting = counting_of(deployment.model)
        made = call.counters.get(counting)
        if made is None:
            encoding = self._encodings[counting.encoding]
            made = call.counters[counting] = EncodingCounter(encoding, counting.margin)
        return made

    def is_own(self, deployment: Deployment) -> bool:
        kind = type(deployment.provider)
        known = self._own_kinds.get(kind)
        if known is None:  # to look is slow: a protocol's methods are compared one by one
            known = self._own_kinds[kind] = self._tokenizer_of(deployment) is not None
        return known

    async def window_of(self, deployment: Deployment) -> int | None:
        """Return what the model's own process says of its window, None where there is none that does."""
        own = self._tokenizer_of(deployment)
        return None if own is None else await own.window()

    async def run(self, deployment: Deployment, work: Callable[[], T]) -> T:
        """Have `work`, which counts for this deployment, done in a thread."""
        if self._tokenizer_of(deployment) is not None:
            return await asyncio.to_thread(work)  # which waits for the model's process, not for the processor
        async with self._encodings.turns:
            return await asyncio.to_thread(work)


def _ask_model(tokenizer: ModelTokenizer) -> Counter:
    loop = asyncio.get_running_loop()

    def count(text: str) -> int:
        """Return what the model's process says; to be called in a thread beside the loop."""
        if not text:
            return 0
        asked = asyncio.run_coroutine_threadsafe(tokenizer.tell(text), loop)
        try:
            told = asked.result(_SECONDS)
        except TimeoutError:
            asked.cancel()
            told = None
        if told is None:
            raise Uncounted
        return told

    return SearchingCounter(count)
