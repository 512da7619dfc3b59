"""Who counts the tokens of chats for which deployment, and where: beside the event loop, one conversation at a time.

One counter lives as long as its call, so that what was counted for one deployment is not counted again for the next.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import TypeVar

from gateway.call import Call
from gateway.routing.table import Deployment
from gateway.routing.windows import Uncounted
from gateway.tokens import Counter, EncodingCounter, Encodings, ModelTokenizer, SearchingCounter, counting_of

T = TypeVar("T")
_SECONDS = 30.0  # that a model's own process may take to count one text
# Threads that wait for models' processes: with a few that hang, the rest of the loop's threads must be left for others.
_MOST_WAITING = 3


class ChatCounters:
    """Counters of this process; `tokenizer_of` finds the model's own one, None where it has to be counted here."""

    def __init__(self, encodings: Encodings, tokenizer_of: Callable[[Deployment], ModelTokenizer | None]) -> None:
        self._encodings = encodings
        self._tokenizer_of = tokenizer_of
        self._own_turns = asyncio.Semaphore(_MOST_WAITING)
        self._silences: defaultdict[str, int] = defaultdict(int)  # how often a model did not tell
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
        """Have `work`, which counts for this deployment, done in a thread; who leaves before it is done leaves it its turn.

        A thread cannot be stopped: were the turn over with the caller, those who leave would have all threads count at once.
        """
        if self._tokenizer_of(deployment) is None:
            return await _in_turn(self._encodings.turns, work)
        # A thread that asks a model's process waits for that, not for the processor.
        silences = self._silences[deployment.name]

        def ask() -> T:
            if self._silences[deployment.name] != silences:
                raise Uncounted  # somebody waited in vain meanwhile; not everybody is to do so one after the other
            try:
                return work()
            except Uncounted:
                self._silences[deployment.name] += 1
                raise

        return await _in_turn(self._own_turns, ask)


async def _in_turn(turns: asyncio.Semaphore, work: Callable[[], T]) -> T:
    await turns.acquire()
    done = asyncio.get_running_loop().run_in_executor(None, work)
    done.add_done_callback(lambda _: turns.release())
    return await asyncio.shield(done)


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
