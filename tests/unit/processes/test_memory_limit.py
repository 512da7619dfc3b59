"""The memory of a model process is limited by the kernel, so that one that runs away ends alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.worker.confinement import FIRST_TO_GO

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit holds on Linux")

LIMITED = "import sys; from gateway.worker.confinement import confine, limit_memory; limit_memory({}, threads={}); "
WORKER = "from gateway.worker.process import main; main()"


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-c", code, *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(("wanted", "code"), [(100, 0), (400, 1)])
def test_memory_up_to_the_limit_is_had_and_more_is_not(wanted: int, code: int) -> None:
    ended = run(LIMITED.format(128, 0) + f"kept = bytearray({wanted} << 20)")

    assert ended.returncode == code
    assert ("MemoryError" in ended.stderr) is bool(code)


def test_a_file_that_is_mapped_does_not_count(tmp_path: Path) -> None:
    file = tmp_path / "large"
    with file.open("wb") as made:
        made.truncate(1 << 30)

    ended = run(
        LIMITED.format(64, 0) + "import mmap; f = open(sys.argv[1], 'rb');"
        "kept = mmap.mmap(f.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ); print(len(kept))",
        str(file),
    )

    assert ended.stdout == f"{1 << 30}\n"


def test_threads_have_their_stacks_besides() -> None:
    code = "import threading; go = threading.Event(); threads = [threading.Thread(target=go.wait) for _ in range(100)];"

    ended = run(LIMITED.format(64, 100) + code + "[one.start() for one in threads]; go.set(); print('all')")

    assert ended.stdout == "all\n"


def test_a_limit_that_is_lower_already_stays() -> None:
    lower = "import resource; resource.setrlimit(resource.RLIMIT_DATA, (1 << 28, 1 << 28)); "

    ended = run(lower + LIMITED.format(4096, 0) + "print(resource.getrlimit(resource.RLIMIT_DATA)[0])")

    assert ended.stdout == f"{1 << 28}\n"


def test_the_kernel_ends_a_model_before_the_gateway() -> None:
    ended = run(LIMITED.format(4096, 0) + "confine(); print(open('/proc/self/oom_score_adj').read().strip())")

    assert ended.stdout == f"{FIRST_TO_GO}\n"


@pytest.mark.parametrize(("mebibytes", "window", "event"), [(90, 256, "ready"), (64, 8192, "failed")])
def test_a_real_model_is_let_in_although_its_file_is_larger_and_a_window_beyond_the_limit_is_not(
    chat_gguf: Path, short_path: Path, mebibytes: int, window: int, event: str
) -> None:
    arguments = ["--model", str(chat_gguf), "--socket", str(short_path / "m.sock"), "--name", "m"]
    shape = ["--slots", "1", "--context-window", str(window), "--keep-alive", "0.01"]

    ended = run(LIMITED.format(mebibytes, 10) + WORKER, *arguments, *shape)

    assert json.loads(ended.stdout.splitlines()[0])["event"] == event, ended.stderr
