"""Inputs over the window are cut by the model's own tokens, and never in silence."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.worker.cut_inputs import EMBEDDINGS, TOKENIZE, CutInputs

WINDOW = 6
BEGIN, END = 1, 2


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
    """A model for which each character is a token, its code."""

    def __init__(self, *, status: int = 200, tells_tokens: bool = True) -> None:
        self.asked: list[tuple[str, Any]] = []
        self._status = status
        self._tells_tokens = tells_tokens

    async def ask(self, path: str, body: Any) -> Said:
        self.asked.append((path, body))
        if path == TOKENIZE:
            tokens = [BEGIN, *map(ord, body["content"]), END]
            return Said({"tokens": tokens}) if self._tells_tokens else Said({"error": {}}, 404)
        return Said({"data": [], "usage": {"prompt_tokens": 3}}, self._status)

    async def close(self) -> None:
        self.asked.append(("close", None))


async def embed(model: Model, given: Any) -> Any:
    answer = await CutInputs(model, WINDOW).ask(EMBEDDINGS, {"input": given, "encoding_format": "float"})
    body = json.loads(b"".join([piece async for piece in answer]))
    assert answer.content_type == "application/json"
    return body


@pytest.mark.parametrize("given", ["abcd", ["abcd", ""], [1] * WINDOW, [[1] * WINDOW, [1]], ["é", [1]]])
async def test_what_fits_is_asked_as_it_is_without_taking_it_apart(given: Any) -> None:
    model = Model()

    body = await embed(model, given)

    assert model.asked == [(EMBEDDINGS, {"input": given, "encoding_format": "float"})]
    assert body["usage"] == {"prompt_tokens": 3}


async def test_a_text_of_many_bytes_and_few_tokens_is_left_as_it_is() -> None:
    model = Model()

    body = await embed(model, "éééé")

    assert [path for path, _ in model.asked] == [TOKENIZE, EMBEDDINGS]
    assert model.asked[1][1]["input"] == ["éééé"] or model.asked[1][1]["input"] == "éééé"
    assert "truncated_tokens" not in body["usage"]


async def test_a_long_text_is_cut_to_the_window_and_keeps_its_end_mark() -> None:
    model = Model()

    body = await embed(model, "abcdefgh")

    assert model.asked[-1][1]["input"] == [[BEGIN, *map(ord, "abcd"), END]]
    assert body["usage"] == {"prompt_tokens": 3, "truncated_tokens": 4}


async def test_of_several_inputs_only_the_long_ones_are_cut() -> None:
    model = Model()

    body = await embed(model, ["ab", "abcdefgh", "abcde"])

    assert model.asked[-1][1]["input"] == ["ab", [BEGIN, *map(ord, "abcd"), END], [BEGIN, *map(ord, "abcd"), END]]
    assert model.asked[-1][1]["encoding_format"] == "float"
    assert body["usage"]["truncated_tokens"] == 5


async def test_token_ids_are_cut_too_and_keep_their_end_mark() -> None:
    model = Model()

    body = await embed(model, [list(range(9)), "ab"])

    assert model.asked[-1][1]["input"] == [[0, 1, 2, 3, 4, 8], "ab"]
    assert body["usage"]["truncated_tokens"] == 3


async def test_an_engine_that_does_not_tell_tokens_is_left_to_refuse() -> None:
    model = Model(tells_tokens=False)

    await embed(model, "abcdefgh")

    assert model.asked[-1][1]["input"] == "abcdefgh"


async def test_a_failure_is_passed_on() -> None:
    answer = await CutInputs(Model(status=500), WINDOW).ask(EMBEDDINGS, {"input": "abcdefgh"})

    assert answer.status == 500
    assert b"truncated_tokens" not in b"".join([piece async for piece in answer])


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/rerank"])
async def test_other_requests_pass(path: str) -> None:
    model = Model()

    await CutInputs(model, WINDOW).ask(path, {"input": "abcdefgh"})

    assert model.asked == [(path, {"input": "abcdefgh"})]


async def test_it_closes_the_model() -> None:
    model = Model()

    await CutInputs(model, WINDOW).close()

    assert model.asked == [("close", None)]
