"""What the plan of a deployment says of its vectors: their size, how many at once, and which model they are of."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.config import Config, resolve
from gateway.routing import DeploymentPlan

Load = Callable[..., Config]
HOSTED = "providers: {lab: {kind: openai, base_url: 'http://lab.test/v1', api_key: k%s}}\n"
ALIAS = "models: {vectors: {deployments: [{provider: lab, model: e%s}]}}\n"


def planned(config: Config, alias: str = "vectors") -> DeploymentPlan:
    return resolve(config).plan.routes[alias].deployments[0]


def test_what_is_written_of_a_deployment_is_planned(load_text: Load) -> None:
    more = ", dimensions: 256, max_batch_inputs: 7, max_batch_tokens: 700"

    plan = planned(load_text(HOSTED % "" + ALIAS % more))

    assert (plan.dimensions, plan.max_batch_inputs, plan.max_batch_tokens) == (256, 7, 700)


def test_without_a_word_nothing_is_expected_and_nothing_limited(load_text: Load) -> None:
    plan = planned(load_text(HOSTED % "" + ALIAS % ""))

    assert (plan.dimensions, plan.max_batch_inputs, plan.max_batch_tokens) == (None, None, None)


def test_the_nearest_word_on_a_limit_holds(load_text: Load) -> None:
    provider = HOSTED % ", max_batch_inputs: 10, max_batch_tokens: 1000, models: {e: {max_batch_inputs: 20}}"

    of_model = planned(load_text(provider + ALIAS % ""))
    of_deployment = planned(load_text(provider + ALIAS % ", max_batch_inputs: 30"))

    assert (of_model.max_batch_inputs, of_model.max_batch_tokens) == (20, 1000)
    assert (of_deployment.max_batch_inputs, of_deployment.max_batch_tokens) == (30, 1000)


@pytest.mark.parametrize(
    ("preset", "inputs", "tokens"),
    [("openai", 2048, 300_000), ("azure", 2048, 300_000), ("mistral", 256, 16_384), ("google", 100, None)],
)
def test_presets_have_the_limits_of_their_upstreams(
    load_text: Load, preset: str, inputs: int, tokens: int | None
) -> None:
    text = f"providers: {{{preset}: {{api_key: k, base_url: 'http://lab.test/v1'}}}}\n"

    plan = planned(load_text(text), "embedding")

    assert (plan.max_batch_inputs, plan.max_batch_tokens) == (inputs, tokens)


def test_the_one_model_of_a_preset_that_takes_one_input_has_that_limit(load_text: Load) -> None:
    plan = planned(load_text("providers: {bedrock: {options: {aws_region_name: eu-west-1}}}\n"), "embedding")

    assert plan.max_batch_inputs == 1


def test_a_revision_changes_with_the_far_side_and_with_what_is_written(load_text: Load) -> None:
    litellm = "providers: {lab: {kind: litellm, prefix: %s, api_key: k%s}}\n"
    texts = [
        HOSTED % "" + ALIAS % "",
        (HOSTED % "").replace("lab.test", "new.test") + ALIAS % "",
        HOSTED % "" + ALIAS % ", revision: '2'",
        litellm % ("cohere", "") + ALIAS % "",
        litellm % ("voyage", "") + ALIAS % "",
        litellm % ("voyage", ", base_url: 'http://lab.test/v1'") + ALIAS % "",
    ]

    revisions = [planned(load_text(text)).revision for text in texts]

    assert len(set(revisions)) == len(texts)
    assert revisions == [planned(load_text(text)).revision for text in texts]


LOCAL = "server: {data_dir: %s}\nproviders: {lab: {kind: llamacpp, models: {e: {embedding: true%s}}}}\n"


def test_the_revision_of_a_file_changes_when_it_is_written(load_text: Load, tmp_path: Path) -> None:
    file = tmp_path / "e.gguf"
    text = LOCAL % (tmp_path, f", path: '{file}'") + ALIAS % ""

    missing = planned(load_text(text)).revision
    file.write_bytes(b"one")
    first = planned(load_text(text)).revision
    os.utime(file, ns=(1, 1))
    touched = planned(load_text(text)).revision
    file.write_bytes(b"longer")
    os.utime(file, ns=(1, 1))
    longer = planned(load_text(text)).revision

    assert len({missing, first, touched, longer}) == 4


def test_the_revision_of_an_added_model_is_what_its_files_hash_to(load_text: Load, tmp_path: Path) -> None:
    models, digest = tmp_path / "models", "ab" * 32
    models.mkdir()
    file = {"path": str(models / "e.gguf"), "sha256": digest, "size": 3, "changed_ns": 1}
    source = "hf:owner/repo/e.gguf"
    (models / "e.gguf.json").write_text(json.dumps({"name": "e", "source": source, "files": [file]}))

    by_name = planned(load_text(LOCAL % (tmp_path, "") + ALIAS % "")).revision
    by_source = planned(load_text(LOCAL % (tmp_path, f", path: '{source}'") + ALIAS % "")).revision

    assert digest in by_name
    assert by_source == by_name


def test_a_damaged_record_keeps_nobody_from_starting(load_text: Load, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "e.gguf.json").write_text("{")

    assert planned(load_text(LOCAL % (tmp_path, "") + ALIAS % "")).provider == "lab"


def test_a_model_that_is_spelled_out_has_a_revision_too(load_text: Load) -> None:
    route = resolve(load_text(HOSTED % "")).plan.direct("lab/other")

    assert route is not None
    assert route.deployments[0].revision == "http://lab.test/v1"
