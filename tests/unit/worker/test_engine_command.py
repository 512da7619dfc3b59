"""`gateway engine`: what is told of the engines, and what a build is given."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

from gateway.cli.engine import HOOK, build_command, build_environment, why_not_buildable
from gateway.worker import LLAMA_CPP_PYTHON_VERSION, why_unavailable

ROOT = Path(__file__).parents[3]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gateway", "engine", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_the_list_tells_of_both_engines() -> None:
    done = run("list")

    lines = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert list(lines) == ["xllamacpp", "llama-cpp-python"]
    for name, text in lines.items():
        reason = why_unavailable(name)  # type: ignore[arg-type]  # the names come from the list itself
        assert text == "runs here" if reason is None else text in reason


def test_the_build_is_pinned_and_goes_into_the_running_environment() -> None:
    command = build_command("/some/python")

    assert command[:4] == ["/some/python", "-m", "pip", "install"]
    assert f"llama-cpp-python=={LLAMA_CPP_PYTHON_VERSION}" in command


def test_the_pinned_version_is_the_one_of_the_extra() -> None:
    assert f'"llama-cpp-python=={LLAMA_CPP_PYTHON_VERSION}"' in (ROOT / "pyproject.toml").read_text()


def test_the_build_leaves_out_what_the_engine_does_not_use() -> None:
    environment = build_environment({"PATH": "/bin", "CMAKE_ARGS": "-DGGML_CUDA=ON"})

    flags = shlex.split(environment["CMAKE_ARGS"])
    assert flags[0] == f"-DCMAKE_PROJECT_INCLUDE={HOOK}"
    assert {"-DLLAVA_BUILD=OFF", "-DLLAMA_OPENSSL=OFF", "-DLLAMA_SUBPROCESS=OFF"} < set(flags)
    assert flags[-1] == "-DGGML_CUDA=ON"
    assert environment["PATH"] == "/bin"


def test_the_hook_is_in_the_package() -> None:
    assert "set(LLAMA_BUILD_COMMON OFF)" in HOOK.read_text(encoding="utf-8")


def test_without_a_compiler_it_says_what_is_missing(tmp_path: Path) -> None:
    assert "cc (apt install build-essential)" in why_not_buildable({"PATH": str(tmp_path)})


def test_the_operators_own_compiler_is_looked_for(tmp_path: Path) -> None:
    assert "there is no my-cc" in why_not_buildable({"PATH": str(tmp_path), "CC": "my-cc -m64"})
