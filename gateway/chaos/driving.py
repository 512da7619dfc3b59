"""Plays the cases: for each a gateway that remembers nothing, one request, and the clock.

Several are played at a time, as most of them wait.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from gateway.app import build
from gateway.chaos.cases import Case
from gateway.chaos.configuring import ask_first, hosts_of, replace_far_sides
from gateway.chaos.faults import TOTAL_IN_PATIENCES
from gateway.chaos.judging import GRACE_SECONDS, Answer, Verdict, judge
from gateway.chaos.sound import Form
from gateway.chaos.stand_in import LOOPBACK, Scene, StandIns, unreachable
from gateway.config import Config, Resolved
from gateway.http import EnvelopeRunner

AT_A_TIME = 6
_SHUTDOWN_SECONDS = 0.2

_PATHS: Mapping[Form, str] = {
    "chat": "chat/completions",
    "stream": "chat/completions",
    "embeddings": "embeddings",
    "images": "images/generations",
}
_MESSAGES = {"messages": [{"role": "user", "content": "Are you there?"}]}
_BODIES: Mapping[Form, Mapping[str, Any]] = {
    "chat": _MESSAGES,
    "stream": {**_MESSAGES, "stream": True},
    "embeddings": {"input": "Are you there?"},
    "images": {"prompt": "A lighthouse"},
}


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a case; `asked` are the deployments that were asked, in order, as far as they could be reached.

    `touched` says whether the broken deployment was come upon at all. Without an answer in time `status` is None.
    """

    case: Case
    verdict: Verdict
    status: int | None
    answered_by: str | None
    attempts: int
    retry_after: str | None
    seconds: float
    asked: tuple[str, ...]
    touched: bool


class Driver:
    """Plays cases of one configuration with one patience, in seconds."""

    def __init__(self, config: Config, resolved: Resolved, patience: float) -> None:
        self._config = config
        self._resolved = resolved
        self._patience = patience
        self._hosts = hosts_of(resolved.providers)

    def allowed_seconds(self, case: Case) -> float:
        """Return how long an answer may take: every attempt may take its whole patience."""
        return self._patience * TOTAL_IN_PATIENCES * case.most_attempts + GRACE_SECONDS

    async def play_all(self, cases: Iterable[Case], tell: Callable[[int], None] = lambda _: None) -> list[Result]:
        """Return the results in the order of the cases; `tell` hears how many are done."""
        waiting = iter(list(enumerate(cases)))
        results: dict[int, Result] = {}
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with StandIns() as stand_ins, aiohttp.ClientSession(connector=connector) as session:

            async def work() -> None:
                for number, case in waiting:
                    results[number] = await self._play(f"case-{number}", case, stand_ins, session)
                    tell(len(results))

            async with asyncio.TaskGroup() as group:
                for _ in range(AT_A_TIME):
                    group.create_task(work())
        return [results[number] for number in sorted(results)]

    async def _play(self, name: str, case: Case, stand_ins: StandIns, session: aiohttp.ClientSession) -> Result:
        scene = Scene(case.fault, case.broken, case.failing)
        stand_ins.play(name, scene)
        with ExitStack() as stack:
            away = stack.enter_context(unreachable(case.fault)) if case.fault.script is None else None
            urls = {
                provider: f"{away if away and self._is_away(provider, case) else await stand_ins.open(host)}/{name}/{provider}/v1"
                for provider, host in self._hosts.items()
            }
            config = replace_far_sides(self._config, self._resolved, urls, self._patience)
            async with _serving(ask_first(config, case.alias, case.first, case.fallback)) as url:
                result = await self._ask(case, scene, session, url)
        stand_ins.forget(name)
        return result

    def _is_away(self, provider: str, case: Case) -> bool:
        away = {self._hosts[broken.partition("/")[0]] for broken in case.broken}
        return self._hosts[provider] in away

    async def _ask(self, case: Case, scene: Scene, session: aiohttp.ClientSession, url: str) -> Result:
        limit = self.allowed_seconds(case)
        began = time.perf_counter()
        try:
            answer = await _post(session, url, case, limit)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            seconds = time.perf_counter() - began
            late = f"no whole answer within {limit:g} s"
            verdict = Verdict("lost", reason=late if seconds >= limit else f"{type(error).__name__}: {error}")
            return Result(case, verdict, None, None, 0, None, seconds, tuple(scene.asked), touched=True)
        # Who cannot be reached is not seen to be asked, but the attempt is counted.
        touched = not case.turn.isdisjoint(scene.asked) or answer.attempts > len(scene.asked)
        return Result(
            case=case,
            verdict=judge(case, answer, self._patience, touched=touched),
            status=answer.status,
            answered_by=answer.headers.get("x-gateway-deployment"),
            attempts=answer.attempts,
            retry_after=answer.headers.get("Retry-After"),
            seconds=answer.seconds,
            asked=tuple(scene.asked),
            touched=touched,
        )


async def _post(session: aiohttp.ClientSession, url: str, case: Case, limit: float) -> Answer:
    began = time.perf_counter()
    async with session.post(
        f"{url}/v1/{_PATHS[case.form]}",
        json={"model": case.alias, **_BODIES[case.form]},
        timeout=aiohttp.ClientTimeout(total=limit),
        allow_redirects=False,
    ) as response:
        body = await response.read()
        return Answer(response.status, response.headers, body, time.perf_counter() - began)


@asynccontextmanager
async def _serving(config: Config) -> AsyncIterator[str]:
    """Serve the configuration's application on a free port of this machine and give its address."""
    with tempfile.TemporaryDirectory() as directory:
        application = build(config, run_dir=Path(directory))
        runner = EnvelopeRunner(
            application, access_log=None, handler_cancellation=True, shutdown_timeout=_SHUTDOWN_SECONDS
        )
        await runner.setup()
        assert runner.server is not None  # noqa: S101  it is there after `setup`
        server = await asyncio.get_running_loop().create_server(runner.server, LOOPBACK, 0)
        try:
            yield f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            await runner.cleanup()
