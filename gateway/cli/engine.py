"""`gateway engine`: what runs local models on this machine, and the build of the one that comes as source."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import typer

from gateway.worker import LLAMA_CPP_PYTHON_VERSION, EngineName, why_unavailable

app = typer.Typer(
    name="engine",
    help="What runs local models on this machine.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

HOOK = Path(__file__).with_name("llama_build_hook.cmake")
# Vision, downloads and tools that the engine does not use; with the hook a third of the time of a plain build.
FLAGS = ("-DLLAVA_BUILD=OFF", "-DLLAMA_OPENSSL=OFF", "-DLLAMA_SUBPROCESS=OFF")
REQUIREMENTS = (f"llama-cpp-python=={LLAMA_CPP_PYTHON_VERSION}", "numpy>=1.26", "jinja2>=3.1")


@app.command("list")
def list_engines() -> None:
    """Show which engines run here, the preferred one first, and why the others do not."""
    for name in get_args(EngineName):
        if name != "auto":
            reason = why_unavailable(name)
            text = "runs here" if reason is None else reason.removeprefix(f"no engine can run: {name}: ")
            typer.echo(f"{name}: {text}")


@app.command("build")
def build_engine(
    force: bool = typer.Option(False, "--force", help="Build it even if it is there."),  # noqa: FBT003  # typer's way to declare a flag
) -> None:
    """Compile llama-cpp-python for this machine, which takes some minutes and needs a C++ compiler."""
    if not force and why_unavailable("llama-cpp-python") is None:
        typer.echo(f"llama-cpp-python {LLAMA_CPP_PYTHON_VERSION} is there; --force builds it again")
        return
    reason = why_not_buildable(os.environ)
    if reason:
        typer.echo(f"error: {reason}", err=True)
        raise typer.Exit(1)
    typer.echo(f"building llama-cpp-python {LLAMA_CPP_PYTHON_VERSION}; this takes some minutes")
    done = subprocess.run(build_command(sys.executable, again=force), env=build_environment(os.environ), check=False)
    if done.returncode != 0:
        typer.echo("error: the build failed; what pip wrote above says why", err=True)
        raise typer.Exit(1)
    problem = why_unavailable("llama-cpp-python")
    typer.echo(problem or "llama-cpp-python runs here", err=problem is not None)
    raise typer.Exit(0 if problem is None else 1)


def why_not_buildable(environment: Mapping[str, str]) -> str:
    """Return what this machine lacks for a build, "" when it has all."""
    if importlib.util.find_spec("pip") is None:
        return "this Python has no pip (python -m ensurepip)"
    for variable, usual in (("CC", ("cc", "gcc", "clang")), ("CXX", ("c++", "g++", "clang++"))):
        wanted = shlex.split(environment.get(variable, ""))[:1] or usual
        if not any(shutil.which(name, path=environment.get("PATH")) for name in wanted):
            return f"there is no {wanted[0]} (apt install build-essential)"
    return ""


def build_command(python: str, *, again: bool = False) -> list[str]:
    """Return the command that installs the engine where `python` lives; `again` compiles even what is cached."""
    anew = ["--force-reinstall", "--no-cache-dir", "--no-deps"] if again else []
    return [python, "-m", "pip", "install", "--no-binary=llama-cpp-python", *anew, *REQUIREMENTS]


def build_environment(base: Mapping[str, str]) -> dict[str, str]:
    """Return the variables for the build; an operator's own CMAKE_ARGS come last and win."""
    own = base.get("CMAKE_ARGS", "")
    flags = shlex.join([f"-DCMAKE_PROJECT_INCLUDE={HOOK}", *FLAGS])
    return {**base, "CMAKE_ARGS": f"{flags} {own}".strip()}
