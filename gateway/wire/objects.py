"""JSON objects in and out: strict about UTF-8, NaN and depth, because what passes here is handed to upstreams.

What the fields mean is checked in `requests.py`.
"""

from __future__ import annotations

from typing import Any

import orjson

from gateway.errors import InvalidRequest

MAX_DEPTH = 64  # deeper than any real tool schema; templates and upstream parsers recurse

dump = orjson.dumps


def parse_object(raw: bytes) -> dict[str, Any]:
    """Return the JSON object in `raw`.

    Raises InvalidRequest (`invalid_json`) for anything else: empty, not UTF-8, NaN, a byte order mark, an array,
    nesting over 64 levels.
    """
    if not raw:
        raise InvalidRequest("The request body is empty; a JSON object was expected.", code="invalid_json")
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(
            f"We could not parse the JSON body of your request: {error.msg} (line {error.lineno}, column {error.colno}).",
            code="invalid_json",
        ) from None
    if not isinstance(value, dict):
        raise InvalidRequest("The request body must be a JSON object.", code="invalid_json")
    # Opening brackets bound the depth, so that the usual request is never walked.
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH and _is_deeper(value, MAX_DEPTH):
        raise InvalidRequest(f"The request body is nested more than {MAX_DEPTH} levels deep.", code="invalid_json")
    return value


def _is_deeper(value: Any, limit: int) -> bool:
    level: list[Any] = [value]
    for _ in range(limit):
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True
