"""A configuration file on its way to a Config: its values, the line of every place in it, and the mistakes so far.

Which values are right is decided elsewhere; here it is only said where they stand and how a mistake is worded.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from gateway.mistakes import ConfigError, Mistake

Place = tuple[str | int, ...]

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]{1,60}")
_SECRET_KEY = re.compile(r"key|token|secret|password|header|auth|url", re.IGNORECASE)
_LONGEST_SHOWN = 60


@dataclass(slots=True)
class Tree:
    """`root` has plain dicts, lists and scalars; `unfilled` has the text of scalars before variables were filled in."""

    file: str
    root: dict[str, Any]
    lines: dict[Place, int]
    unfilled: dict[Place, str] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)
    _broken: set[Place] = field(default_factory=set)

    def blame(self, place: Place, sentence: str, *, spelled: str | None = None) -> None:
        """Note a mistake, unless one is known at this place or around it; `spelled` is told instead of the place."""
        if self.is_broken(place):
            return
        self._broken.add(place)
        self.mistakes.append(Mistake(self.file, self.line(place), spelled or spell(place), sentence))

    def silence(self, place: Place) -> None:
        """Take no more mistakes at this place or below it: they would follow from one that is known."""
        self._broken.add(place)

    def is_broken(self, place: Place) -> bool:
        return any(place[:length] in self._broken for length in range(len(place) + 1))

    def line(self, place: Place) -> int:
        """Return the line of this place, or of what surrounds it if the file does not have it."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 0)

    def at(self, place: Place) -> Any:
        """Return the value at this place, None if there is none."""
        value: Any = self.root
        for step in place:
            if isinstance(value, dict):
                value = value.get(step)
            elif isinstance(value, list) and isinstance(step, int) and step < len(value):
                value = value[step]
            else:
                return None
        return value

    def show(self, place: Place) -> str:
        """Describe the value at this place for a message; secrets and what came from a variable are not told."""
        value = self.at(place)
        if place in self.unfilled:
            return (
                f"the value of {_shorten(self.unfilled[place])}" if not _is_secret(place) else "a value not shown here"
            )
        if isinstance(value, dict):
            return "a mapping"
        if isinstance(value, list):
            return "a list"
        if value is None:
            return "nothing"
        if isinstance(value, bool):
            return "true" if value else "false"
        return "a value not shown here" if _is_secret(place) else _shorten(repr(value))

    def raise_mistakes(self) -> None:
        """Raise ConfigError, in the order of the file, if there was any mistake."""
        if self.mistakes:
            raise ConfigError(sorted(self.mistakes, key=lambda mistake: mistake.line))


def spell(place: Place) -> str:
    """Write a place as `models.small.deployments[0]`."""
    words = []
    for step in place:
        if isinstance(step, int):
            words.append(f"[{step}]")
        elif _PLAIN_KEY.fullmatch(step):
            words.append(f".{step}" if words else step)
        else:
            words.append(f"[{_shorten(repr(step))}]")
    return "".join(words)


def nearest(word: object, known: Iterable[str]) -> str:
    """Return `did you mean 'x'?` or, if nothing is near, the words that are known."""
    words = list(dict.fromkeys(known))
    near = difflib.get_close_matches(str(word)[:100], words, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"expected one of: {', '.join(words)}" if words else "none is known"


def mapping(value: object) -> dict[str, Any]:
    """Return the value if it is a mapping, otherwise an empty one."""
    return value if isinstance(value, dict) else {}


def sequence(value: object) -> list[Any]:
    """Return the value if it is a list, otherwise an empty one."""
    return list(value) if isinstance(value, list | tuple) else []


def _is_secret(place: Place) -> bool:
    return any(isinstance(step, str) and _SECRET_KEY.search(step) for step in place if step not in ("auth", "keys"))


def _shorten(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…"
