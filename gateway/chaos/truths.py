"""What a caller may be told of a failure when nobody could answer: statuses and codes, as the rows of the fault table say.

Which fault has which truths stands in `faults.py`; whether an answer is one of them is decided by `judging.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

_LONGEST_REST_SECONDS = 86_400.0  # the longest rest that can be configured


@dataclass(frozen=True, slots=True)
class Truth:
    """One honest answer: a status and the codes it may have.

    With `longest_rest`, in seconds, it must say when to come back, and not later than that.
    """

    status: int
    codes: frozenset[str]
    longest_rest: float | None = None

    def __str__(self) -> str:
        codes = " or ".join(sorted(self.codes))
        return f"{self.status} {codes}" + (" with Retry-After" if self.longest_rest is not None else "")

    def fits(self, status: int, code: str | None, retry_after: str | None) -> bool:
        """Tell whether an error with this status, code and Retry-After is this truth."""
        if status != self.status or code not in self.codes:
            return False
        return self.longest_rest is None or _is_wait(retry_after, self.longest_rest)


Truths = tuple[Truth, ...]


def said(status: int, *codes: str) -> Truth:
    return Truth(status, frozenset(codes))


def rests(status: int, *codes: str, longest: float = _LONGEST_REST_SECONDS) -> Truth:
    """Return a truth that must say when to come back."""
    return Truth(status, frozenset(codes), longest)


NOBODY = rests(503, "no_healthy_deployment")
OVERLOADED = rests(503, "server_is_overloaded")
FAILED = said(502, "upstream_error")
BROKEN = said(502, "upstream_bad_response", "upstream_protocol_error")
LATE = said(504, "upstream_timeout")
# Where a host has not read what was sent before the reset, no content went out and a status can still be told.
INTERRUPTED = (said(200, "upstream_stream_interrupted"), said(502, "upstream_stream_interrupted", "upstream_error"))
STALLED = (said(200, "upstream_stream_stalled"), LATE)


def _is_wait(text: str | None, longest: float) -> bool:
    # Whole seconds, as the least clever of clients read them.
    return text is not None and text.isascii() and text.isdigit() and 0 < int(text) <= longest
