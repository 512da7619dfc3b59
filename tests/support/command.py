"""The real `gateway` command as a process of its own, started on a free port and stopped by its process id."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

COMMAND = str(Path(sys.executable).with_name("gateway"))
START_SECONDS = 30.0
STOP_SECONDS = 15.0


class Gateway:
    """A running `gateway serve`; `lines` are what it wrote on standard error so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.pid = process.pid
        self.lines: list[str] = []
        self.base_url = ""
        self.start_seconds = 0.0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def api_url(self) -> str:
        """What OpenAI's clients call the base URL."""
        return f"{self.base_url}/v1"

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the log lines of one event, in order."""
        found = []
        for line in list(self.lines):
            if line.startswith("{"):
                event = json.loads(line)
                if event.get("event") == name:
                    found.append(event)
        return found

    def wait_for(self, condition: Callable[[], object], timeout: float = START_SECONDS) -> None:
        """Wait until `condition` holds; fails with the log when it does not, or when the process ended before."""
        until = time.monotonic() + timeout
        while not condition():
            assert self.process.poll() is None, f"gateway ended with code {self.process.returncode}:\n{self.text}"
            assert time.monotonic() < until, f"not within {timeout} s; the log so far:\n{self.text}"
            time.sleep(0.005)

    def get(self, path: str) -> tuple[int, bytes]:
        """Return status and body of a GET on a connection of its own."""
        try:
            with urllib.request.urlopen(self.base_url + path, timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def send(self, word: signal.Signals) -> None:
        self.process.send_signal(word)

    def wait(self, timeout: float = STOP_SECONDS) -> int:
        """Wait for the end and return the exit code."""
        code = self.process.wait(timeout)
        self._reader.join(timeout)
        return code

    def stop(self) -> int:
        """Send SIGTERM and return the exit code."""
        self.send(signal.SIGTERM)
        return self.wait()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))


@contextmanager
def serving(
    yaml: str, directory: Path, *, environ: Mapping[str, str] | None = None, arguments: Sequence[str] = ()
) -> Iterator[Gateway]:
    """Start `gateway serve` on the configuration text `yaml`, kept in `directory`, and wait until /healthz says 200.

    `environ` is added to an environment without API keys. At the end the command is stopped, if it still runs.
    """
    file = directory / "gateway.yaml"
    file.write_text(yaml, encoding="utf-8")
    began = time.monotonic()
    process = subprocess.Popen(
        [COMMAND, "serve", "--config", str(file), "--port", "0", *arguments],
        cwd=directory,
        env=environment(environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    gateway = Gateway(process)
    try:
        gateway.wait_for(lambda: gateway.events("listening"))
        gateway.base_url = gateway.events("listening")[0]["url"]
        assert gateway.get("/healthz")[0] == 200
        gateway.start_seconds = time.monotonic() - began
        yield gateway
        if process.poll() is None:
            gateway.stop()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        gateway._reader.join(STOP_SECONDS)
        assert process.stderr is not None
        process.stderr.close()


def run(
    *arguments: str, directory: Path, environ: Mapping[str, str] | None = None, timeout: float = 30
) -> subprocess.CompletedProcess[str]:
    """Run a `gateway` command to its end and return its code and what it printed."""
    return subprocess.run(
        [COMMAND, *arguments],
        cwd=directory,
        env=environment(environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def environment(added: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of this process without API keys, with `added`."""
    own = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    return {**own, **(added or {})}
