"""The README is true: its blocks run, its tables are those of the code."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import openai
import pytest
from aiohttp import web

from gateway.app import build
from gateway.config import parse
from gateway.packaged import CATALOG
from gateway.providers.presets import ALIASES, preset_names, read_preset
from tests.support.command import COMMAND, Gateway, environment, run

ROOT = Path(__file__).parents[2]
ADDRESS = "http://127.0.0.1:8080"

# Blocks that are not run, each with the reason.
NOT_RUN = {
    "make run\n": "serves until it is stopped; the session's gateway is what it starts",
    "make test\n": "is what runs this test",
    "OPENAI_API_KEY=sk-... make run\n": "needs an account; test_default.py has a hosted provider in front",
}


def blocks(language: str) -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return [body for name, body in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S) if name == language]


def first_line(block: str) -> str:
    return block.splitlines()[0]


def test_every_block_has_a_language_that_is_checked(readme: str) -> None:
    languages = re.findall(r"^```(\w*)\n.*?^```$", readme, re.M | re.S)

    assert set(languages) == {"bash", "json", "python", "yaml"}


def test_the_list_of_blocks_that_are_not_run_is_current() -> None:
    assert set(NOT_RUN) <= set(blocks("bash"))


@pytest.mark.parametrize("block", blocks("python"), ids=first_line)
def test_python_blocks_run(block: str, gateway: Gateway, tmp_path: Path) -> None:
    assert ADDRESS in block
    (tmp_path / "block.py").write_text(block.replace(ADDRESS, gateway.base_url))

    ended = subprocess.run(
        [sys.executable, "-W", "error", "block.py"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    said = {comment.strip() for comment in re.findall(r"# (.*)$", block, re.M)}
    assert said <= set(ended.stdout.splitlines())


@pytest.mark.parametrize("block", [block for block in blocks("bash") if block not in NOT_RUN], ids=first_line)
def test_shell_blocks_run(block: str, gateway: Gateway, shipped_directory: Path) -> None:
    path = os.pathsep.join([str(Path(COMMAND).parent), os.environ["PATH"]])

    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.replace(ADDRESS, gateway.base_url)],
        cwd=shipped_directory,
        env=environment({"PATH": path}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("block", blocks("yaml"), ids=first_line)
def test_configurations_load(block: str) -> None:
    environ = {name: f"a-secret-of-{name.lower()}" for name in re.findall(r"\$\{(\w+)", block)}

    config = parse(block, "README.md", environ=environ)

    assert not config.off


def test_the_error_that_is_shown_is_the_one_that_comes(gateway: Gateway) -> None:
    (shown,) = [block for block in blocks("json") if "error" in json.loads(block)]

    status, body = gateway.get("/v1/models/smal")

    assert status == 404
    known = json.loads(body)["error"]
    expected = json.loads(shown)["error"]
    assert {**known, "message": ""} == {**expected, "message": ""}
    assert expected["message"].startswith(known["message"])


def test_the_log_line_that_is_shown_has_the_fields_of_a_real_one(gateway: Gateway, client: openai.OpenAI) -> None:
    (shown,) = [block for block in blocks("json") if "request_id" in json.loads(block)]
    completion = client.chat.completions.create(
        model="small", messages=[{"role": "user", "content": "Say hello."}], max_tokens=4
    )

    def written() -> list[dict[str, object]]:
        return [line for line in gateway.events("request") if line["request_id"] == completion._request_id]

    gateway.wait_for(written)

    assert list(written()[0]) == list(json.loads(shown))


def test_the_table_of_endpoints_is_the_one_of_the_application(readme: str, tmp_path: Path) -> None:
    config = parse("providers: {lab: {kind: openai, base_url: 'http://127.0.0.1:9/v1'}}", "x.yaml", environ={})
    shown = set(re.findall(r"^\| `((?:GET|POST|DELETE) /\S+)` \|", readme, re.M))

    served = {
        f"{route.method} {route.resource.canonical}"
        for route in build(config, run_dir=tmp_path).router.routes()
        if isinstance(route.resource, web.Resource) and route.method != "HEAD"
    }

    assert shown == served


def test_the_table_of_providers_is_that_of_the_presets(readme: str) -> None:
    for name in set(preset_names()) - set(ALIASES):
        preset = read_preset(name)
        assert preset is not None

        row = next(line for line in readme.splitlines() if line.startswith("| `") and f"`{name}`" in line)

        assert not preset.needs_key or f"`{preset.env}`" in row
        assert (preset.wire == "litellm") == ("make litellm" in row)


def test_the_metrics_that_are_named_are_there(readme: str, gateway: Gateway) -> None:
    page = gateway.get("/metrics")[1].decode()
    named = set(re.findall(r"`(gateway_\w+)`", readme))

    known = {name for name in re.findall(r"^# TYPE (\S+) ", page, re.M) if not name.endswith("_created")}

    assert named - {"gateway_redis_up"} == known  # which is there beside a Redis only


@pytest.mark.parametrize("command", ["serve", "check", "models", "routes", "providers", "chaos", "cache", "tokens"])
def test_the_commands_that_are_named_exist(readme: str, command: str, tmp_path: Path) -> None:
    assert f"| `gateway {command}" in readme

    assert run(command, "--help", directory=tmp_path).returncode == 0


# What packages say in their licence files only, or not in the form of an expression.
ELSEWHERE = {
    "apsw": ["any-OSI; SQLite is in the public domain"],
    "pybase64": ["BSD-2-Clause"],
    "splintr-rs": ["MIT; the vocabularies in it are under the terms of their makers"],
    "uvloop": ["MIT or Apache-2.0"],
}


def test_the_licences_are_those_of_the_packages(readme: str) -> None:
    rows = dict(re.findall(r"^\| ([\w-]+)(?: \(with [\w.]+\))?(?:, for [\w ]+)? \| (.+) \|$", readme, re.M))
    wanted = [re.split(r"[<>=\[; ]", line)[0] for line in importlib.metadata.requires("one-gateway") or ()]
    extras = [re.search(r"extra == '([\w-]+)'", line) for line in importlib.metadata.requires("one-gateway") or ()]
    core = {
        name.lower().replace("-", "_")
        for name, extra in zip(wanted, extras, strict=True)
        if extra is None or extra[1] == "local"
    }

    assert core <= {name.lower().replace("-", "_") for name in rows}
    for name, licence in rows.items():
        if name.lower().replace("-", "_") in core:
            assert licence in {stated(name), *ELSEWHERE.get(name, ())}, name


def stated(package: str) -> str:
    """Return the licence in a package's own words."""
    about = importlib.metadata.metadata(package)
    classifier = next((line for line in about.get_all("Classifier") or () if line.startswith("License ::")), "")
    # Asked by lists: a backport that litellm brings raises KeyError for a field that is not there.
    found = about.get_all("License-Expression") or about.get_all("License")
    return found[0] if found else classifier.rpartition(" :: ")[2].removesuffix(" License")


def test_the_models_are_those_of_the_catalog(readme: str) -> None:
    for model in CATALOG.values():
        row = next(line for line in readme.splitlines() if line.startswith(f"| {model.title}"))

        assert row.endswith(f"| {model.licence} | package `{model.package}`, {model.package_licence} |")
    fetched = sum(model.wheel_size for model in CATALOG.values())
    kept = sum(model.file_size for model in CATALOG.values())
    assert f"({fetched / 1e6:.0f} MB, from the Python package index" in readme
    assert f"{kept / 1e6:.0f} MB for the models" in readme


def test_links_lead_to_files(readme: str) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", readme):
        assert (ROOT / target).exists(), target


def test_make_knows_the_targets_that_are_named(readme: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")

    for target in set(re.findall(r"`make (\w+)`", readme)):
        assert re.search(rf"^{target}:", makefile, re.M), target
