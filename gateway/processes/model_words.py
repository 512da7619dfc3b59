"""What callers are told of a model process that ended: clauses without paths, commands and the words of libraries.

When a process is started again is decided in `model_process.py`.
"""

from __future__ import annotations

from types import MappingProxyType

from gateway.processes.supervision import cause_of

BAD_MODEL = 65  # the file is not a model that can be loaded
NO_ENGINE = 69  # the llama.cpp binding is not installed or does not run on this processor
LONGEST_REASON = 300  # characters

_HOPELESS = MappingProxyType(
    {BAD_MODEL: "its file cannot be loaded", NO_ENGINE: "its engine is not installed or does not run here"}
)


def is_hopeless(code: int) -> bool:
    """Tell whether a process that ended with `code` would end the same way if it were started again."""
    return code in _HOPELESS


def reason_of(code: int, *, is_limited: bool) -> str:
    """Return why a process that ended with `code` did, as a sentence; `is_limited` says that its memory was."""
    reason = _HOPELESS.get(code, "")
    if code == BAD_MODEL and is_limited:  # llama.cpp does not tell the one from the other
        reason = f"{reason}, or not in the memory that it may take"
    return sentence(reason) or ended(code)


def ended(code: int) -> str:
    """Return that a process ended with `code`, as a sentence."""
    return f"its process ended ({cause_of(code)})."


def sentence(clause: str) -> str:
    """Return a clause as a sentence that is not too long; "" stays "".

    Text out of a model's file may be anything; what is not Unicode would not go into a log line.
    """
    cut = clause.encode(errors="replace").decode().strip()[:LONGEST_REASON]
    return cut if not cut or cut.endswith(".") else f"{cut}."
