"""Which place a sequence gets: what was computed is used again, and makes room before anything running would."""

from __future__ import annotations

from collections import deque
from typing import Any, cast

from gateway.worker.batching.slots import LEAST_SHARED, Running, Slots, common_prefix
from gateway.worker.batching.text import TextGate
from gateway.worker.batching.work import Event, Sampling, Sequence

LONG = list(range(100, 100 + 2 * LEAST_SHARED))


class Ledger:
    """A memory that keeps nothing but an account of what is done to it."""

    def __init__(self, *, swa: int = 0, keeps_parts: bool = True) -> None:
        self.swa = swa
        self.keeps_parts = keeps_parts
        self.done: list[tuple[Any, ...]] = []

    def forget(self, slot: int, since: int = -1) -> bool:
        self.done.append(("forget", slot, since))
        return self.keeps_parts or since == -1

    def share(self, source: int, target: int, count: int) -> None:
        self.done.append(("share", source, target, count))

    def first_position(self, slot: int) -> int:
        return 50


def unheard(event: Event) -> None:
    pass


def asked(tokens: list[int], limit: int = 10, *, reuse: bool = True) -> Sequence:
    return Sequence(tokens, limit, Sampling(1), unheard, reuse=reuse)


def running(sequence: Sequence) -> Running:
    return Running(sequence, cast("Any", None), TextGate(), deque(), 0, 0.0)


def test_a_conversation_goes_on_where_it_was() -> None:
    slots = Slots(2, 1000, Ledger())
    slots.all[1].computed = LONG[:20]

    taken = slots.take(asked(LONG))

    assert taken == (slots.all[1], 20)


def test_the_last_token_is_always_computed() -> None:
    slots = Slots(1, 1000, Ledger())
    slots.all[0].computed = list(LONG)

    taken = slots.take(asked(LONG))

    assert taken == (slots.all[0], len(LONG) - 1)
    assert slots.all[0].computed == LONG[:-1]


def test_a_running_prompt_is_shared() -> None:
    memory = Ledger()
    slots = Slots(2, 1000, memory)
    slots.all[0].computed = list(LONG)
    slots.all[0].running = running(asked(LONG))

    taken = slots.take(asked(LONG))

    assert taken == (slots.all[1], len(LONG) - 1)
    assert memory.done == [("forget", 1, -1), ("share", 0, 1, len(LONG) - 1)]


def test_a_short_beginning_does_not_cost_another_conversation_its_place() -> None:
    slots = Slots(2, 1000, Ledger())
    slots.all[0].computed = list(LONG)

    taken = slots.take(asked([*LONG[:3], 1, 2, 3]))

    assert taken == (slots.all[1], 0)
    assert slots.all[0].computed == LONG


def test_nothing_is_used_again_when_that_is_asked() -> None:
    slots = Slots(1, 1000, Ledger())
    slots.all[0].computed = list(LONG)

    assert slots.take(asked(LONG, reuse=False)) == (slots.all[0], 0)
    assert slots.all[0].computed == []


def test_a_model_that_keeps_no_parts_computes_all_of_it() -> None:
    slots = Slots(1, 1000, Ledger(keeps_parts=False))
    slots.all[0].computed = list(LONG)

    assert slots.take(asked(LONG)) == (slots.all[0], 0)


def test_what_has_left_a_sliding_window_is_not_used() -> None:
    slots = Slots(1, 1000, Ledger(swa=8))
    slots.all[0].computed = list(LONG)

    assert slots.take(asked(LONG)) == (slots.all[0], 0)


def test_the_least_recently_used_memory_makes_room() -> None:
    slots = Slots(4, 100, Ledger())
    for slot, used in ((slots.all[0], 2.0), (slots.all[1], 1.0)):
        slot.computed, slot.used = list(range(slot.number * 50, slot.number * 50 + 45)), used
    slots.all[3].running = running(asked([7], 9))

    taken = slots.take(asked([900] * 20, 10))

    assert taken is not None
    assert (slots.all[0].computed != [], slots.all[1].computed) == (True, [])


def test_what_runs_is_never_pushed_out() -> None:
    slots = Slots(2, 100, Ledger())
    slots.all[0].running = running(asked(LONG, 50))

    assert slots.take(asked([900] * 20, 10)) is None
    assert slots.take(asked([900] * 8, 10)) == (slots.all[1], 0)


def test_without_a_free_place_it_waits() -> None:
    slots = Slots(1, 100, Ledger())
    slots.all[0].running = running(asked([1], 1))

    assert slots.take(asked([2], 1)) is None


def test_a_common_beginning_is_counted() -> None:
    assert [common_prefix(*two) for two in (([1, 2, 3], [1, 2, 4]), ([], [1]), ([1], [1]))] == [2, 0, 1]
