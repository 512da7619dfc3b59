"""What a request is refused with, in the form of llama.cpp's server."""

from __future__ import annotations

from typing import Any


class Refusal(Exception):
    """A request that is answered with an error; `kind` is llama.cpp's `type`, `more` further fields of the error.

    `code` is OpenAI's word for what is wrong, where there is one; llama.cpp's server repeats the status.
    """

    def __init__(  # the fields of an error on the wire
        self,
        message: str,
        *,
        status: int = 400,
        code: str = "",
        kind: str = "invalid_request_error",
        param: str = "",
        **more: Any,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error: dict[str, Any] = {"code": code or status, "message": message, "type": kind}
        if param:
            self.error["param"] = param
        self.error.update(more)


def unsupported(param: str, message: str = "") -> Refusal:
    """Return the refusal of what this model or its engine cannot do."""
    return Refusal(message or f"'{param}' is not supported by this model.", code="unsupported_parameter", param=param)


def too_long(count: int, window: int, what: str = "request", *, is_least: bool = False) -> Refusal:
    """Return the refusal of `count` tokens, or of that many at least, in a window of `window`."""
    return Refusal(
        f"{what} ({'at least ' if is_least else ''}{count} tokens) exceeds the available context size ({window} tokens), try increasing it",
        kind="exceed_context_size_error",
        n_prompt_tokens=count,
        n_ctx=window,
    )
