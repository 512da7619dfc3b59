"""Token usage as upstreams report it: never trusted further than a sane integer."""

from __future__ import annotations

from typing import Any

from gateway.call import Usage

MOST_TOKENS = 1 << 40  # no answer has more; a larger figure is a fault of the upstream's


def read_usage(reported: Any) -> Usage | None:
    """Return the `usage` object of a reply, or None when it is absent or makes no sense."""
    if not isinstance(reported, dict):
        return None
    prompt, completion = _count(reported.get("prompt_tokens")), _count(reported.get("completion_tokens", 0))
    if prompt is None or completion is None:
        return None
    details = reported.get("prompt_tokens_details")
    cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else None
    return Usage(prompt, completion, cached or 0, _count(reported.get("truncated_tokens")) or 0)


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value <= MOST_TOKENS else None
