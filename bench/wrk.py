"""The load generator wrk as a second opinion: the same requests, sent by somebody else's code.

It is bounded in time only, drops what is under way at its end and looks at statuses, not at bodies; so the own
generator is the default, and warms up before.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path

from bench.canned import API_KEY, Request
from bench.load import CONNECTIONS, LOOPBACK, Tally
from bench.systems import BenchError

SECONDS = 1
_DONE = """
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('\\n{"requests": %d, "microseconds": %d, "errors": %d}\\n',
    summary.requests, summary.duration, e.connect + e.read + e.write + e.status + e.timeout))
end
"""


def script(request: Request) -> str:
    """Return the Lua script that sends one kind of request and reports in JSON."""
    body = request.body.decode().replace("\\", "\\\\").replace("'", "\\'")
    return (
        f"wrk.method = 'POST'\nwrk.path = '{request.path}'\nwrk.body = '{body}'\n"
        f"wrk.headers['Content-Type'] = 'application/json'\nwrk.headers['Authorization'] = 'Bearer {API_KEY}'\n{_DONE}"
    )


def read(output: str, request: Request) -> Tally:
    """Return the tally that the script printed; raises BenchError when there is none."""
    for line in reversed(output.splitlines()):
        if line.startswith("{"):
            said = json.loads(line)
            faults = [f"{request.name}: wrk counts {said['errors']} errors"] if said["errors"] else []
            requests = int(said["requests"])
            return Tally(requests, requests, requests, said["microseconds"] / 1e6, faults)
    raise BenchError(f"wrk said nothing of use: {output[-500:]}")


class Wrk:
    """A loader that loads 127.0.0.1:`port` for SECONDS at a time, however many requests that are."""

    def __init__(self, port: int, request: Request) -> None:
        self._request = request
        self._url = f"http://{LOOPBACK}:{port}{request.path}"

    async def __aenter__(self) -> Wrk:
        return self

    async def __aexit__(self, *error: object) -> None:
        return None

    async def send(self, count: int) -> Tally:
        """Load for SECONDS; `count` is what the own generator would send."""
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory) / "request.lua"
            file.write_text(script(self._request))
            options = f"-t1 -c{CONNECTIONS} -d{SECONDS}s --timeout 10s -s {file} {self._url}"
            process = await asyncio.create_subprocess_exec(
                "wrk", *options.split(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
            )
            output, _ = await process.communicate()
        return read(output.decode(), self._request)
