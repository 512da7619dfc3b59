"""Memory that a large answer took stays for the next one."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")

BUILD_ANSWERS = """
import resource, sys
from gateway.processes.allocator import keep_freed_pages
kept = keep_freed_pages() if sys.argv[1] == "kept" else None
def build():
    return b"".join([bytes([place]) * 8192 for place in range(64)])
for _ in range(10):
    build()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(100):
    build()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def build_answers(how: str, **environment: str) -> tuple[str, int]:
    """Return what `keep_freed_pages` said, and how often a page was mapped for a hundred answers of half a megabyte."""
    ended = subprocess.run(
        [sys.executable, "-c", BUILD_ANSWERS, how],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
    )
    kept, faults = ended.stdout.split()
    return kept, int(faults)


def test_the_pages_of_an_answer_are_not_mapped_anew_for_the_next() -> None:
    kept, faults = build_answers("kept")

    assert kept == "True"
    assert faults < 1000
    assert build_answers("as it is")[1] > 10 * max(faults, 100)


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
def test_what_an_operator_has_set_holds(name: str) -> None:
    assert (
        build_answers("kept", **{name: "131072" if name.startswith("M") else "glibc.malloc.trim_threshold=131072"})[0]
        == "False"
    )
