"""Who is answered next: a bounded queue that goes round the callers, and an estimate of how long it takes.

Pure: times are seconds on a clock that is given, and nothing here waits. What must not live here: HTTP and the model.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

MOST_REMEMBERED = 1000  # callers whose last turn is known
FADING = 0.8  # what a measurement is worth after the next one
# What is taken for granted until answers were measured: a small model on a slow machine.
FIRST_TOKENS, FIRST_SECONDS = 60.0, 3.0
FIRST_READING_SECONDS = 0.1  # where answers are not written: vectors and ranks
ENOUGH_ANSWERS = 20  # for a measurement on which more depends than when somebody comes back
SHORTEST_WAIT_SECONDS = 1.0


class QueueFull(Exception):
    """As many wait as may; `retry_after` is in seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__("the queue is full")
        self.retry_after = retry_after


class Work(NamedTuple):
    """What a request is about: so many `answers`, of `most_tokens` each at most, None where it did not say.

    `places` is how many of them the model writes together.
    """

    answers: int = 1
    most_tokens: int | None = None
    places: int = 1


ONE_ANSWER = Work()


class Ticket:
    """The place of one request; `position` is how many places it was from the model when it came, 0 for none.

    `work` is what it asks for. `turn` is called when it may be asked.
    What is asked in pieces has a turn for each: `began` is when the last one came, None while it waits for another.
    One that is to be `alone` is answered while no other is.
    """

    __slots__ = ("_waited", "alone", "began", "caller", "entered", "position", "turn", "work", "worked")

    def __init__(
        self, caller: str, work: Work, turn: Callable[[], None], entered: float, *, alone: bool = False
    ) -> None:
        self.alone = alone
        self.caller = caller
        self.work = work
        self.turn = turn
        self.entered = entered
        self.began: float | None = None
        self.position = 0
        self.worked = self._waited = 0.0  # in all turns but the last

    @property
    def waited(self) -> float:
        """How long it waited for the turns that it had, in seconds."""
        return self._waited + (0.0 if self.began is None else self.began - self.entered)

    def worked_until(self, now: float) -> float:
        """Return how long it was worked on, in seconds."""
        return self.worked + (0.0 if self.began is None else now - self.began)

    def wait_again(self, now: float, turn: Callable[[], None]) -> None:
        """End a turn; `turn` is called when the next one comes."""
        self._waited, self.worked = self.waited, self.worked_until(now)
        self.entered, self.began, self.turn = now, None, turn


class Pace:
    """What answers of late were like: tokens of one, and tokens a second of one place among the others."""

    def __init__(self, first_seconds: float) -> None:
        self._tokens, self._seconds = FIRST_TOKENS, first_seconds
        self._lengths, self._requests = FIRST_TOKENS, 1.0
        self._noted = 0

    def note(self, tokens: int, seconds: float, answers: int = 1) -> None:
        """Take note of a request; one that was broken off before its first token says nothing."""
        if tokens > 0 and seconds > 0.0:
            if not self._noted:
                self._tokens = self._seconds = self._lengths = self._requests = 0.0  # of a guess nothing is kept
            self._tokens = self._tokens * FADING + tokens
            self._seconds = self._seconds * FADING + seconds
            self._lengths = self._lengths * FADING + tokens / answers
            self._requests = self._requests * FADING + 1.0
            self._noted += 1

    @property
    def tokens_per_second(self) -> float:
        return self._tokens / self._seconds

    @property
    def seconds_a_token(self) -> float | None:
        """How long one token took, None before enough answers were measured."""
        return None if self._noted < ENOUGH_ANSWERS else self._seconds / self._tokens

    def expect(self, work: Work = ONE_ANSWER) -> float:
        """Return how many tokens all answers to a request will have together."""
        usual = self._lengths / self._requests
        return work.answers * (usual if work.most_tokens is None else min(usual, float(work.most_tokens)))


class FairQueue:
    """Lets requests for `slots` places at a time through: the caller whose last turn is longest ago first, its oldest
    request first.

    One that needs several places waits until there are as many, and nobody passes it meanwhile: an engine would let it wait
    for as long as others come. No more than `max_waiting` wait. Nobody who has begun is ever asked to stop.
    """

    def __init__(self, slots: int, max_waiting: int, first_seconds: float = FIRST_SECONDS) -> None:
        self.pace = Pace(first_seconds)
        self._slots = slots
        self._max_waiting = max_waiting
        self._running: set[Ticket] = set()
        self._waiting: dict[str, deque[Ticket]] = {}
        self._turns: dict[str, int] = {}  # of the last turn; the order of the entries is theirs
        self._count = itertools.count(1)

    @property
    def waiting(self) -> int:
        return sum(map(len, self._waiting.values()))

    @property
    def is_idle(self) -> bool:
        return not self._running and not self._waiting

    def enter(
        self,
        caller: str,
        now: float,
        turn: Callable[[], None],
        *,
        work: Work = ONE_ANSWER,
        most_waiting: int | None = None,
        alone: bool = False,
    ) -> Ticket:
        """Return the place of a request, whose `turn` is called before this returns when nobody is before it.

        It is refused, with QueueFull, when it would have to wait behind `most_waiting` others, or as many as ever may.
        """
        ticket = Ticket(caller, work, turn, now, alone=alone)
        if not self._waiting and self._has_room(ticket):
            self._begin(ticket, now)
            return ticket
        if self.waiting >= self._max_waiting or (most_waiting is not None and self.waiting >= most_waiting):
            raise QueueFull(self.wait_seconds(now))
        self._waiting.setdefault(caller, deque()).append(ticket)
        ticket.position = self._position(caller)
        return ticket

    def leave(self, ticket: Ticket, now: float, tokens: int = 0) -> None:
        """Take a request out, answered or not, and let the next one begin; `tokens` is what was written for it."""
        if ticket in self._running:
            self._running.discard(ticket)
            self.pace.note(tokens, ticket.worked_until(now) * ticket.work.places, ticket.work.answers)
        else:
            self._drop(ticket)
        self._fill(now)

    def take_turns(self, ticket: Ticket, now: float, turn: Callable[[], None]) -> None:
        """Give the place of a request that runs to whoever is next, be it itself; it waits behind its caller's others.

        It was let in before, so it waits however many others do.
        """
        self._running.discard(ticket)
        ticket.wait_again(now, turn)
        self._waiting.setdefault(ticket.caller, deque()).append(ticket)
        self._fill(now)

    def wait_seconds(self, now: float) -> float:
        """Return how long it takes, as far as can be told, until all that are here now are answered."""
        rate = self.pace.tokens_per_second
        tokens = 0.0
        for ticket in itertools.chain(self._running, *self._waiting.values()):
            done = ticket.worked_until(now) * rate * ticket.work.places
            tokens += max(0.0, self.pace.expect(ticket.work) - done)
        return max(SHORTEST_WAIT_SECONDS, tokens / (rate * self._slots))

    def _fill(self, now: float) -> None:
        while self._waiting and self._has_room(self._waiting[next(self._order())][0]):
            self._begin(self._next(), now)

    def _has_room(self, ticket: Ticket) -> bool:
        if ticket.alone or any(other.alone for other in self._running):
            return not self._running
        taken = sum(other.work.places for other in self._running)
        return not self._running or taken + ticket.work.places <= self._slots

    def _begin(self, ticket: Ticket, now: float) -> None:
        ticket.began = now
        self._running.add(ticket)
        self._turns.pop(ticket.caller, None)
        self._turns[ticket.caller] = next(self._count)
        if len(self._turns) > MOST_REMEMBERED:
            del self._turns[next(iter(self._turns))]
        ticket.turn()

    def _next(self) -> Ticket:
        caller = next(self._order())
        queue = self._waiting[caller]
        ticket = queue.popleft()
        if not queue:
            del self._waiting[caller]
        return ticket

    def _order(self) -> Iterator[str]:
        """Yield the callers that wait in the order of their turns; those without any came in the order of the entries."""
        return iter(sorted(self._waiting, key=lambda caller: self._turns.get(caller, 0)))

    def _position(self, caller: str) -> int:
        """Return the place of the newest request of `caller`: each round gives everyone before it one turn more."""
        before, is_before = 0, True
        own = len(self._waiting[caller])
        for other in self._order():
            if other == caller:
                is_before = False
            else:
                before += min(len(self._waiting[other]), own if is_before else own - 1)
        return before + own

    def _drop(self, ticket: Ticket) -> None:
        queue = self._waiting.get(ticket.caller)
        if queue is not None and ticket in queue:
            queue.remove(ticket)
            if not queue:
                del self._waiting[ticket.caller]
