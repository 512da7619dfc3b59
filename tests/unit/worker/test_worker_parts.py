"""The small parts of the worker: command line, plan, machine, engine parameters, socket, load log."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.worker import EXIT_NO_ENGINE, why_unavailable
from gateway.worker.confinement import claim_socket
from gateway.worker.engine import Plan, choose
from gateway.worker.gguf_header import GgufSummary
from gateway.worker.load_log import LoadLog
from gateway.worker.machine import missing_features, why_library_missing, why_package_missing
from gateway.worker.plan import engine_socket, make_plan
from gateway.worker.reports import Failure
from gateway.worker.settings import LONGEST_SOCKET_BYTES, WorkerSettings, parse_arguments
from gateway.worker.xllamacpp_engine import _fill

NEEDED = ["--model", "m.gguf", "--socket", "m.sock", "--name", "tiny"]
SUMMARY = GgufSummary("llama", 2048, 64, None, has_chat_template=True, tensor_count=1)


def test_paths_of_the_command_line_become_absolute() -> None:
    settings = parse_arguments(NEEDED)

    assert settings == WorkerSettings(Path.cwd() / "m.gguf", Path.cwd() / "m.sock", "tiny")


def test_every_option_is_taken() -> None:
    settings = parse_arguments(
        [*NEEDED, "--embedding", "--threads", "3", "--slots", "2", "--context-window", "512", "--engine", "xllamacpp"]
    )

    assert (settings.embedding, settings.threads, settings.slots) == (True, 3, 2)
    assert (settings.context_window, settings.engine) == (512, "xllamacpp")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "--model"),
        ([*NEEDED, "--slots", "0"], "--slots: must be a number"),
        ([*NEEDED, "--threads", "-1"], "--threads"),
        ([*NEEDED, "--threads", "many"], "--threads: must be a number"),
        ([*NEEDED, "--context-window", "99999999"], "--context-window"),
        ([*NEEDED, "--engine", "other"], "--engine"),
        ([*NEEDED, "--port", "80"], "--port"),
        (["--model", "m", "--name", "n", "--socket", "0.0.0.0"], "must end in .sock"),
        (["--model", "m", "--name", "n", "--socket", "d" * 100 + ".sock"], "at most 103 bytes"),
    ],
)
def test_a_wrong_command_line_is_told_in_one_clause(arguments: list[str], complaint: str) -> None:
    with pytest.raises(Failure, match=complaint):
        parse_arguments(arguments)


def plan(**changes: Any) -> Plan:
    given = {"model": Path("m.gguf"), "socket": Path("m.sock"), "name": "tiny", **changes}
    return make_plan(WorkerSettings(**given), SUMMARY, cores=4)


def test_one_core_is_left_to_the_gateway() -> None:
    assert plan().threads == 3


def test_a_single_core_is_used() -> None:
    settings = WorkerSettings(Path("m.gguf"), Path("m.sock"), "tiny")

    assert make_plan(settings, SUMMARY, cores=1).threads == 1


@pytest.mark.parametrize(("asked", "trained", "window"), [(None, 2048, 2048), (None, 131072, 8192), (512, 2048, 512), (9999, 2048, 2048), (32768, 131072, 32768), (None, None, 8192)])  # fmt: skip
def test_the_window_is_the_trained_one_at_most(asked: int | None, trained: int | None, window: int) -> None:
    settings = WorkerSettings(Path("m.gguf"), Path("m.sock"), "tiny", context_window=asked)
    summary = GgufSummary("llama", trained, 64, None, has_chat_template=True, tensor_count=1)

    assert make_plan(settings, summary, cores=2).context_window == window


def test_embeddings_are_computed_one_at_a_time() -> None:
    assert plan(embedding=True, slots=8).slots == 1
    assert plan(slots=8).slots == 8


def test_an_exclusive_model_answers_one_at_a_time() -> None:
    assert plan(exclusive=True, slots=8).slots == 1


def test_an_engine_listens_beside_its_front_even_where_room_is_short() -> None:
    front = Path("/" + "d" * (LONGEST_SOCKET_BYTES - 10) + "/m.sock")

    assert engine_socket(Path("/run/m.sock")) == Path("/run/m-engine.sock")
    assert len(str(front)) <= LONGEST_SOCKET_BYTES - 2
    assert len(str(engine_socket(front))) <= LONGEST_SOCKET_BYTES


def test_ranks_and_layers_on_a_gpu_are_passed_on() -> None:
    import xllamacpp

    params = xllamacpp.CommonParams()

    _fill(params, plan(rerank=True, embedding=True, gpu_layers=7), Path("m-engine.sock"), xllamacpp)

    assert params.pooling_type == xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_RANK
    assert (params.embedding, params.n_parallel, params.n_gpu_layers) == (True, 1, 7)


def test_the_mean_is_taken_where_the_model_names_no_pooling() -> None:
    assert plan(embedding=True).mean_pooling
    assert not plan().mean_pooling


CPUINFO = "processor\t: 0\nmodel name\t: old\nflags\t\t: fpu sse4_2 avx fma\n\nprocessor\t: 1\nflags\t\t: avx2\n"


def test_missing_processor_features_are_named() -> None:
    assert missing_features(CPUINFO, ("avx2", "fma", "bmi2")) == ["avx2", "bmi2"]


def test_a_processor_that_lists_nothing_is_not_judged() -> None:
    assert missing_features("processor: 0\nFeatures: neon\n", ("avx2",)) == []


def test_a_missing_library_is_told_with_its_package() -> None:
    assert why_library_missing(("libc.so.6",)) is None
    assert why_library_missing(("libnosuch.so.9",)) == "the system library libnosuch.so.9 is missing"


def test_a_missing_package_is_told_with_its_extra() -> None:
    assert why_package_missing("pytest", "dev") is None
    assert "pip install 'one-gateway[local]'" in (why_package_missing("no_such_package", "local") or "")


def test_this_machine_has_an_engine() -> None:
    assert why_unavailable() is None
    assert choose("auto").name == "xllamacpp"


def test_asking_for_the_engine_imports_none() -> None:
    script = (
        "import sys, gateway.worker as w; w.why_unavailable();"
        "print([n for n in ('xllamacpp', 'numpy', 'gguf', 'pydantic', 'aiohttp') if n in sys.modules])"
    )

    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout

    assert printed.strip() == "[]"


def test_a_parameter_that_the_binding_lost_is_named() -> None:
    threads = SimpleNamespace(n_threads=0)
    params = SimpleNamespace(model=SimpleNamespace(path=""), cpuparams=threads, cpuparams_batch=threads)

    with pytest.raises(Failure, match="no parameter n_ctx") as caught:
        _fill(params, plan(), Path("m-engine.sock"), SimpleNamespace())

    assert caught.value.exit_code == EXIT_NO_ENGINE


def test_the_installed_binding_has_every_parameter() -> None:
    import xllamacpp

    params = xllamacpp.CommonParams()

    _fill(params, plan(embedding=True, context_window=1024), Path("m-engine.sock"), xllamacpp)

    assert (params.n_ctx, params.n_parallel, params.cpuparams.n_threads) == (1024, 1, 3)
    assert params.hostnames == ["m-engine.sock"]


def test_a_directory_that_others_may_read_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)

    with pytest.raises(Failure, match="mode 0700"):
        claim_socket(tmp_path / "m.sock")


def test_a_missing_directory_is_told(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="No such file"):
        claim_socket(tmp_path / "none" / "m.sock")


def test_a_file_in_the_place_of_the_socket_stays(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    file = tmp_path / "m.sock"
    file.write_text("precious")

    with pytest.raises(Failure, match="in the place of the socket"):
        claim_socket(file)

    assert file.read_text() == "precious"


def test_a_stale_socket_is_removed(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    path = tmp_path / "m.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))

    claim_socket(path)

    assert not path.exists()


def test_the_reason_of_a_failed_load_is_found_and_nothing_is_lost(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with LoadLog(tmp_path / "m.sock") as log:
        os.write(
            2,
            b"0.1 E llama_model_load: error loading model: error loading model hyperparameters: key not found\nmore\n",
        )
        reason = log.reason()

    assert reason == "key not found"
    assert "more\n" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_a_crashed_load_wrote_is_passed_on_by_the_next_one(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m.load.log").write_text("GGML_ASSERT(x) failed\n")

    with LoadLog(tmp_path / "m.sock"):
        pass

    assert "GGML_ASSERT(x) failed" in capfd.readouterr().err
