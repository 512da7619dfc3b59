"""What comes of fitting: a body that fits, or that none does.

How it is done is in `chat_fitting.py` and `prompt_fitting.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

ChatPolicy = Literal["drop_oldest", "middle", "refuse"]


class DoesNotFit(Exception):
    """A request of `before` tokens that may have `limit`, and has `least` at least by the policy that was asked for."""

    def __init__(self, before: int, least: int, limit: int) -> None:
        super().__init__(f"{before} tokens, {least} at least, do not fit into {limit}.")
        self.before = before
        self.least = least
        self.limit = limit


@dataclass(frozen=True, slots=True)
class FittedChat:
    """A body that fits: how many tokens it had `before` and has in `total`.

    Where several prompts are answered apart, these are the longest one's, and what the others lost is `elsewhere`.
    """

    body: Mapping[str, Any]
    before: int
    total: int
    elsewhere: int = 0

    @property
    def dropped(self) -> int:
        """Return how many tokens were left out, those of the marks that tell of it already taken off."""
        return self.before - self.total + self.elsewhere
