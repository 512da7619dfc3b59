"""A name becomes the deployments that may answer it, for those who may use it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.call import Caller
from gateway.errors import ModelNotFound, PermissionDenied
from tests.support.deployments import ScriptedProvider, make_table
from tests.support.exchanges import ANYONE, make_call

ROUTES = {"small": ["lab/tiny", "cloud/mini"], "large": ["cloud/big"], "vendor/with slash": ["lab/tiny"]}
RESTRICTED = Caller("app", "user", frozenset({"small"}))


def test_an_alias_has_its_deployments_in_their_configured_order() -> None:
    route = make_table(ROUTES).resolve(make_call("small"))

    assert [deployment.name for deployment in route.deployments] == ["lab/tiny", "cloud/mini"]
    assert [deployment.label for deployment in route.deployments] == ["lab/tiny", "cloud/mini"]
    assert route.label == "small"


def test_a_spelled_out_name_is_one_deployment_and_other_in_metrics() -> None:
    route = make_table(ROUTES).resolve(make_call("cloud/never-heard-of"))

    assert [deployment.name for deployment in route.deployments] == ["cloud/never-heard-of"]
    assert [deployment.label for deployment in route.deployments] == ["cloud/other"]
    assert (route.alias, route.label) == ("cloud/never-heard-of", "other")


def test_a_configured_alias_wins_over_a_spelled_out_name() -> None:
    table = make_table({"cloud/big": ["lab/tiny"], "x": ["cloud/big"]})

    route = table.resolve(make_call("cloud/big"))

    assert [deployment.name for deployment in route.deployments] == ["lab/tiny"]
    assert route.label == "cloud/big"


@pytest.mark.parametrize(
    ("asked", "hint"),
    [("smal", " Did you mean 'small'?"), ("larg", " Did you mean 'large'?"), ("gpt-4o", ""), ("nobody/x", "")],
)
def test_an_unknown_name_is_not_found_with_the_nearest_that_is_known(asked: str, hint: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        make_table(ROUTES).resolve(make_call(asked))

    listed = ", ".join(ROUTES)
    assert (
        caught.value.message
        == f"The model '{asked}' does not exist or you do not have access to it.{hint} You may use: {listed}."
    )
    assert (caught.value.param, caught.value.code) == ("model", "model_not_found")


def test_a_suggestion_never_names_what_the_caller_may_not_use() -> None:
    with pytest.raises(ModelNotFound) as caught:
        make_table(ROUTES).resolve(make_call("larg", caller=RESTRICTED))

    assert "large" not in caught.value.message.removeprefix("The model 'larg'")


def test_an_endless_name_is_cut_in_the_message() -> None:
    with pytest.raises(ModelNotFound) as caught:
        make_table(ROUTES).resolve(make_call("x" * 100_000))

    assert len(caught.value.message) < 250


@pytest.mark.parametrize("alias", ["large", "cloud/big", "lab/tiny"])
def test_a_caller_may_use_only_its_own_names(alias: str) -> None:
    with pytest.raises(PermissionDenied) as caught:
        make_table(ROUTES).resolve(make_call(alias, caller=RESTRICTED))

    assert (caught.value.status, caught.value.param, caught.value.code) == (403, "model", "model_not_allowed")


def test_the_list_and_the_single_model_show_what_the_caller_may_use() -> None:
    table = make_table(ROUTES)

    assert [route.alias for route in table.visible(ANYONE)] == list(ROUTES)
    assert [route.alias for route in table.visible(RESTRICTED)] == ["small"]
    assert table.find("small", RESTRICTED) is not None
    assert table.find("large", RESTRICTED) is None
    assert table.find("cloud/any", ANYONE) is not None
    assert table.find("nobody/any", ANYONE) is None


async def test_an_alias_is_unready_when_none_of_its_deployments_is_ready() -> None:
    lab, cloud = ScriptedProvider("lab"), ScriptedProvider("cloud")
    table = make_table(ROUTES, [lab, cloud])
    cloud.is_available = False

    assert await table.unready() == ["large"]


def test_an_alias_may_be_called_other_and_its_deployments_are_configured_all_the_same() -> None:
    route = make_table({"other": ["lab/tiny"]}).resolve(make_call("other"))

    assert [(deployment.label, deployment.is_configured) for deployment in route.deployments] == [("lab/tiny", True)]


def test_vectors_are_not_waited_for_at_a_model_of_another_space() -> None:
    route = make_table({"vectors": ["lab/e5", "lab/minilm", "cloud/e5"]}).resolve(make_call("vectors"))
    waiting = replace(route, patient=replace(route, deployments=route.deployments[:2]))

    found = waiting.in_one_space

    assert [each.name for each in found.deployments] == ["lab/e5", "cloud/e5"]
    assert found.patient is not None
    assert [each.name for each in found.patient.deployments] == ["lab/e5"]
