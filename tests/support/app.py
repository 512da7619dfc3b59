"""The real application on a real port, as a worker process serves it, for tests that look at what comes over HTTP."""

from __future__ import annotations

import asyncio
import io
import json
import random
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from openai import AsyncOpenAI
from prometheus_client.parser import text_string_to_metric_families

from gateway.app import DRAIN, build
from gateway.config import parse
from gateway.processes.listening import listen, reserve
from gateway.processes.serving import serve
from gateway.processes.supervision import Stop

from .contract import assert_error_obeys_contract, parse_sse
from .upstream import ScriptedUpstream

UPSTREAM_KEY = "sk-upstream-canary-0123456789"
MESSAGES = [{"role": "user", "content": "Hi"}]
CHAT = {"model": "small", "messages": MESSAGES}


def make_config(
    *upstreams: ScriptedUpstream | str,
    aliases: Sequence[str] = ("small",),
    keys: Sequence[Mapping[str, Any]] = (),
    timeouts: Mapping[str, float] | None = None,
    server: Mapping[str, Any] | None = None,
    provider: Mapping[str, Any] | None = None,
    embeddings: Mapping[str, Any] | None = None,
) -> str:
    """Return a configuration in which each alias is served by all upstreams in turn: `up0/model`, `up1/model`, …

    `timeouts` are named without `_seconds`; `provider` are further fields of every provider. Embeddings are remembered
    only where `embeddings` says so, that other tests see each of their requests upstream. JSON is YAML.
    """
    urls = [upstream if isinstance(upstream, str) else upstream.base_url for upstream in upstreams]
    route = {
        "deployments": [f"up{index}/model" for index in range(len(urls))],
        "timeouts": {f"{name}_seconds": value for name, value in (timeouts or {}).items()},
    }
    return json.dumps(
        {
            "server": dict(server or {}),
            "auth": {"keys": [dict(key) for key in keys]},
            "providers": {
                f"up{index}": {"kind": "openai", "base_url": url, "api_key": UPSTREAM_KEY, **(provider or {})}
                for index, url in enumerate(urls)
            },
            "models": dict.fromkeys(aliases, route),
            "embeddings": dict({"cache": None} if embeddings is None else embeddings),
        }
    )


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer; `events` are those of a stream."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        assert self.headers["Content-Type"] == "application/json", self.headers["Content-Type"]
        return json.loads(self.body)

    @property
    def events(self) -> list[str]:
        assert self.headers["Content-Type"] == "text/event-stream; charset=utf-8", self.headers["Content-Type"]
        return parse_sse(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """Return the error of the envelope, which must obey the contract."""
        assert self.headers["x-request-id"]
        return assert_error_obeys_contract(self.json)


@dataclass
class RunningGateway:
    """The application while it serves. `base_url` is what an OpenAI client takes; `log` is complete after the end."""

    url: str
    application: web.Application
    session: aiohttp.ClientSession
    stop: Stop
    log: io.BytesIO
    serving: asyncio.Task[None] = field(init=False)

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def client(self, key: str = "any", **options: Any) -> AsyncOpenAI:
        """Return the official client, to be used as an `async with`; it retries nothing unless told to."""
        return AsyncOpenAI(base_url=self.base_url, api_key=key, **{"max_retries": 0, "timeout": 20, **options})

    async def ask(self, method: str, path: str, **request: Any) -> Answer:
        """Send one request to a path below the root and return the whole answer."""
        async with self.session.request(method, self.url + path, **request) as response:
            return Answer(response.status, response.headers, await response.read())

    async def post(self, path: str, body: Any = None, *, key: str | None = None, **fields: Any) -> Answer:
        """Post JSON to a path below /v1: `body` or a chat request, with more `fields`."""
        headers = {"Content-Type": "application/json"}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        content = json.dumps({**(CHAT if body is None else body), **fields}).encode()
        return await self.ask("POST", f"/v1/{path}", data=io.BytesIO(content), headers=headers)

    async def chat(self, **fields: Any) -> Answer:
        return await self.post("chat/completions", **fields)

    async def send_raw(self, request: bytes) -> Answer:
        """Send these bytes and return the first answer; the server must answer within ten seconds."""
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = CIMultiDict[str](line.partition(": ")[::2] for line in head[1:] if line)
            body = await reader.readexactly(int(headers.get("Content-Length", "0")))
            writer.close()
        return Answer(int(head[0].split(" ")[1]), headers, body)

    async def figures(self, **request: Any) -> dict[tuple[str, ...], float]:
        """Return the metrics page's samples by name and label values (in the alphabet's order), without buckets."""
        page = await self.ask("GET", "/metrics", **request)
        assert page.status == 200, page.body
        return {
            (sample.name, *sorted(sample.labels.values())): sample.value
            for family in text_string_to_metric_families(page.body.decode())
            for sample in family.samples
            if not sample.name.endswith("_bucket")
        }

    def lines(self) -> list[dict[str, Any]]:
        """Return the log's lines of requests; to be called after the end."""
        lines = [json.loads(line) for line in self.log.getvalue().splitlines()]
        return [line for line in lines if line["event"] == "request"]


@asynccontextmanager
async def running(
    text: str,
    *,
    environ: Mapping[str, str] | None = None,
    clock: Callable[[], float] = time.monotonic,
    dice: Callable[[], float] = random.random,
    now: Callable[[], float] = time.time,
) -> AsyncIterator[RunningGateway]:
    """Serve the application that the configuration describes, on a free port of 127.0.0.1.

    `clock` is what deployments rest by, and `dice` spreads their rests; the limits of attempts and streams keep to real time. `now`
    gives the Unix seconds that embeddings are remembered by.
    """
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        config = parse(text, str(directory / "gateway.yaml"), environ=environ or {})
        log = io.BytesIO()
        with redirect_stderr(io.TextIOWrapper(log, write_through=True)) as wrapper:
            application = build(config, run_dir=directory, clock=clock, dice=dice, now=now)
        stack.callback(wrapper.detach)  # or the wrapper would close the log when it is collected
        held = stack.enter_context(closing(reserve("127.0.0.1", 0)))
        session = await stack.enter_async_context(
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0), auto_decompress=False, timeout=aiohttp.ClientTimeout(total=20)
            )
        )
        url = f"http://127.0.0.1:{held.addresses[0].port}"
        gateway = RunningGateway(url, application, session, Stop(), log)
        listeners = listen(held.addresses)
        drain = application[DRAIN]
        gateway.serving = asyncio.create_task(serve(application, drain, listeners, config.server, gateway.stop))
        try:
            yield gateway
        finally:
            await session.close()
            gateway.stop.asked.set()
            gateway.stop.insisted.set()
            await gateway.serving
