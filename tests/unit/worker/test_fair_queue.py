"""The queue before a model: round the callers, bounded, and honest about how long it takes."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.worker.fair_queue import (
    ENOUGH_ANSWERS,
    FIRST_READING_SECONDS,
    FIRST_SECONDS,
    MOST_REMEMBERED,
    SHORTEST_WAIT_SECONDS,
    FairQueue,
    QueueFull,
    Ticket,
    Work,
)


class Hall:
    """A queue whose clock stands still, and who got a turn so far."""

    def __init__(self, slots: int = 1, max_waiting: int = 100) -> None:
        self.queue = FairQueue(slots, max_waiting)
        self.turns: list[str] = []
        self.running: list[Ticket] = []
        self.tickets: dict[str, Ticket] = {}

    def come(self, name: str, most_waiting: int | None = None) -> Ticket:
        """Let the request `name` of the caller with its first letter come."""

        def turn() -> None:
            self.turns.append(name)

        ticket = self.queue.enter(name[0], 0.0, turn, most_waiting=most_waiting)
        self.tickets[name] = ticket
        return ticket

    def finish(self, times: int = 1) -> None:
        """Let those who began first end first."""
        for _ in range(times):
            self.queue.leave(self.tickets[self.turns[self._ended]], 0.0)
            self._ended += 1

    _ended = 0


def test_nobody_waits_while_there_are_places() -> None:
    hall = Hall(slots=2)

    assert [hall.come("a1").position, hall.come("a2").position, hall.come("a3").position] == [0, 0, 1]
    assert hall.turns == ["a1", "a2"]


def test_the_requests_of_one_caller_keep_their_order() -> None:
    hall = Hall()
    for name in ("a1", "a2", "a3", "a4"):
        hall.come(name)

    hall.finish(3)

    assert hall.turns == ["a1", "a2", "a3", "a4"]


def test_callers_take_turns() -> None:
    hall = Hall()
    for name in ("a1", "a2", "a3", "a4", "b1", "b2", "c1"):
        hall.come(name)

    hall.finish(6)

    assert hall.turns == ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]


def test_who_comes_back_again_and_again_does_not_starve_who_sent_many() -> None:
    hall = Hall()
    for name in ("a1", "a2", "a3", "b1", "c1"):
        hall.come(name)

    hall.finish()
    hall.come("a4")
    for number in (2, 3, 4):
        hall.finish()
        hall.come(f"b{number}")
        hall.finish()
        hall.come(f"c{number}")

    assert [name for name in hall.turns if name.startswith("a")] == ["a1", "a2", "a3"]


def test_a_position_tells_how_many_turns_are_before_it() -> None:
    hall = Hall()
    hall.come("x1")

    positions = {name: hall.come(name).position for name in ("a1", "a2", "a3", "b1", "a4", "b2")}

    assert positions == {"a1": 1, "a2": 2, "a3": 3, "b1": 2, "a4": 5, "b2": 4}


@given(st.lists(st.sampled_from("abcd"), max_size=30), st.integers(1, 3))
def test_the_last_to_come_is_served_at_its_position(callers: list[str], slots: int) -> None:
    hall = Hall(slots)
    names = [f"{caller}{number}" for number, caller in enumerate(callers)]
    for name in names:
        last = hall.come(name)

    begun = len(hall.turns)
    hall.finish(len(names))

    assert sorted(hall.turns) == sorted(names)
    if names:
        assert last.position == max(0, hall.turns.index(names[-1]) - begun + 1)
    assert hall.queue.is_idle


def test_no_more_wait_than_may() -> None:
    hall = Hall(max_waiting=2)
    for name in ("a1", "a2", "b1"):
        hall.come(name)

    with pytest.raises(QueueFull):
        hall.come("c1")

    assert hall.queue.waiting == 2


def test_nobody_waits_where_nobody_may_yet_a_free_place_is_given() -> None:
    hall = Hall(max_waiting=0)
    hall.come("a1")

    with pytest.raises(QueueFull):
        hall.come("b1")
    hall.finish()
    hall.come("b2")

    assert hall.turns == ["a1", "b2"]


def test_a_request_may_ask_not_to_wait_behind_many() -> None:
    hall = Hall()
    hall.come("a1", most_waiting=0)
    hall.come("a2", most_waiting=1)

    with pytest.raises(QueueFull):
        hall.come("b1", most_waiting=1)
    hall.come("b2", most_waiting=2)

    assert hall.queue.waiting == 2


def test_who_leaves_the_queue_leaves_it_at_once() -> None:
    hall = Hall()
    hall.come("a1")
    gone = hall.come("a2")
    hall.come("b1")

    hall.queue.leave(gone, 0.0)
    hall.queue.leave(gone, 0.0)
    hall.finish(2)

    assert hall.turns == ["a1", "b1"]
    assert hall.queue.is_idle


def test_how_long_it_takes_follows_what_was_measured() -> None:
    hall = Hall(slots=2)
    for _ in range(60):
        hall.queue.leave(hall.queue.enter("a", 0.0, lambda: None), 10.0, tokens=200)

    for name in ("a1", "a2", "a3", "b1"):
        hall.come(name)

    assert hall.queue.pace.tokens_per_second == pytest.approx(20.0)
    assert hall.queue.wait_seconds(0.0) == pytest.approx(20.0, rel=0.01)  # four times 200 at twice 20 a second
    assert hall.queue.wait_seconds(5.0) == pytest.approx(15.0, rel=0.01)


def test_a_short_wish_is_short_work() -> None:
    queue = FairQueue(1, 10)
    for _ in range(60):
        queue.leave(queue.enter("a", 0.0, lambda: None), 10.0, tokens=200)

    for _ in range(3):
        queue.enter("a", 0.0, lambda: None, work=Work(most_tokens=40))

    assert queue.wait_seconds(0.0) == pytest.approx(6.0, rel=0.01)


def test_many_answers_are_much_work_and_do_not_make_one_answer_longer() -> None:
    queue = FairQueue(1, 10)
    for _ in range(60):
        queue.leave(queue.enter("a", 0.0, lambda: None, work=Work(answers=10)), 10.0, tokens=200)

    queue.enter("a", 0.0, lambda: None)
    of_one = queue.wait_seconds(0.0)
    queue.enter("a", 0.0, lambda: None, work=Work(answers=10))
    queue.enter("a", 0.0, lambda: None, work=Work(answers=10, most_tokens=10))

    assert of_one == pytest.approx(1.0, rel=0.01)  # 20 tokens at 20 a second
    assert queue.wait_seconds(0.0) == pytest.approx(1.0 + 10.0 + 5.0, rel=0.01)


def test_the_time_of_a_token_is_told_when_it_was_measured_often() -> None:
    queue = FairQueue(1, 10)
    told = []
    for _ in range(40):
        told.append(queue.pace.seconds_a_token)
        queue.leave(queue.enter("a", 0.0, lambda: None), 2.0, tokens=100)

    assert told[:ENOUGH_ANSWERS] == [None] * ENOUGH_ANSWERS
    assert told[ENOUGH_ANSWERS:] == [pytest.approx(0.02, rel=0.02)] * 20


def test_before_anything_was_measured_a_guess_is_told() -> None:
    hall = Hall()
    hall.come("a1")
    hall.come("a2")

    assert hall.queue.wait_seconds(0.0) == pytest.approx(2 * FIRST_SECONDS)


def test_the_first_answer_makes_an_end_of_the_guess() -> None:
    queue = FairQueue(1, 10)
    queue.leave(queue.enter("a", 0.0, lambda: None), 0.02, tokens=5)

    for _ in range(10):
        queue.enter("a", 0.02, lambda: None)

    assert queue.wait_seconds(0.02) == SHORTEST_WAIT_SECONDS


def test_the_guess_for_a_model_that_only_reads_is_shorter() -> None:
    queue = FairQueue(1, 100, FIRST_READING_SECONDS)
    for _ in range(33):
        queue.enter("a", 0.0, lambda: None)

    assert queue.wait_seconds(0.0) == pytest.approx(33 * FIRST_READING_SECONDS)


def test_an_answer_that_never_began_is_no_measure() -> None:
    hall = Hall()
    before = hall.queue.pace.tokens_per_second

    hall.queue.leave(hall.come("a1"), 100.0, tokens=0)

    assert hall.queue.pace.tokens_per_second == before


def test_how_long_a_request_waited_is_known() -> None:
    queue = FairQueue(1, 10)
    first = queue.enter("a", 1.0, lambda: None)
    second = queue.enter("b", 2.0, lambda: None)

    queue.leave(first, 5.5)

    assert (first.waited, second.waited) == (0.0, 3.5)


def test_callers_of_long_ago_are_forgotten() -> None:
    queue = FairQueue(1, 1)

    for number in range(MOST_REMEMBERED + 50):
        queue.leave(queue.enter(f"caller {number}", 0.0, lambda: None), 0.0)

    assert len(queue._turns) == MOST_REMEMBERED


def test_between_the_pieces_of_a_request_others_have_their_turns() -> None:
    hall = Hall()
    big = hall.come("a1")
    for name in ("b1", "a2", "b2"):
        hall.come(name)

    hall.queue.take_turns(big, 0.0, lambda: hall.turns.append("a1 again"))
    hall.queue.leave(hall.tickets["b1"], 0.0)
    hall.queue.leave(hall.tickets["a2"], 0.0)
    hall.queue.leave(hall.tickets["b2"], 0.0)

    assert hall.turns == ["a1", "b1", "a2", "b2", "a1 again"]


def test_a_piece_for_which_nobody_waits_begins_at_once_and_needs_no_place_in_the_queue() -> None:
    hall = Hall(max_waiting=0)
    ticket = hall.come("a1")

    hall.queue.take_turns(ticket, 0.0, lambda: hall.turns.append("a1 again"))

    assert hall.turns == ["a1", "a1 again"]


def test_the_times_of_all_pieces_are_added_up() -> None:
    queue = FairQueue(1, 10)
    for _ in range(60):
        queue.leave(queue.enter("a", 0.0, lambda: None), 10.0, tokens=200)
    pieces = queue.enter("a", 0.0, lambda: None)
    other = queue.enter("b", 0.0, lambda: None)

    queue.take_turns(pieces, 4.0, lambda: None)
    expected = queue.wait_seconds(4.0)
    queue.leave(other, 7.0)
    queue.leave(pieces, 8.0, tokens=100)

    assert expected == pytest.approx(16.0, rel=0.01)  # ten seconds of one, and six of the other
    assert (pieces.waited, pieces.worked_until(8.0)) == (3.0, 5.0)
    assert queue.pace.tokens_per_second == pytest.approx(20.0, rel=0.01)


def test_who_leaves_between_its_pieces_leaves_at_once() -> None:
    hall = Hall()
    ticket = hall.come("a1")
    hall.come("b1")

    hall.queue.take_turns(ticket, 0.0, lambda: None)
    hall.queue.leave(ticket, 0.0)
    hall.queue.leave(hall.tickets["b1"], 0.0)

    assert hall.queue.is_idle


def test_one_that_is_to_be_alone_waits_for_all_others_and_all_others_for_it() -> None:
    queue = FairQueue(2, 10)
    turns: list[str] = []
    tickets = {
        name: queue.enter(name, 0.0, partial(turns.append, name), alone=name == "alone")
        for name in ("a", "b", "alone", "c", "d")
    }

    stages = []
    for name in ("a", "b", "alone"):
        queue.leave(tickets[name], 0.0)
        stages.append(list(turns))

    assert stages == [["a", "b"], ["a", "b", "alone"], ["a", "b", "alone", "c", "d"]]


def test_one_that_needs_several_places_waits_for_them_and_is_not_passed() -> None:
    queue = FairQueue(3, 10)
    turns: list[str] = []

    def come(name: str, places: int = 1) -> Ticket:
        return queue.enter(name, 0.0, partial(turns.append, name), work=Work(places, None, places))

    first, second, third = come("a"), come("b"), come("c")
    several = come("d", 3)
    come("e")

    stages = []
    for ticket in (first, second, third, several):
        queue.leave(ticket, 0.0)
        stages.append("".join(turns))

    assert stages == ["abc", "abc", "abcd", "abcde"]


def test_one_that_needs_more_places_than_there_are_is_alone() -> None:
    queue = FairQueue(2, 10)
    turns: list[str] = []
    first = queue.enter("a", 0.0, partial(turns.append, "a"))
    queue.enter("b", 0.0, partial(turns.append, "b"), work=Work(5, None, 5))

    queue.leave(first, 0.0)

    assert turns == ["a", "b"]


def test_answers_that_are_written_together_are_not_faster_each() -> None:
    queue = FairQueue(4, 10)
    for _ in range(60):
        queue.leave(queue.enter("a", 0.0, lambda: None, work=Work(4, None, 4)), 10.0, tokens=800)

    queue.enter("a", 0.0, lambda: None, work=Work(4, None, 4))

    assert queue.pace.tokens_per_second == pytest.approx(20.0, rel=0.01)
    assert queue.wait_seconds(0.0) == pytest.approx(10.0, rel=0.01)
    assert queue.wait_seconds(4.0) == pytest.approx(6.0, rel=0.01)


def test_nobody_joins_one_that_is_alone() -> None:
    queue = FairQueue(2, 10)
    turns: list[str] = []
    alone = queue.enter("a", 0.0, partial(turns.append, "alone"), alone=True)
    other = queue.enter("b", 0.0, partial(turns.append, "other"))

    before = list(turns)
    queue.leave(alone, 0.0)

    assert (before, other.position, turns) == (["alone"], 1, ["alone", "other"])
