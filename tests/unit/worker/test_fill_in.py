"""The marks for a middle that is filled in are found in a prompt of the engine's own, once."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.worker.fill_in import COMPLETIONS, INFILL, TOKENIZE, FillIn

IDS = {"<pre>": [4], "<suf>": [5], "<mid>": [6], "<repo>files\n<pre>": [9, 30, 31, 4], "": []}
BEGIN = 1


class Said:
    content_type = "application/json"

    def __init__(self, body: Any, status: int = 200) -> None:
        self.status = status
        self._body = json.dumps(body).encode()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._body

    async def close(self) -> None:
        return None


class Model:
    """A model whose prompts are made by `form`; None where it cannot fill in."""

    def __init__(self, form: str | None) -> None:
        self.asked: list[tuple[str, Any]] = []
        self._form = form

    async def ask(self, path: str, body: Any) -> Said:
        self.asked.append((path, body))
        if path == INFILL:
            if self._form is None:
                return Said({"error": {"code": 501}}, 501)
            return Said({"prompt": self._form.format(body["input_prefix"], body["input_suffix"])})
        if path == TOKENIZE:
            text = body["content"]
            ids = IDS.get(text) if body["parse_special"] or not text else None
            begin = [BEGIN] if body["add_special"] else []
            return Said({"tokens": [*begin, *(list(map(ord, text)) if ids is None else ids)]})
        return Said({"choices": []})

    async def close(self) -> None:
        return None

    @property
    def completed(self) -> list[Any]:
        return [body for path, body in self.asked if path == COMPLETIONS]


@pytest.mark.parametrize("form", ["<pre>{}<suf>{}<mid>", "<repo>files\n<pre>{}<suf>{}<mid>"])
async def test_the_marks_stand_around_the_texts_and_are_looked_for_once(form: str) -> None:
    model = Model(form)
    filler = FillIn(model)

    for _ in range(2):
        answer = await filler.ask(COMPLETIONS, {"prompt": "ab", "suffix": "c<mid>", "max_tokens": 3})

        assert answer.status == 200
    wanted = [BEGIN, 4, ord("a"), ord("b"), 5, ord("c"), *map(ord, "<mid>"), 6]
    assert model.completed == [{"prompt": wanted, "suffix": None, "max_tokens": 3}] * 2
    assert [path for path, _ in model.asked].count(INFILL) == 1


@pytest.mark.parametrize(
    "form", [None, "{}", "{}{}", "{}<suf>{}<mid>", "<pre>{}no mark{}<mid>", "<pre>{}<suf>{}no mark"]
)
async def test_without_each_of_the_marks_it_is_refused(form: str | None) -> None:
    model = Model(form)

    answer = await FillIn(model).ask(COMPLETIONS, {"prompt": "ab", "suffix": "c"})

    error = json.loads(b"".join([piece async for piece in answer]))["error"]
    assert (answer.status, error["code"], error["param"]) == (400, "unsupported_parameter", "suffix")
    assert model.completed == []


@pytest.mark.parametrize("prompt", [["a"], [1], None])
async def test_only_one_text_is_filled_in(prompt: Any) -> None:
    model = Model("<pre>{}<suf>{}<mid>")

    answer = await FillIn(model).ask(COMPLETIONS, {"prompt": prompt, "suffix": "c"})

    assert (answer.status, model.asked) == (400, [])


@pytest.mark.parametrize(
    ("path", "body"),
    [(COMPLETIONS, {"prompt": "a"}), (COMPLETIONS, {"prompt": "a", "suffix": ""}), ("/v1/embeddings", {"suffix": "a"})],
)
async def test_other_requests_pass(path: str, body: dict[str, Any]) -> None:
    model = Model(None)

    await FillIn(model).ask(path, body)

    assert model.asked == [(path, body)]
