"""What is wrong with a configuration, told with file, line and place. No caller over HTTP ever sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.errors import GatewayError


@dataclass(frozen=True, slots=True)
class Mistake:
    """One wrong place in a configuration file; `line` counts from 1, 0 where the file has no such line."""

    file: str
    line: int
    path: str
    expected: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return ": ".join(filter(None, (place, self.path, self.expected)))


class ConfigError(GatewayError):
    """The configuration cannot be used; its text has one line for each mistake."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        super().__init__("\n".join(str(mistake) for mistake in mistakes))
        self.mistakes = tuple(mistakes)
