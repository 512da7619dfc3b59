"""Continuous batching: one thread, one llama_decode for each step, in it one token of each answer and pieces of prompts.

Only this thread touches the model's context: two threads in it abort the process, and taking turns with a lock keeps
OpenMP's workers of each thread spinning. What must not live here: the wire, templates, or waiting of requests for a place
among others, which is the front's.
"""

from __future__ import annotations

import os
import threading
import traceback
from collections import deque
from collections.abc import Callable
from collections.abc import Sequence as Many

from gateway.worker.batching.native import Native, Row
from gateway.worker.batching.sampling import Sampler, rate
from gateway.worker.batching.slots import Running, Slot, Slots
from gateway.worker.batching.text import TextGate
from gateway.worker.batching.work import Ending, EndReason, Event, Piece, Rating, Sequence, Timings
from gateway.worker.reports import EXIT_OTHER

Told = list[tuple[Sequence, Event]]


class Scheduler:
    """Writes the answers of many sequences together.

    `clock()` is in seconds. `post(told)` hands the events of one step to the loop's thread. `cells` is how many tokens all
    sequences together may hold.
    """

    def __init__(
        self, native: Native, places: int, cells: int, *, clock: Callable[[], float], post: Callable[[Told], None]
    ) -> None:
        self._native = native
        self._slots = Slots(places, cells, native)
        self._clock = clock
        self._post = post
        self._told: Told = []
        self._waiting: deque[Sequence] = deque()
        self._wake = threading.Condition()
        self._listening: list[Callable[[], object]] = []
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="llama", daemon=True)
        self._thread.start()

    def submit(self, sequences: Many[Sequence]) -> None:
        """Write answers to `sequences`; any thread may call."""
        with self._wake:
            self._waiting.extend(sequences)
            self._wake.notify()

    def cancel(self, sequences: Many[Sequence]) -> None:
        """End the work for `sequences` within one step; any thread may call."""
        for sequence in sequences:
            sequence.cancelled = True

    def ping(self, heard: Callable[[], object]) -> None:
        """Call `heard` in the thread when it has ended its step; any thread may call."""
        with self._wake:
            self._listening.append(heard)
            self._wake.notify()

    def close(self) -> None:
        """End the thread after its step and free the model."""
        with self._wake:
            self._is_closing = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._work()
        except BaseException:  # noqa: BLE001  # a model process without its thread would keep every caller waiting for ever
            traceback.print_exc()
            os._exit(EXIT_OTHER)

    def _work(self) -> None:
        while self._await_work():
            self._drop_cancelled()
            self._admit()
            self._step()
            if self._told:
                told, self._told = self._told, []
                self._post(told)
        for slot, running in self._slots.running():
            self._end(slot, running, "cancelled")
        self._native.close()

    def _await_work(self) -> bool:
        with self._wake:
            while not (self._is_closing or self._waiting or self._listening or self._slots.running()):
                self._wake.wait()
            listening, self._listening = self._listening, []
        for heard in listening:
            heard()
        return not self._is_closing

    # Who is at work

    def _drop_cancelled(self) -> None:
        for slot, running in self._slots.running():
            if running.sequence.cancelled:
                self._end(slot, running, "cancelled")

    def _admit(self) -> None:
        with self._wake:
            waiting, self._waiting = self._waiting, deque()
        kept: list[Sequence] = []
        for sequence in waiting:
            # Nobody overtakes, except those who wait for the prompt that their leader computes.
            is_blocked = any(not _follows(other) for other in kept)
            if sequence.cancelled:
                self._tell_at_once(sequence, "cancelled")
            elif is_blocked or _follows(sequence) or not self._start(sequence):
                kept.append(sequence)
        with self._wake:
            self._waiting.extendleft(reversed(kept))

    def _start(self, sequence: Sequence) -> bool:
        taken = self._slots.take(sequence)
        if taken is None:
            return False
        slot, count = taken
        sequence.found = count
        try:
            sampler = Sampler(self._native, sequence.sampling, sequence.grammar)
        except ValueError:  # it was checked before; whatever it is, it is this sequence's alone
            self._slots.clear(slot)
            self._tell_at_once(sequence, "failed")
            return True
        sampler.see_prompt(sequence.tokens)
        pending = deque(sequence.tokens[count:])
        slot.running = Running(sequence, sampler, TextGate(sequence.stops), pending, count, self._clock())
        return True

    def _tell_at_once(self, sequence: Sequence, reason: EndReason) -> None:
        sequence.prefilled = True
        self._tell(sequence, Ending(reason, "", Timings(len(sequence.tokens), 0, 0, 0.0, 0.0, 0)))

    def _end(self, slot: Slot, running: Running, reason: EndReason) -> None:
        text = "" if reason == "cancelled" else running.gate.finish()
        if not running.gate.stopped:
            running.certain = running.written
            self._tell_certain(running, "")
        running.sampler.close()
        running.sequence.prefilled = True
        slot.running, slot.used = None, self._clock()
        self._tell(running.sequence, Ending(reason, text, running.timings()))

    def _tell(self, sequence: Sequence, event: Event) -> None:
        self._told.append((sequence, event))

    def _tell_certain(self, running: Running, text: str) -> None:
        """Tell text, and of the tokens that were told in full their ratings: none of a stop string."""
        ratings: list[Rating | None] = [*running.certain_ratings()]
        last = ratings.pop() if ratings else None
        for rating in ratings:
            self._tell(running.sequence, Piece("", rating, running.timings()))
        if text or last is not None:
            self._tell(running.sequence, Piece(text, last, running.timings()))

    # One step

    def _step(self) -> None:
        parts = self._parts()
        if not parts:
            return
        rows: list[Row] = []
        for slot, running, count in parts:
            first = len(slot.computed)
            tokens = [running.pending.popleft() for _ in range(count)]
            rows.extend(Row(token, first + place, slot.number, wanted=False) for place, token in enumerate(tokens))
            running.place = -1
            if not running.pending:
                running.place = len(rows) - 1
                rows[-1] = Row(rows[-1].token, rows[-1].position, slot.number, wanted=True)
            slot.computed.extend(tokens)
        if self._native.decode(rows) != 0:
            for slot, running, _ in parts:
                self._slots.clear(slot)
                self._end(slot, running, "failed")
            return
        now = self._clock()
        for slot, running, _ in parts:
            if running.place >= 0:
                self._go_on(slot, running, now)

    def _parts(self) -> list[tuple[Slot, Running, int]]:
        """Return how many tokens of each sequence the next batch takes: one of each answer, and an even share of prompts."""
        at_work = self._slots.running()
        parts = [(slot, running, 1) for slot, running in at_work if len(running.pending) == 1]
        prompts = sorted(
            ((slot, running) for slot, running in at_work if len(running.pending) > 1),
            key=lambda one: len(one[1].pending),
        )
        left = self._native.batch_size - len(parts)
        for place, (slot, running) in enumerate(prompts):
            count = min(len(running.pending), left // (len(prompts) - place))
            if count > 0:
                parts.append((slot, running, count))
                left -= count
        return parts

    def _go_on(self, slot: Slot, running: Running, now: float) -> None:
        sequence = running.sequence
        running.first = running.first or now
        running.latest = now
        sequence.prefilled = True
        token = running.sampler.draw(running.place)
        if token is None or self._native.vocabulary.is_end(token):
            running.produced += 1
            self._end(slot, running, "stop")
            return
        running.produced += 1
        piece = self._native.vocabulary.piece(token)
        text = running.gate.add(piece)
        running.written += len(piece)
        running.certain = (
            running.certain + len(text.encode()) if running.gate.stopped else running.written - running.gate.held
        )
        if sequence.rated is not None:
            rating = rate(self._native.logits(running.place), token, sequence.rated, self._native.vocabulary)
            running.ratings.append((running.written, rating))
        self._tell_certain(running, text)
        if running.gate.stopped:
            self._end(slot, running, "stop")
        elif running.produced >= sequence.limit:
            self._end(slot, running, "length")
        else:
            running.pending.append(token)


def _follows(sequence: Sequence) -> bool:
    """Return whether `sequence` waits for its leader to have computed the prompt."""
    return sequence.leader is not None and not sequence.leader.prefilled
