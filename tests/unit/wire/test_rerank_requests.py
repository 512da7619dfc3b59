"""Requests to rank documents have a shape, and so have the answers."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.call import Usage
from gateway.errors import InvalidRequest
from gateway.wire import arrange_ranking, check_rerank, find_ranking_flaw, read_rank_usage

ASKED: dict[str, Any] = {
    "model": "ranker",
    "query": "cats",
    "documents": ["a dog", {"text": "a cat", "id": 7}, "a car"],
}


YES = True  # an int to Python, no place in JSON


def result(index: Any, score: Any) -> dict[str, Any]:
    return {"index": index, "relevance_score": score}


def reply(*results: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"results": list(results), **more}


SOUND = reply(result(0, -3.5), result(1, 2), result(2, -3.5))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"top_n": 1},
        {"top_n": 50},
        {"top_n": None, "return_documents": None, "user": None},
        {"return_documents": True},
        {"documents": [""]},
        {"documents": ["a"] * 2048},
        {"max_chunks_per_doc": 3},
    ],
)
def test_what_upstreams_agree_on_passes(fields: dict[str, Any]) -> None:
    check_rerank({**ASKED, **fields})


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"query": ""}, "query"),
        ({"query": None}, "query"),
        ({"query": ["a"]}, "query"),
        ({"model": ""}, "model"),
        ({"model": None}, "model"),
        ({"documents": []}, "documents"),
        ({"documents": "a"}, "documents"),
        ({"documents": None}, "documents"),
        ({"documents": ["a", 1]}, "documents[1]"),
        ({"documents": ["a", None]}, "documents[1]"),
        ({"documents": [{}]}, "documents[0].text"),
        ({"documents": [{"text": 1}]}, "documents[0].text"),
        ({"documents": ["a"] * 2049}, "documents"),
        ({"top_n": 0}, "top_n"),
        ({"top_n": 1.5}, "top_n"),
        ({"top_n": True}, "top_n"),
        ({"return_documents": "yes"}, "return_documents"),
    ],
)
def test_a_mistake_names_its_field(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_rerank({**ASKED, **fields})

    assert caught.value.param == param


@pytest.mark.parametrize("name", ["model", "query", "documents"])
def test_what_is_missing_is_named(name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_rerank({key: value for key, value in ASKED.items() if key != name})

    assert (caught.value.param, caught.value.code) == (name, "missing_required_parameter")


@pytest.mark.parametrize(
    ("answer", "fields", "flaw"),
    [
        ({}, {}, "no list of results"),
        (reply(), {}, "0 results for 3 documents"),
        ({"results": {"0": 1}}, {}, "no list of results"),
        ({"results": [1, 2, 3]}, {}, "no list of results"),
        (reply(result(0, 1)), {"top_n": 2}, "1 results for 2 documents"),
        (reply(*(result(index, 1) for index in range(4))), {}, "4 results for 3 documents"),
        (reply(result(0, 1), result(0, 2), result(1, 2)), {}, "a result for no document or several for one"),
        (reply(result(0, 1), result(1, 2), result(3, 2)), {}, "a result for no document or several for one"),
        (reply(result(0, 1), result(1, 2), result(-1, 2)), {}, "a result for no document or several for one"),
        (reply(result(0, 1), result(YES, 2), result(2, 2)), {}, "a result for no document or several for one"),
        (reply(result(0, 1), result(None, 2), result(2, 2)), {}, "a result for no document or several for one"),
        (reply(result(0, 1), result(1, "2"), result(2, 2)), {}, "a relevance_score that is no number"),
        (reply(result(0, 1), result(1, None), result(2, 2)), {}, "a relevance_score that is no number"),
        (reply(result(0, 1), result(1, float("nan")), result(2, 2)), {}, "a relevance_score that is no number"),
        (reply(result(0, 1), result(1, float("inf")), result(2, 2)), {}, "a relevance_score that is no number"),
    ],
)
def test_a_wrong_answer_is_told(answer: dict[str, Any], fields: dict[str, Any], flaw: str) -> None:
    assert find_ranking_flaw(answer, {**ASKED, **fields}) == flaw


def test_the_best_come_first_and_equal_ones_in_the_order_of_their_documents() -> None:
    assert find_ranking_flaw(SOUND, ASKED) is None

    arranged = arrange_ranking(SOUND, ASKED, "upstream-model")

    assert arranged["results"] == [result(1, 2), result(0, -3.5), result(2, -3.5)]
    assert (arranged["object"], arranged["model"]) == ("list", "upstream-model")


def test_no_more_come_out_than_were_asked_for() -> None:
    arranged = arrange_ranking(SOUND, {**ASKED, "top_n": 2}, "m")

    assert [each["index"] for each in arranged["results"]] == [1, 0]


def test_documents_are_the_callers_own() -> None:
    echoed = reply(*({**each, "document": "something else"} for each in SOUND["results"]))

    without = arrange_ranking(echoed, ASKED, "m")
    arranged = arrange_ranking(echoed, {**ASKED, "return_documents": True}, "m")

    assert all("document" not in each for each in without["results"])
    assert [each["document"] for each in arranged["results"]] == [
        {"text": "a cat", "id": 7},
        {"text": "a dog"},
        {"text": "a car"},
    ]


def test_results_may_be_called_data_and_other_fields_stay() -> None:
    answer = {"id": "r", "model": "theirs", "data": SOUND["results"], "usage": {"total_tokens": 5}}

    arranged = arrange_ranking(answer, ASKED, "m")

    assert find_ranking_flaw(answer, ASKED) is None
    assert "data" not in arranged
    assert (arranged["id"], arranged["model"], arranged["usage"]) == ("r", "theirs", {"total_tokens": 5})


@pytest.mark.parametrize(
    ("reported", "usage"),
    [
        ({"prompt_tokens": 4, "total_tokens": 4}, Usage(4)),
        ({"total_tokens": 5}, Usage(5)),
        ({"total_tokens": -5}, None),
        ({}, None),
        (None, None),
        ("many", None),
    ],
)
def test_usage_is_read_where_it_makes_sense(reported: Any, usage: Usage | None) -> None:
    assert read_rank_usage(reported) == usage
