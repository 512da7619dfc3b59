"""Row F2, where something can be left out: what the caller of a long conversation sees when the upstream says so.

What becomes of a request that cannot be shortened is in `test_statuses.py`.
"""

from __future__ import annotations

import pytest

from tests.support.drill import Drill
from tests.support.upstream import Status
from tests.support.verdicts import unwell

TOO_LONG = Status(
    400,
    message="This model's maximum context length is 400 tokens. However, your messages resulted in 800 tokens.",
    code="context_length_exceeded",
)
CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "An old question. " * 100},
    {"role": "assistant", "content": "An old answer. " * 100},
    {"role": "user", "content": "A new question."},
]

pytestmark = pytest.mark.parametrize("kind", ["chat", "stream"], indirect=True)


@pytest.mark.fault("F2", "400 context_length_exceeded, of a conversation that can be shortened")
async def test_f2_a_conversation_is_shortened_to_what_the_upstream_says_and_asked_once_more(pair: Drill) -> None:
    pair.broken.script(TOO_LONG)

    seen = await pair.ask(messages=CONVERSATION)

    assert (seen.status, seen.by, seen.attempts) == (200, "broken", 2)
    assert int(seen.answer.headers["x-gateway-truncated"]) > 300
    sent = [request.json["messages"] for request in pair.broken.requests]
    assert sent == [CONVERSATION, [CONVERSATION[0], CONVERSATION[-1]]]
    assert await unwell(pair) == {}


@pytest.mark.fault("F2", "400 context_length_exceeded, and again when it was shortened")
async def test_f2_what_is_still_too_long_when_it_was_shortened_is_told_as_the_upstream_says_it(pair: Drill) -> None:
    pair.broken.otherwise = TOO_LONG

    seen = await pair.ask(messages=CONVERSATION)

    assert (seen.status, seen.code, seen.attempts) == (400, "context_length_exceeded", 2)
    assert len(pair.broken.requests) == 2
    assert pair.sound is not None
    assert pair.sound.requests == []
