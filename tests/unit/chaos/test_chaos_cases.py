"""Which cases a configuration has: who shares a fault, and what can be survived."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.chaos.cases import Case, candidates, cases
from gateway.chaos.faults import faults
from gateway.chaos.running import UnknownName, Wishes, find_weak, make_field
from gateway.config import Config, parse, resolve

BY_NAME = {fault.name: fault for fault in faults()}


def configure(models: dict[str, Any], **providers: dict[str, Any]) -> Config:
    return parse(json.dumps({"providers": providers, "models": models}), "gateway.yaml", environ={})


def server(host: str, key: str = "", **fields: Any) -> dict[str, Any]:
    return {"kind": "openai", "base_url": f"http://{host}/v1", "api_key": key, **fields}


def cases_of(config: Config, fault: str, form: str = "chat") -> list[Case]:
    field = make_field(config, resolve(config), Wishes())
    return [case for case in cases(field, [BY_NAME[fault]]) if case.form == form]


TWO = configure({"a": {"deployments": ["one/x", "two/y"]}}, one=server("one.test"), two=server("two.test"))
SAME_KEY = configure(
    {"a": {"deployments": ["one/x", "two/y", "three/z"]}},
    one=server("one.test", "k"),
    two=server("one.test", "k"),
    three=server("one.test", "other"),
)


def test_each_deployment_has_its_turn_and_then_all() -> None:
    found = cases_of(TWO, "server-error")

    assert [(case.where, set(case.broken), case.survivable) for case in found] == [
        ("one/x", {"one/x"}, True),
        ("two/y", {"two/y"}, True),
        ("all", {"one/x", "two/y"}, False),
    ]


def test_a_fault_that_comes_after_content_or_blames_the_request_cannot_be_survived() -> None:
    found = [*cases_of(TWO, "stall", "stream"), *cases_of(TWO, "bad-request")]

    assert len(found) == 6
    assert not any(case.survivable for case in found)


def test_a_refused_key_hits_all_that_share_it() -> None:
    found = cases_of(SAME_KEY, "bad-key")

    assert [(case.where, set(case.broken), case.survivable) for case in found] == [
        ("one/x", {"one/x", "two/y"}, True),
        ("three/z", {"three/z"}, True),
        ("all", {"one/x", "two/y", "three/z"}, False),
    ]


def test_a_lost_host_hits_all_that_are_on_it_and_is_one_case() -> None:
    found = cases_of(SAME_KEY, "refused")

    assert [(case.where, case.survivable) for case in found] == [("one/x", False)]


def test_a_lone_deployment_is_one_case() -> None:
    config = configure({"a": {"deployments": ["one/x"]}}, one=server("one.test"))

    found = cases_of(config, "hang")

    assert [(case.where, case.survivable) for case in found] == [("one/x", False)]


def test_embeddings_are_answered_only_in_one_space() -> None:
    classes = {"embedding": "e-small"}
    config = configure(
        {"vectors": {"deployments": ["one/embedding", "two/embedding"]}},
        one=server("one.test", classes=classes),
        two=server("two.test", classes=classes),
    )
    route = next(each for each in make_field(config, resolve(config), Wishes()).routes if each.alias == "embedding")

    found = cases_of(config, "server-error", "embeddings")

    assert [each.name for each in candidates(route, "embeddings")] == ["one/e-small"]
    assert [(case.alias, case.where) for case in found] == [
        ("embedding", "one/e-small"),
        ("vectors", "one/e-small"),
        ("vectors", "two/e-small"),
        ("vectors", "all"),
    ]


@pytest.mark.parametrize(
    ("model", "classes", "forms"),
    [
        ("talker", {}, {"chat", "stream"}),
        ("text-embedding-9", {}, {"embeddings"}),
        ("vec", {"embedding": "vec"}, {"embeddings"}),
        ("dall-e-9", {}, {"images"}),
        ("brush", {"image": "brush"}, {"images"}),
    ],
)
def test_an_alias_is_asked_for_what_its_model_is_for(model: str, classes: dict[str, str], forms: set[str]) -> None:
    config = configure({"a": {"deployments": [f"one/{model}"]}}, one=server("one.test", classes=classes))
    field = make_field(config, resolve(config), Wishes(aliases=("a",)))

    found = {case.form for case in cases(field, faults())}

    assert found == forms


def test_a_model_on_this_machine_has_no_key_and_no_host_to_lose() -> None:
    config = configure(
        {"a": {"deployments": ["local/smollm2", "one/x"]}}, local={"kind": "llamacpp"}, one=server("one.test")
    )

    found = [case for name in ("bad-key", "refused", "reset") for case in cases_of(config, name) if case.alias == "a"]

    assert [(case.fault.name, case.where, case.survivable) for case in found] == [
        ("bad-key", "one/x", True),
        ("refused", "one/x", True),
        ("reset", "local/smollm2", True),
        ("reset", "one/x", True),
        ("reset", "all", False),
    ]


def with_fallbacks(*names: str, kind: str = "context_fallbacks") -> Config:
    hosts = {name: server(f"{name}.test") for name in ("one", "two", "three", "four")}
    return configure({"a": {"deployments": ["one/x", "two/y"], kind: list(names)}}, **hosts)


def turns(config: Config, fault: str) -> list[tuple[str, str, set[str], set[str], bool]]:
    found = cases_of(config, fault)
    return [(case.where, case.first, set(case.broken), set(case.failing), case.survivable) for case in found]


def test_what_is_wrong_with_a_request_is_survived_by_those_named_for_it_alone() -> None:
    bare, named = TWO, with_fallbacks("three/z")

    assert [case.survivable for case in cases_of(bare, "context-too-long")] == [False] * 3
    assert turns(named, "context-too-long") == [
        ("one/x", "one/x", {"one/x"}, set(), True),
        ("two/y", "two/y", {"two/y"}, set(), True),
        ("all", "", {"one/x", "two/y"}, set(), True),
        ("three/z as fallback", "one/x", {"one/x"}, {"three/z"}, False),
    ]
    assert {name for case in cases_of(named, "context-too-long") for name in case.deployments} == {
        "one/x",
        "two/y",
        "three/z",
    }


def test_each_fallback_has_its_turn_to_fail_and_then_all() -> None:
    named = with_fallbacks("three/z", "four/w", kind="content_filter_fallbacks")

    found = turns(named, "content-filter")[3:]

    assert found == [
        ("three/z as fallback", "one/x", {"one/x"}, {"three/z"}, True),
        ("four/w as fallback", "one/x", {"one/x"}, {"four/w"}, True),
        ("all fallbacks", "one/x", {"one/x"}, {"three/z", "four/w"}, False),
    ]


def test_the_one_fault_is_not_helped_by_the_fallbacks_of_the_other() -> None:
    named = with_fallbacks("three/z", kind="content_filter_fallbacks")

    found = turns(named, "context-too-long")

    assert [survivable for *_, survivable in found] == [False] * 3


def test_a_fallback_that_is_asked_anyway_says_the_same_again() -> None:
    found = turns(with_fallbacks("one/x"), "context-too-long")

    assert found == [
        ("one/x", "one/x", {"one/x"}, set(), False),
        ("two/y", "two/y", {"two/y"}, set(), True),
        ("all", "", {"one/x", "two/y"}, set(), False),
        ("one/x as fallback", "two/y", {"two/y"}, {"one/x"}, False),
    ]


def test_embeddings_have_no_fallbacks_for_a_context_that_is_too_short() -> None:
    deployments = {"deployments": ["one/text-embed"], "context_fallbacks": ["two/text-embed"]}
    config = configure({"a": deployments}, one=server("one.test"), two=server("two.test"))

    found = cases_of(config, "context-too-long", "embeddings")

    assert [(case.where, case.survivable) for case in found] == [("one/text-embed", False)]


@pytest.mark.parametrize("model", ["x", "text-embed"])
def test_a_deployment_that_is_named_twice_is_one(model: str) -> None:
    config = configure({"a": {"deployments": [f"one/{model}", f"one/{model}"]}}, one=server("one.test"))

    weak = dict(find_weak(make_field(config, resolve(config), Wishes())))

    assert weak == {"a": f"one/{model} is its only deployment, though named 2 times"}


def test_a_deployment_that_is_named_twice_has_time_for_two_attempts() -> None:
    named = {"deployments": ["one/x", "one/x", "two/y"], "context_fallbacks": ["two/y", "two/y"]}
    config = configure({"a": named}, one=server("one.test"), two=server("two.test"))

    attempts = {name: {case.most_attempts for case in cases_of(config, name)} for name in ("hang", "context-too-long")}

    assert attempts == {"hang": {3}, "context-too-long": {5}}


def test_deployments_whose_vectors_differ_are_told_of_embeddings() -> None:
    config = configure(
        {"a": {"deployments": ["one/embed-1", "two/embed-2"]}}, one=server("one.test"), two=server("two.test")
    )

    weak = dict(find_weak(make_field(config, resolve(config), Wishes())))

    assert weak == {"a": "only one/embed-1 can answer: the others' vectors are in another space"}


def test_what_one_failure_takes_away_is_told_with_the_reason() -> None:
    config = configure(
        {
            "lone": {"deployments": ["one/x"]},
            "key": {"deployments": ["one/x", "one/y"]},
            "host": {"deployments": ["one/x", "other/y"]},
            "fine": {"deployments": ["one/x", "two/y"]},
        },
        one=server("one.test", "k"),
        other=server("one.test", "o"),
        two=server("two.test"),
    )

    weak = dict(find_weak(make_field(config, resolve(config), Wishes())))

    assert weak.keys() == {"lone", "key", "host"}
    assert weak["lone"] == "one/x is its only deployment"
    assert "share a host and a key" in weak["key"]
    assert weak["host"] == "one/x, other/y share a host: when it is lost, all are"


def test_an_alias_that_does_not_exist_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"unknown alias 'aa'; did you mean a\?"):
        make_field(TWO, resolve(TWO), Wishes(aliases=("aa",)))


def test_no_providers_are_no_routes(tmp_path: Path) -> None:
    config = parse('{"providers": {"openai": {}}}', str(tmp_path / "gateway.yaml"), environ={})

    field = make_field(config, resolve(config), Wishes())

    assert list(cases(field, faults())) == []
