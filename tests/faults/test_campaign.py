"""Two hundred callers, three upstreams that misbehave by chance: nothing is lost, hung, mixed up or left over."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.campaign import Chance, campaign
from tests.support.upstream import Answer, Body, Chat, SeenRequest, Status, resolve

CI_FAULTS = 5_000  # 100,000 by `python -m tests.support.campaign --faults 100000`


async def test_nothing_is_lost_in_five_thousand_faults() -> None:
    tally = await campaign(CI_FAULTS, seed=1)

    assert tally.mistakes == []
    assert tally.faults >= CI_FAULTS
    assert tally.answered > CI_FAULTS / 2
    assert len(tally.outcomes) > 15  # many kinds of faults were really met


class Liar(Chance):
    """Now and then answers with what a sound upstream would never say."""

    lie: Callable[[SeenRequest], Answer]

    def __call__(self, request: SeenRequest) -> Answer:
        return type(self).lie(request) if request.index % 40 == 39 else super().__call__(request)


@pytest.mark.parametrize(
    ("lie", "word"),
    [
        (Chat(("nonce0x0z ",) * 6), "somebody else's words"),
        (Chat(("half",)), "not whole"),
        (Status(400, code="internal_error"), "of the gateway's own"),
        (Body(b'{"choices":[{"message":{"content":"x"}}]}'), "not whole"),
    ],
    ids=["foreign words", "half an answer", "our own error", "a strange body"],
)
async def test_a_broken_promise_is_seen(lie: Chat | Status | Body, word: str) -> None:
    class Planted(Liar):
        @staticmethod
        def lie(request: SeenRequest) -> Answer:
            return resolve(lie, request)

    tally = await campaign(150, 3, make_chance=Planted)

    assert any(word in mistake for mistake in tally.mistakes)
