"""The real command: how it starts, what it survives, how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import aiohttp
import psutil
import pytest

from gateway import __version__
from tests.support.command import COMMAND, Gateway, environment, run, serving
from tests.support.upstream import Chat, Gate, Held, ScriptedUpstream

NO_MODELS = """
providers:
  lab: {kind: openai, base_url: "http://127.0.0.1:9/v1", api_key: x}
models:
  small: {deployments: [{provider: lab, model: tiny-1}]}
"""


def yaml_for(upstream: ScriptedUpstream, *, server: str = "{}") -> str:
    return f"""
server: {server}
providers:
  lab: {{kind: openai, base_url: "{upstream.base_url}", api_key: x}}
models:
  small: {{deployments: [{{provider: lab, model: tiny-1}}]}}
"""


def workers_of(gateway: Gateway) -> list[psutil.Process]:
    return [child for child in children_of(gateway) if "gateway.processes.serving" in " ".join(child.cmdline())]


def models_of(gateway: Gateway) -> list[psutil.Process]:
    return [child for child in children_of(gateway) if "gateway.worker" in " ".join(child.cmdline())]


def children_of(gateway: Gateway) -> list[psutil.Process]:
    return psutil.Process(gateway.pid).children(recursive=True)


def run_directories(where: Path) -> list[Path]:
    return [path for path in where.iterdir() if path.name.startswith("gateway-")]


@contextmanager
def temporary() -> Iterator[Path]:
    """Return a directory of its own for temporary files, short enough for Unix sockets."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="gw") as made:
        yield Path(made)


def gone(processes: list[psutil.Process], within_seconds: float) -> bool:
    return not psutil.wait_procs(processes, timeout=within_seconds)[1]


@asynccontextmanager
async def streaming(gateway: Gateway) -> AsyncIterator[aiohttp.StreamReader]:
    """Begin a stream; its first event has arrived."""
    body = {"model": "small", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{gateway.api_url}/chat/completions", json=body) as response,
    ):
        assert response.status == 200
        assert (await response.content.readline()).startswith(b"data: {")
        yield response.content


def test_f96_sigterm_ends_an_idle_gateway_at_once(tmp_path: Path) -> None:
    with serving(NO_MODELS, tmp_path) as gateway:
        children = children_of(gateway)
        began = time.monotonic()

        code = gateway.stop()

        assert time.monotonic() - began <= 1.0
        assert code == 0
        assert gone(children, 0)


def test_ctrl_c_ends_it_as_sigterm_does(tmp_path: Path) -> None:
    with serving(NO_MODELS, tmp_path) as gateway:
        gateway.send(signal.SIGINT)

        assert gateway.wait() == 0


def test_what_it_says_on_standard_error_is_json_a_line(tmp_path: Path) -> None:
    with serving(NO_MODELS, tmp_path) as gateway:
        gateway.stop()

        events = [json.loads(line)["event"] for line in gateway.lines]

    assert events[0] == "listening"
    assert events[-1] == "stopped"


def test_the_run_directory_is_private_and_removed_at_the_end(tmp_path: Path) -> None:
    with temporary() as temp, serving(NO_MODELS, tmp_path, environ={"TMPDIR": str(temp)}) as gateway:
        (made,) = run_directories(temp)
        mode = stat.S_IMODE(made.stat().st_mode)

        gateway.stop()

        assert mode == 0o700
        assert not run_directories(temp)


def test_f108_a_wrong_configuration_ends_with_78_and_a_line_for_each_mistake(tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text("server: {prot: 8080}\nprovider: {}\n")

    ended = run("serve", "--config", "gateway.yaml", directory=tmp_path)

    assert ended.returncode == 78
    first, second = ended.stderr.splitlines()
    assert "gateway.yaml:1" in first
    assert "gateway.yaml:2" in second


def test_a_missing_configuration_ends_with_78(tmp_path: Path) -> None:
    ended = run("serve", "--config", "nowhere.yaml", directory=tmp_path)

    assert ended.returncode == 78
    assert len(ended.stderr.splitlines()) == 1
    assert "nowhere.yaml" in ended.stderr


def test_t20_an_open_gateway_refuses_to_listen_beyond_this_machine(tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text(NO_MODELS)

    ended = run("serve", "--config", "gateway.yaml", "--host", "0.0.0.0", "--port", "0", directory=tmp_path)

    assert ended.returncode == 78


def test_f111_a_port_in_use_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text(NO_MODELS)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        ended = run("serve", "--config", "gateway.yaml", "--port", str(port), directory=tmp_path)

    assert ended.returncode == 1
    assert ended.stderr == (
        f"Port {port} on 127.0.0.1 is in use by another program; choose another with --port or server.port.\n"
    )


def test_two_gateways_do_not_share_a_port(tmp_path: Path) -> None:
    with serving(NO_MODELS, tmp_path) as gateway:
        port = gateway.base_url.rpartition(":")[2]

        ended = run("serve", "--config", "gateway.yaml", "--port", port, directory=tmp_path)

        assert ended.returncode == 1
        assert gateway.get("/healthz")[0] == 200


def test_t36_without_the_compiled_parser_it_refuses_to_serve(tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text(NO_MODELS)

    ended = run(
        "serve", "--config", "gateway.yaml", "--port", "0", directory=tmp_path, environ={"AIOHTTP_NO_EXTENSIONS": "1"}
    )

    assert ended.returncode == 69
    assert "compiled parser" in ended.stderr


@pytest.mark.parametrize(
    ("limit", "line"),
    [("-f 0", "No temporary directory can be made"), ("-n 9", "No process can be started")],
    ids=["nothing may be written", "no descriptor is left"],
)
def test_a_machine_that_gives_it_no_room_is_one_clear_line(tmp_path: Path, limit: str, line: str) -> None:
    (tmp_path / "gateway.yaml").write_text(NO_MODELS)

    ended = subprocess.run(
        ["sh", "-c", f'ulimit {limit}; exec "{COMMAND}" serve --port 0'],
        cwd=tmp_path,
        env=environment({"PYTHONDONTWRITEBYTECODE": "1"}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert ended.returncode == 1
    assert ended.stderr.startswith(line)
    assert len(ended.stderr.splitlines()) == 1


def test_make_run_passes_options_on() -> None:
    said = subprocess.run(
        ["make", "-n", "run", "ARGS=--port 9000"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )

    assert any(line.endswith("gateway serve --config gateway.yaml --port 9000") for line in said.stdout.splitlines())


def test_a_hangup_ends_it_unless_it_was_started_to_stay(tmp_path: Path) -> None:
    with serving(NO_MODELS, tmp_path) as gateway:
        gateway.send(signal.SIGHUP)

        assert gateway.wait() == 0


@pytest.mark.parametrize("host", ["localhost", "::1"])
def test_it_listens_on_other_names_of_this_machine(tmp_path: Path, host: str) -> None:
    try:
        socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError:  # a machine without IPv6
        ended = run("serve", "--config", "gateway.yaml", "--host", host, directory=tmp_path)
        assert ended.returncode != 0
        return

    with serving(NO_MODELS, tmp_path, arguments=("--host", host)) as gateway:
        assert gateway.get("/healthz")[0] == 200


def test_f101_a_killed_worker_is_replaced_while_the_port_answers(tmp_path: Path) -> None:
    with serving("server: {workers: 2}\n" + NO_MODELS, tmp_path) as gateway:
        gateway.wait_for(lambda: len(gateway.events("worker_ready")) == 2)
        before = {worker.pid for worker in workers_of(gateway)}
        victim = min(before)

        os.kill(victim, signal.SIGKILL)
        gateway.wait_for(lambda: gateway.events("worker_ended"))
        answers = [gateway.get("/healthz")[0] for _ in range(20)]
        gateway.wait_for(lambda: len(gateway.events("worker_ready")) == 3)

        assert answers == [200] * 20
        assert gateway.events("worker_ended")[0]["cause"] == "killed by SIGKILL"
        assert len({worker.pid for worker in workers_of(gateway)} - before) == 1


def test_a_single_worker_comes_back_too(tmp_path: Path) -> None:
    with serving(NO_MODELS, tmp_path) as gateway:
        os.kill(workers_of(gateway)[0].pid, signal.SIGKILL)

        gateway.wait_for(lambda: len(gateway.events("worker_ready")) == 2)

        assert gateway.get("/healthz")[0] == 200


def test_nothing_outlives_a_parent_that_was_killed(tmp_path: Path) -> None:
    with serving("server: {workers: 2}\n" + NO_MODELS, tmp_path) as gateway:
        gateway.wait_for(lambda: len(gateway.events("worker_ready")) == 2)
        children = children_of(gateway)

        gateway.send(signal.SIGKILL)
        gateway.wait()

        assert len(children) == 2
        assert gone(children, 5)


async def test_f97_sigterm_lets_a_running_stream_finish(tmp_path: Path) -> None:
    gate = Gate()
    async with ScriptedUpstream() as upstream:
        upstream.script(Held(Chat(("Hel", "lo")), gate, before=2))
        with serving(yaml_for(upstream, server="{grace_seconds: 30}"), tmp_path) as gateway:
            async with streaming(gateway) as stream:
                gateway.send(signal.SIGTERM)
                await until_refused(gateway)
                gate.open()

                assert (await stream.read()).endswith(b"data: [DONE]\n\n")

            assert await asyncio.to_thread(gateway.wait) == 0


async def test_f97_a_stream_longer_than_the_grace_is_told_why_it_ends(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream:
        upstream.script(Held(Chat(("Hel", "lo")), Gate(), before=2))
        with serving(yaml_for(upstream, server="{grace_seconds: 0.2}"), tmp_path) as gateway:
            async with streaming(gateway) as stream:
                gateway.send(signal.SIGTERM)
                rest = await stream.read()

            assert b"server_shutting_down" in rest
            assert b"[DONE]" not in rest
            assert await asyncio.to_thread(gateway.wait) == 0


@pytest.mark.parametrize("server", ["{}", "{accept_grace_seconds: 30}"])
async def test_f97_during_the_accept_grace_readyz_says_503_and_requests_are_answered(
    tmp_path: Path, server: str
) -> None:
    async with ScriptedUpstream() as upstream:
        upstream.script(Held(Chat(("Hel", "lo")), Gate(), before=2))
        with serving(yaml_for(upstream, server=server), tmp_path) as gateway:
            async with streaming(gateway):
                gateway.send(signal.SIGTERM)
                await asyncio.to_thread(gateway.wait_for, lambda: gateway.get("/readyz")[0] == 503, 2)

                async with streaming(gateway) as stream:
                    assert (await stream.read()).endswith(b"data: [DONE]\n\n")
                gateway.send(signal.SIGTERM)
                assert await asyncio.to_thread(gateway.wait) == 0


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_f98_a_second_signal_ends_it_within_a_second(tmp_path: Path, second: signal.Signals) -> None:
    async with ScriptedUpstream() as upstream:
        upstream.script(Held(Chat(("Hel", "lo")), Gate(), before=2))
        with serving(yaml_for(upstream, server="{grace_seconds: 600}"), tmp_path) as gateway:
            async with streaming(gateway) as stream:
                gateway.send(signal.SIGTERM)
                await until_refused(gateway)
                began = time.monotonic()
                gateway.send(second)

                rest = await stream.read()
                code = await asyncio.to_thread(gateway.wait)

            assert time.monotonic() - began <= 1.0
            assert code == 0
            assert b"server_shutting_down" in rest


async def until_refused(gateway: Gateway) -> None:
    """Wait until the port takes no new connections."""
    port = int(gateway.base_url.rpartition(":")[2])
    async with asyncio.timeout(5):
        with suppress(ConnectionRefusedError):
            while True:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                await asyncio.sleep(0.01)


async def test_the_figures_of_all_workers_are_on_one_page(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream:
        with serving(yaml_for(upstream, server="{workers: 2}"), tmp_path) as gateway:
            await asyncio.to_thread(gateway.wait_for, lambda: len(gateway.events("worker_ready")) == 2)

            for _ in range(20):
                async with streaming(gateway) as stream:
                    await stream.read()

            for _ in range(5):  # whichever worker answers
                await asyncio.to_thread(
                    gateway.wait_for, lambda: chats_on(gateway.get("/metrics")[1].decode()) == 20, 5
                )


def chats_on(page: str) -> float:
    lines = [line for line in page.splitlines() if line.startswith("gateway_requests_total{") and "chat" in line]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


LOCAL = """
server: {{data_dir: "{data_dir}"}}
providers:
  local:
    kind: llamacpp
    models:
      tiny: {{path: "{path}", classes: [small], context_window: 512, threads: 1}}
"""


def ask(gateway: Gateway) -> tuple[int, dict[str, dict[str, str]]]:
    """Send a short chat and return status and body."""
    import urllib.error
    import urllib.request

    body = {"model": "small", "messages": [{"role": "user", "content": "Say hi."}], "max_tokens": 4}
    request = urllib.request.Request(
        f"{gateway.api_url}/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def test_f56_a_crashed_model_costs_a_503_and_comes_back(tmp_path: Path, chat_gguf: Path) -> None:
    yaml = LOCAL.format(data_dir=tmp_path, path=chat_gguf)
    with serving(yaml, tmp_path) as gateway:
        gateway.wait_for(lambda: gateway.events("model_ready"))
        (victim,) = models_of(gateway)
        assert ask(gateway)[0] == 200

        os.kill(victim.pid, signal.SIGSEGV)
        gateway.wait_for(lambda: gateway.events("model_ended"))
        status, body = ask(gateway)
        gateway.wait_for(lambda: len(gateway.events("model_ready")) == 2)

        assert status == 503
        assert body["error"]["code"] == "local_model_unavailable"
        assert "SIGSEGV" in body["error"]["message"]
        assert ask(gateway)[0] == 200


def test_no_model_outlives_a_parent_that_was_killed(tmp_path: Path, chat_gguf: Path) -> None:
    with serving(LOCAL.format(data_dir=tmp_path, path=chat_gguf), tmp_path) as gateway:
        gateway.wait_for(lambda: gateway.events("model_ready"))
        children = children_of(gateway)

        gateway.send(signal.SIGKILL)
        gateway.wait()

        assert len(children) == 2
        assert gone(children, 5)


def test_an_idle_gateway_with_a_model_ends_within_a_second(tmp_path: Path, chat_gguf: Path) -> None:
    with serving(LOCAL.format(data_dir=tmp_path, path=chat_gguf), tmp_path) as gateway:
        gateway.wait_for(lambda: gateway.events("model_ready"))
        began = time.monotonic()

        assert gateway.stop() == 0
        assert time.monotonic() - began <= 1.0


@pytest.mark.parametrize("content", [b"", b"not a GGUF file", b"GGUF\x03\x00\x00\x00" + b"\xff" * 64])
def test_a_file_that_is_no_model_is_told_and_not_hammered(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(content)
    with serving(LOCAL.format(data_dir=tmp_path, path=path), tmp_path) as gateway:
        gateway.wait_for(lambda: gateway.events("model_ended"))
        time.sleep(1.5)

        status, body = ask(gateway)

        assert status == 503
        assert body["error"]["code"] == "local_model_unavailable"
        assert path.name not in body["error"]["message"]
        assert path.name in gateway.events("model_ended")[0]["reason"]
        assert len(gateway.events("model_ended")) == 1


def test_a_missing_packaged_model_is_told_and_the_command_that_fetches_it_is_logged(tmp_path: Path) -> None:
    yaml = f'server: {{data_dir: "{tmp_path / "empty"}"}}\nproviders: {{local: {{kind: llamacpp}}}}\n'
    with serving(yaml, tmp_path) as gateway:
        status, body = ask(gateway)

        assert status == 503
        assert body["error"]["message"].endswith("is not available: its file is missing.")
        assert "gateway models add smollm2" in gateway.events("model_missing")[0]["remedy"]
        assert gateway.get("/healthz")[0] == 200
        assert gateway.get("/readyz")[0] == 503


def test_the_command_says_its_version(tmp_path: Path) -> None:
    assert run("--version", directory=tmp_path).stdout == f"gateway {__version__}\n"


def test_an_unknown_command_is_an_error_of_usage(tmp_path: Path) -> None:
    ended = run("sevre", directory=tmp_path)

    assert ended.returncode == 2
    assert "sevre" in ended.stderr


def test_models_are_fetched_by_a_subcommand(tmp_path: Path) -> None:
    ended = run("models", "add", "no-such-model", directory=tmp_path)

    assert ended.returncode == 1
    assert "no-such-model" in ended.stderr
