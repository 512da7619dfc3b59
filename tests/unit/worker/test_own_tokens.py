"""What a model makes of texts and token ids, before a model whose tokens are characters."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.worker.engine import Answer
from gateway.worker.own_tokens import EMBEDDINGS, TOKENIZE, OwnTokens
from gateway.worker.told import Told, body_of

WINDOW = 64


class Model:
    """Puts `before` and `after` around what it reads."""

    def __init__(self, before: list[int], after: list[int], *, tells: bool = True) -> None:
        self.asked: list[tuple[str, Any]] = []
        self._before, self._after = before, after
        self._tells = tells
        self.is_closed = False

    async def ask(self, path: str, body: Any) -> Answer:
        self.asked.append((path, body))
        if path != TOKENIZE:
            return Told(b"{}")
        tokens = [*self._before, *map(ord, body["content"]), *self._after]
        return Told(json.dumps({"tokens": tokens}).encode()) if self._tells else Told(b"{}", 501)

    async def close(self) -> None:
        self.is_closed = True


async def tell(model: Model, **body: Any) -> Any:
    answer = await OwnTokens(model, WINDOW).ask(TOKENIZE, body)
    return json.loads(await body_of(answer)) | {"status": answer.status}


@pytest.mark.parametrize(("before", "after"), [([101], [102]), ([1], []), ([], [2]), ([], []), ([5], [5])])
async def test_a_text_is_told_apart_from_the_marks_around_it(before: list[int], after: list[int]) -> None:
    told = await tell(Model(before, after), content="abc")

    expected = {"before": before, "ids": [97, 98, 99], "after": after, "total": 3, "window": WINDOW}
    assert told == expected | {"status": 200}


async def test_only_as_many_as_were_asked_for_are_told() -> None:
    told = await tell(Model([101], [102]), content="abc", most=2)

    assert (told["ids"], told["total"]) == ([97, 98], 3)


@pytest.mark.parametrize(
    ("model", "content", "status"), [(Model([], []), 5, 400), (Model([], [], tells=False), "a", 501)]
)
async def test_what_cannot_be_told_is_refused(model: Model, content: Any, status: int) -> None:
    assert (await tell(model, content=content))["status"] == status


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ([7, 8], [101, 7, 8, 102]),
        ([101, 7, 8, 102], [101, 7, 8, 102]),
        ([[7], "text", [101, 8, 102]], [[101, 7, 102], "text", [101, 8, 102]]),
        ([101, 102], [101, 102]),
        ([101], [101, 101, 102]),
        ([102], [101, 102, 102]),
    ],
)
async def test_token_ids_get_the_marks_that_they_do_not_have(given: Any, sent: Any) -> None:
    model = Model([101], [102])

    await OwnTokens(model, WINDOW).ask(EMBEDDINGS, {"input": given, "model": "any"})

    assert model.asked[-1] == (EMBEDDINGS, {"input": sent, "model": "any"})


@pytest.mark.parametrize("given", ["text", ["a", "b"], [], None, [["no ids"]], [1.5], [True]])
async def test_anything_else_passes_without_a_question(given: Any) -> None:
    model = Model([101], [102])

    await OwnTokens(model, WINDOW).ask(EMBEDDINGS, {"input": given})

    assert model.asked == [(EMBEDDINGS, {"input": given})]


async def test_the_marks_are_asked_for_once() -> None:
    model = Model([101], [102])
    own = OwnTokens(model, WINDOW)

    for _ in range(3):
        await own.ask(EMBEDDINGS, {"input": [7]})

    assert [path for path, _ in model.asked] == [TOKENIZE, TOKENIZE, EMBEDDINGS, EMBEDDINGS, EMBEDDINGS]


async def test_ids_for_a_model_that_does_not_tell_its_marks_pass() -> None:
    model = Model([101], [102], tells=False)

    await OwnTokens(model, WINDOW).ask(EMBEDDINGS, {"input": [7]})

    assert model.asked[-1] == (EMBEDDINGS, {"input": [7]})


async def test_it_closes_the_model() -> None:
    model = Model([], [])

    await OwnTokens(model, WINDOW).close()

    assert model.is_closed
