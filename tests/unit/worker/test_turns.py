"""Requests with many parts take a turn for each piece, and are answered as if they had been asked as one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from gateway.worker.engine import Answer, Body
from gateway.worker.fair_queue import FairQueue, Ticket, Work
from gateway.worker.told import Told, body_of, refuse
from gateway.worker.turns import LARGEST_PIECE, Turns, ask_in_turns, work_of

EMBEDDINGS, RERANK, COMPLETIONS = "/v1/embeddings", "/v1/rerank", "/v1/completions"
USAGE = {"prompt_tokens": 2, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 1}}


class Stream:
    """One chunk for each choice, a usage and the end; without `ending` it breaks off in good order."""

    status = 200
    content_type = "text/event-stream"

    def __init__(self, prompt: Any, choices: int, *, ending: bool = True) -> None:
        self._blocks = [
            _event(id=f"id {prompt}", choices=[{"index": index, "text": f"{prompt}{index}"}])
            for index in range(choices)
        ]
        self._blocks.append(_event(choices=[], usage=USAGE))
        self._blocks += [b"data: [DONE]\n\n"] if ending else []

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for block in self._blocks:
            yield block

    async def close(self) -> None:
        return None


class Model:
    """Answers each path in its form; `meanwhile` is called at each question."""

    def __init__(self, meanwhile: Callable[[Body], object] = lambda _: None) -> None:
        self.asked: list[Body] = []
        self.bad: Any = object()
        self.ending = True
        self._meanwhile = meanwhile

    async def ask(self, path: str, body: Body) -> Answer:
        self.asked.append(body)
        self._meanwhile(body)
        if self.bad in body.values():
            return refuse(400, 400, "invalid_request_error", "bad")
        if path == COMPLETIONS:
            return Stream(body["prompt"], body.get("n", 1), ending=self.ending)
        if path == EMBEDDINGS:
            return _embed(body)
        scored = [{"index": place, "relevance_score": score} for place, score in enumerate(body["documents"])]
        best = sorted(scored, key=lambda result: -float(result["relevance_score"]))
        return _json(results=best[: body.get("top_n")], usage={"prompt_tokens": 1, "total_tokens": 1})

    async def close(self) -> None:
        return None


def _embed(body: Body) -> Answer:
    given = body["input"] if isinstance(body["input"], list) else [body["input"]]
    usage = {"prompt_tokens": len(given), "total_tokens": len(given)}
    if "long" in given:
        usage["truncated_tokens"] = 7
    return _json(data=[{"index": place, "embedding": text} for place, text in enumerate(given)], usage=usage)


def _json(**fields: Any) -> Answer:
    return Told(json.dumps(fields).encode())


def _event(**fields: Any) -> bytes:
    return b"data: " + json.dumps({"object": "chunk", **fields}).encode() + b"\n\n"


def begin(queue: FairQueue, max_wait: float = 5.0, note: Callable[[], None] = lambda: None) -> tuple[Turns, Ticket]:
    ticket = queue.enter("a", asyncio.get_running_loop().time(), lambda: None)
    return Turns(queue, ticket, max_wait, note), ticket


async def ask(model: Model, path: str, **body: Any) -> Any:
    turns, _ = begin(FairQueue(1, 10))
    return json.loads(await body_of(await ask_in_turns(model, path, body, turns)))


async def stream(model: Model, **body: Any) -> list[Any]:
    turns, _ = begin(FairQueue(1, 10))
    text = await body_of(await ask_in_turns(model, COMPLETIONS, {**body, "stream": True}, turns))
    told = [event.removeprefix("data: ") for event in text.decode().split("\n\n") if event]
    return [event if event == "[DONE]" else json.loads(event) for event in told]


async def test_many_inputs_are_embedded_in_pieces_and_come_back_as_one_answer() -> None:
    model = Model()
    texts = [f"text {number}" for number in range(40)]

    answer = await ask(model, EMBEDDINGS, input=texts, encoding_format="float")

    assert [len(body["input"]) for body in model.asked] == [16, 16, 8]
    assert all(body["encoding_format"] == "float" for body in model.asked)
    assert [(entry["index"], entry["embedding"]) for entry in answer["data"]] == list(enumerate(texts))
    assert answer["usage"] == {"prompt_tokens": 40, "total_tokens": 40}


async def test_what_was_cut_from_any_piece_is_told() -> None:
    texts = ["short"] * 16 + ["long"] + ["short"] * 15 + ["long"]

    answer = await ask(Model(), EMBEDDINGS, input=texts)

    assert answer["usage"] == {"prompt_tokens": 33, "total_tokens": 33, "truncated_tokens": 14}


@pytest.mark.parametrize("text", ["x" * LARGEST_PIECE, [1] * LARGEST_PIECE])
async def test_long_inputs_make_small_pieces(text: Any) -> None:
    model = Model()

    await ask(model, EMBEDDINGS, input=[text, text, "a", "b"])

    assert [len(body["input"]) for body in model.asked] == [1, 1, 2]


@pytest.mark.parametrize("given", ["one", [1, 2, 3] * 10, ["a"] * 16, [], [1, "mixed"] * 20])
async def test_what_is_one_piece_is_asked_as_it_is(given: Any) -> None:
    model = Model()

    await ask(model, EMBEDDINGS, input=given)

    assert model.asked == [{"input": given}]


async def test_prompts_with_a_suffix_are_not_taken_apart() -> None:
    model = Model()

    await stream(model, prompt=["a", "b"], suffix="x")

    assert [body["prompt"] for body in model.asked] == [["a", "b"]]


async def test_many_documents_are_ranked_in_pieces_and_the_best_come_first() -> None:
    model = Model()
    scores = [(number * 37) % 101 for number in range(50)]

    answer = await ask(model, RERANK, query="q", documents=[float(score) for score in scores], top_n=3)

    assert [len(body["documents"]) for body in model.asked] == [16, 16, 16, 2]
    best = sorted(range(50), key=lambda place: -scores[place])[:3]
    assert [result["index"] for result in answer["results"]] == best
    assert answer["usage"] == {"prompt_tokens": 4, "total_tokens": 4}


async def test_a_piece_that_is_refused_is_the_answer() -> None:
    model = Model()
    model.bad = ["bad"]

    answer = await ask(model, EMBEDDINGS, input=["good"] * 16 + ["bad"])

    assert answer["error"]["message"] == "bad"


async def test_the_streams_of_several_prompts_become_one() -> None:
    events = await stream(Model(), prompt=["a", "b", [7]], n=2)

    told = [(choice["index"], choice["text"]) for event in events[:-1] for choice in event["choices"]]
    assert told == [(0, "a0"), (1, "a1"), (2, "b0"), (3, "b1"), (4, "[7]0"), (5, "[7]1")]
    assert {event["id"] for event in events[:-1]} == {"id a"}
    assert [event["usage"] for event in events[:-1] if "usage" in event] == [
        {"prompt_tokens": 6, "completion_tokens": 9, "prompt_tokens_details": {"cached_tokens": 3}}
    ]
    assert (events[-1], events[-2]["choices"]) == ("[DONE]", [])


async def test_a_refused_prompt_ends_the_stream_with_its_error() -> None:
    model = Model()
    model.bad = "bad"

    events = await stream(model, prompt=["a", "bad", "c"])

    assert events[-1] == {"error": {"code": 400, "message": "bad", "type": "invalid_request_error"}}
    assert len(model.asked) == 2


async def test_a_refused_first_prompt_is_the_answer() -> None:
    model = Model()
    model.bad = "bad"
    turns, _ = begin(FairQueue(1, 10))

    answer = await ask_in_turns(model, COMPLETIONS, {"prompt": ["bad", "b"], "stream": True}, turns)

    assert answer.status == 400


async def test_a_stream_that_broke_off_is_not_ended_in_good_order() -> None:
    model = Model()
    model.ending = False

    events = await stream(model, prompt=["a", "b"])

    assert [event["choices"][0]["text"] for event in events] == ["a0"]


async def test_others_are_asked_between_the_pieces_and_who_works_is_noted() -> None:
    queue = FairQueue(1, 10)
    order: list[str] = []
    others: list[Ticket] = []
    noted: list[bool] = []

    def come(_: Body) -> None:
        order.append("a")
        if len(order) == 1:
            others.append(queue.enter("b", 0.0, leave))

    def leave() -> None:
        order.append("b")
        asyncio.get_running_loop().call_soon(lambda: queue.leave(others[0], 0.0))

    turns, ticket = begin(queue, note=lambda: noted.append(ticket.began is not None))
    await ask_in_turns(Model(come), EMBEDDINGS, {"input": ["x"] * 40}, turns)

    assert order == ["a", "b", "a", "a"]
    assert noted == [False, True]
    assert ticket.position == 0


@pytest.mark.parametrize(
    ("path", "body"),
    [(EMBEDDINGS, {"input": ["x"] * 40}), (COMPLETIONS, {"prompt": ["a", "b"], "stream": True})],
)
async def test_a_piece_whose_turn_does_not_come_ends_the_request(path: str, body: dict[str, Any]) -> None:
    queue = FairQueue(1, 10)
    turns, ticket = begin(queue, max_wait=0.05)
    queue.enter("b", 0.0, lambda: None)

    answer = await ask_in_turns(Model(), path, body, turns)
    text = await body_of(answer)
    queue.leave(ticket, 0.0)

    assert b'"queue_timeout"' in text
    assert b"[DONE]" not in text
    assert queue.waiting == 0


async def test_a_stream_that_waits_for_its_turn_gives_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.worker.turns.SIGN_SECONDS", 0.01)
    queue = FairQueue(1, 10)
    turns, _ = begin(queue)
    other = queue.enter("b", 0.0, lambda: None)

    answer = await ask_in_turns(Model(), COMPLETIONS, {"prompt": ["a", "b"], "stream": True}, turns)
    blocks = []
    async for block in answer:
        if block == b": waiting\n\n":
            queue.leave(other, 0.0)
        blocks.append(block)

    assert b": waiting\n\n" in blocks
    assert blocks[-1] == b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    ("path", "body", "work"),
    [
        ("/v1/chat/completions", {"messages": [{}, {}], "max_tokens": 5}, Work(1, 5)),
        ("/v1/chat/completions", {"n": 3, "max_tokens": 5, "max_completion_tokens": 7}, Work(3, 7, 3)),
        (COMPLETIONS, {"prompt": "one", "max_tokens": 5}, Work(1, 5)),
        (COMPLETIONS, {"prompt": ["one", "two"], "n": 3}, Work(6, None, 3)),
        (COMPLETIONS, {"prompt": [1, 2, 3]}, Work(1)),
        (COMPLETIONS, {"prompt": [[1, 2], [3]]}, Work(2)),
        (EMBEDDINGS, {"input": ["a"] * 40}, Work(40)),
        (EMBEDDINGS, {"input": []}, Work(1)),
        (RERANK, {"documents": ["a"] * 4}, Work(4)),
        (COMPLETIONS, {"prompt": "one", "max_tokens": "many", "n": 0}, Work(1)),
    ],
)
def test_the_work_of_a_request_is_all_its_answers(path: str, body: Body, work: Work) -> None:
    assert work_of(path, body) == work
