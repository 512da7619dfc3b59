"""What of the prompts of a completion is sent where not all of it fits; each is answered by itself.

Pure. Messages are fitted in `chat_fitting.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.tokens.chats import ChatCount, count_prompt, has_several, prompts_of
from gateway.tokens.counters import Counter
from gateway.tokens.middles import LEAST_LEFT, without_middle
from gateway.tokens.outcomes import ChatPolicy, DoesNotFit, FittedChat


def fit_prompts(
    body: Mapping[str, Any], counted: ChatCount, limit: int, policy: ChatPolicy, counter: Counter
) -> FittedChat:
    """Return a body of which each prompt fits: its end (`drop_oldest`), or its beginning and end. Raises DoesNotFit."""
    room = limit - counted.around
    least = 1 if policy == "drop_oldest" else LEAST_LEFT
    if room < least:
        raise DoesNotFit(counted.total, min(counted.total, counted.around + least), limit)
    fitted = [
        prompt if tokens <= room else _fit(prompt, room, policy, counter)
        for prompt, tokens in zip(prompts_of(body), counted.messages, strict=True)
    ]
    counts = [count_prompt(prompt, counter) for prompt in fitted]
    if None in fitted:
        raise DoesNotFit(counted.total, limit + 1, limit)
    before, total = max(counted.messages), max(counts)
    return FittedChat(
        {**body, "prompt": fitted if has_several(body) else fitted[0]},
        counted.total,
        counted.around + total,
        sum(counted.messages) - sum(counts) - (before - total),
    )


def _fit(prompt: object, room: int, policy: ChatPolicy, counter: Counter) -> object:
    """Return what is left of a prompt, None where nothing would be."""
    if isinstance(prompt, str):
        if policy == "drop_oldest":
            return counter.last(prompt, room) or None
        return without_middle(prompt, room, counter)[0] or None
    if not isinstance(prompt, list):
        return None
    beginning = 0 if policy == "drop_oldest" else (room + 1) // 2
    return prompt[:beginning] + prompt[len(prompt) - (room - beginning) :]
