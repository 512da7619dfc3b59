"""Row F20: statuses that mean nothing on the OpenAI wire, and redirects, which are never followed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.drill import BROKEN_TEXT, Drill
from tests.support.upstream import Behaviour, Changed, Ending, Raw, Redirect, ScriptedUpstream, Status
from tests.support.verdicts import is_answered_by_the_sound_one

STRANGE: dict[str, Behaviour] = {
    "101": Status(101, b""),
    "103 and no more": Raw((b"HTTP/1.1 103 Early Hints\r\n\r\n", Ending.CLOSE)),
    "204": Status(204, b""),
    "206": Status(206),
    "304": Status(304, b""),
    "418": Status(418),
    "599": Status(599),
    "999": Status(999),
}
NAMES = [pytest.param(name, marks=pytest.mark.fault("F20", f"{name} from the upstream")) for name in STRANGE]


@pytest.mark.parametrize("name", NAMES)
async def test_f20_alone_a_status_that_means_nothing_here_is_an_error_of_the_wire(alone: Drill, name: str) -> None:
    alone.broken.otherwise = STRANGE[name]

    seen = await alone.ask()

    code = "upstream_error" if name == "103 and no more" else "upstream_protocol_error"
    code = "upstream_redirect" if name == "304" else code
    assert (seen.status, seen.code, seen.attempts) == (502, code, 1)


@pytest.mark.parametrize("name", NAMES)
async def test_f20_another_deployment_answers_instead(pair: Drill, name: str) -> None:
    pair.broken.otherwise = STRANGE[name]

    seen = await pair.ask()

    assert is_answered_by_the_sound_one(pair, seen)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
@pytest.mark.fault("F20", "a redirect")
async def test_f20_a_redirect_is_never_followed(pair: Drill, status: int) -> None:
    async with ScriptedUpstream() as elsewhere:
        pair.broken.otherwise = Redirect(status, f"{elsewhere.base_url}/chat/completions")

        seen = await pair.ask()

        assert is_answered_by_the_sound_one(pair, seen)
        assert elsewhere.requests == []
        assert elsewhere.connections.opened == 0


@pytest.mark.fault("F20", "103, then the answer")
async def test_f20_an_early_hint_before_the_answer_does_no_harm(alone: Drill) -> None:
    sound = alone.broken.otherwise
    hint = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n"
    alone.broken.otherwise = Changed(sound, lambda answer: replace(answer, before_head=(hint,)))

    seen = await alone.ask()

    assert (seen.status, seen.by) == (200, "broken")
    assert alone.kind == "embeddings" or seen.text == BROKEN_TEXT
