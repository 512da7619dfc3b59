"""The places where sequences are decoded, and which of them a new one gets: what it can reuse, what must make room.

Pure but for the calls to the model's memory. What must not live here: the steps of decoding, or anything about text.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence as Tokens
from dataclasses import dataclass, field
from typing import Protocol

from gateway.worker.batching.sampling import Sampler
from gateway.worker.batching.text import TextGate
from gateway.worker.batching.work import Rating, Sequence, Timings

LEAST_SHARED = 16  # tokens; fewer are computed again sooner than they are copied


class Memory(Protocol):
    """The model's store of computed tokens."""

    @property
    def swa(self) -> int:
        """The width of a sliding window, 0 without one."""
        ...

    @property
    def keeps_parts(self) -> bool:
        """Whether the beginning of a sequence can be kept without its end."""
        ...

    def forget(self, slot: int, since: int = -1) -> bool: ...
    def share(self, source: int, target: int, count: int) -> None: ...
    def first_position(self, slot: int) -> int: ...


@dataclass(slots=True)
class Running:
    """A sequence at work; times are seconds on the scheduler's clock, `place` is its row with logits or -1.

    Of its text `written` bytes were drawn and `certain` may be told; `ratings` wait, each until its token may be told.
    """

    sequence: Sequence
    sampler: Sampler
    gate: TextGate
    pending: deque[int]
    reused: int
    began: float
    place: int = -1
    produced: int = 0
    first: float = 0.0
    latest: float = 0.0
    written: int = 0
    certain: int = 0
    ratings: deque[tuple[int, Rating]] = field(default_factory=deque)

    def certain_ratings(self) -> list[Rating]:
        """Return the ratings of tokens all of whose text may be told now."""
        found = []
        while self.ratings and self.ratings[0][0] <= self.certain:
            found.append(self.ratings.popleft()[1])
        return found

    def timings(self) -> Timings:
        prompt = len(self.sequence.tokens)
        begun = self.first or self.latest or self.began
        found = (self.sequence.leader or self.sequence).found
        seconds = max(self.latest - begun, 0.0)
        return Timings(prompt, self.reused, self.produced, begun - self.began, seconds, found)


@dataclass(slots=True)
class Slot:
    """One place: `computed` are the tokens whose state the model keeps there."""

    number: int
    computed: list[int] = field(default_factory=list)
    running: Running | None = None
    used: float = 0.0

    def need(self) -> int:
        """Return how many cells this place may fill."""
        if self.running is None:
            return len(self.computed)
        sequence = self.running.sequence
        return max(len(self.computed), len(sequence.tokens) + sequence.limit)


class Slots:
    """All places of a model whose store holds `cells` tokens."""

    def __init__(self, count: int, cells: int, memory: Memory) -> None:
        self.all = [Slot(number) for number in range(count)]
        self._cells = cells
        self._memory = memory

    def running(self) -> list[tuple[Slot, Running]]:
        return [(slot, slot.running) for slot in self.all if slot.running is not None]

    def take(self, sequence: Sequence) -> tuple[Slot, int] | None:
        """Return a free place prepared for `sequence` and how many tokens it starts with; None while there is none."""
        free = [slot for slot in self.all if slot.running is None]
        if not free:
            return None
        source, count = self._best(sequence)
        target = min(free, key=lambda slot: (len(slot.computed), slot.used))
        if (
            source is not None
            and source.running is None
            and (not self._memory.keeps_parts or count * 2 >= len(source.computed))
        ):
            target = source  # it goes on with that text; where little is common the other text is worth keeping
        if not self._make_room(target, source, len(sequence.tokens) + sequence.limit):
            return None
        return target, self._prepare(target, source, count)

    def clear(self, slot: Slot) -> None:
        self._memory.forget(slot.number)
        slot.computed = []

    def _best(self, sequence: Sequence) -> tuple[Slot | None, int]:
        if not sequence.reuse:
            return None, 0
        best = max(self.all, key=lambda slot: (self._reusable(slot, sequence.tokens), slot.used))
        count = self._reusable(best, sequence.tokens)
        if count == 0 or (best.running is not None and not self._memory.keeps_parts):
            return None, 0
        return best, count

    def _reusable(self, slot: Slot, tokens: Tokens[int]) -> int:
        # The last token is always computed: its logits are what the answer begins with.
        count = min(common_prefix(slot.computed, tokens), len(tokens) - 1)
        if count <= 0:
            return 0
        # What lies before the sliding window of an idle sequence may have been overwritten by another one.
        if self._memory.swa and self._memory.first_position(slot.number) > max(0, count - self._memory.swa):
            return 0
        return count

    def _make_room(self, target: Slot, source: Slot | None, cells: int) -> bool:
        """Drop what idle places remember, the least recently used first, until `cells` fit."""
        idle = sorted((slot for slot in self.all if slot.running is None), key=lambda slot: slot.used)
        for slot in idle:
            if self._free(target) >= cells:
                return True
            if slot is not target and slot is not source:
                self.clear(slot)
        return self._free(target) >= cells

    def _free(self, target: Slot) -> int:
        return self._cells - sum(slot.need() for slot in self.all if slot is not target)

    def _prepare(self, target: Slot, source: Slot | None, count: int) -> int:
        if source is target:
            if self._memory.forget(target.number, count):
                target.computed = target.computed[:count]
                return count
            count = 0  # sliding windows and recurrent models may refuse to forget a part
        computed = source.computed[:count] if source is not None and count >= LEAST_SHARED else []
        self.clear(target)
        if computed and source is not None:
            self._memory.share(source.number, target.number, count)
        target.computed = computed
        return len(computed)


def common_prefix(one: Tokens[int], other: Tokens[int]) -> int:
    """Return how many tokens `one` and `other` begin with in common."""
    count = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        count += 1
    return count
