"""What many drills of the fault table find: who answered, who was asked, what is known of the broken deployment."""

from __future__ import annotations

from typing import Any

from .drill import SOUND_TEXT, Drill, Seen, ask


async def unwell(it: Drill) -> dict[str, Any]:
    """Return what /readyz says of the broken deployment; nothing while it is well."""
    page = await it.gateway.ask("GET", "/readyz")
    told: list[dict[str, Any]] = page.json.get("deployments", [])
    return next((each for each in told if each["deployment"] == "up0/model"), {})


def is_answered_by_the_sound_one(it: Drill, seen: Seen) -> bool:
    assert it.sound is not None
    asked = [request for request in it.broken.requests if request.method == "POST"]  # not whether it waits for its turn
    assert (len(asked), len(it.sound.requests)) == (1, 1)
    assert it.kind == "embeddings" or seen.text == SOUND_TEXT
    return (seen.status, seen.by, seen.attempts, seen.error) == (200, "sound", 2, None)


def is_the_callers_own_fault(it: Drill, seen: Seen) -> bool:
    """Tell whether nobody else was asked, and the client is not told to try again or to leave it."""
    others = [] if it.sound is None else it.sound.requests
    assert (len(it.broken.requests), others) == (1, [])
    return seen.attempts == 1 and "Retry-After" not in seen.answer.headers


async def ask_aside(it: Drill) -> Seen:
    """Ask without a note for the matrix: what comes before or after the fault is no part of its row."""
    return await ask(it.gateway, it.kind)
