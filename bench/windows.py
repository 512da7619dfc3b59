"""What token windows cost: of a short chat nothing is counted, a conversation of 400 KB is counted once and cut.

The gateway with a window on its deployments is measured beside one without, both with the same requests. What a model
would do with them is no matter here: the upstream is canned.
"""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

import aiohttp

from bench import configs, report
from bench.canned import API_KEY, CHAT, LONG_CHAT
from bench.load import Crew
from bench.local import lag_buckets, percentile
from bench.loop import run
from bench.measures import Comparison, Effort, Open, compare, send
from bench.ratios import spread
from bench.report import PLAIN, Row
from bench.stage import Cores, Stage
from bench.systems import BenchError, Program, System, free_port

SHORT_WINDOW = 128_000  # tokens; a chat of 2 KB is far below it by its bytes
LONG_WINDOW = 64_000  # the conversation has some 80,000 tokens
AT_ONCE = 20
FITTING_BOUND_MILLISECONDS = 25.0
LAG_BOUND_MILLISECONDS = 5.0
SHORT_BOUND = 0.05  # of raw: as near to nothing as two processes of the same code are to each other
_HEADERS = {"Authorization": f"Bearer {API_KEY}"}
COUNTED = "gateway_counted_requests_total"


def measure(stage: Stage, cores: Cores, effort: Effort, by: Open, say: Callable[[str], None]) -> list[Row]:
    """Return the rows; raises BenchError where a short chat was counted, or a long one was not cut."""
    rows = []
    with ExitStack() as stack:
        programs = [stage.raw(), program(stage, "gateway", SHORT_WINDOW), program(stage, PLAIN, None)]
        systems = [stack.enter_context(stage.running(one, cores.measured)) for one in programs]
        say(f"windows, short chat: {effort.turns[CHAT.name]} turns")
        rows.append(
            report.added_row("a window of 128k beside none, chat", run(compare(systems, CHAT, effort, by)), SHORT_BOUND)
        )
        if COUNTED in _page(systems[1], "small"):
            raise BenchError("a short chat was counted")
    with ExitStack() as stack:
        programs = [program(stage, "gateway", LONG_WINDOW), program(stage, PLAIN, None)]
        systems = [stack.enter_context(stage.running(one, cores.measured)) for one in programs]
        say(f"windows, long chat: {effort.turns[LONG_CHAT.name]} turns")
        rows.append(_fitting(run(compare(systems, LONG_CHAT, effort, by))))
        rows.append(_lag(systems[0]))
        if COUNTED not in _page(systems[0], "small"):
            raise BenchError("a long chat was not counted")
    return rows


def program(stage: Stage, name: str, window: int | None) -> Program:
    """Return the gateway whose deployments have this window."""
    port = free_port()
    file = stage.directory / f"windows-{port}.yaml"
    file.write_text(configs.windows_config(stage.upstream, stage.directory / f"state-{port}", window))
    return replace(stage.configured(file, port), name=name)


def _fitting(found: Comparison) -> Row:
    own, plain = found.seconds("gateway"), found.seconds(PLAIN)
    added = spread([(one - other) * 1000 for one, other in zip(own, plain, strict=True)])
    return Row(
        "counting and cutting a chat of 400 KB",
        "cpu ms",
        spread(plain).median * 1000,
        added.median,
        bound=FITTING_BOUND_MILLISECONDS,
        bounded="value",
        note=f"more than without a window ({added.low:.1f}-{added.high:.1f}); {sum(found.calm)} turns calm",
        is_calm=found.is_enough,
    )


def _lag(gateway: System) -> Row:
    async def watch() -> float:
        url = f"http://127.0.0.1:{gateway.port}"
        async with aiohttp.ClientSession(headers=_HEADERS) as session:
            before = await lag_buckets(session, url)
            async with Crew(gateway.port, LONG_CHAT, AT_ONCE) as crew:
                await send(gateway, crew, 5 * AT_ONCE)
            await asyncio.sleep(0.3)
            after = await lag_buckets(session, url)
        return percentile({bound: count - before.get(bound, 0.0) for bound, count in after.items()}, 0.99)

    return Row(
        f"event loop while {AT_ONCE} chats of 400 KB are cut",
        "ms late",
        None,
        run(watch()) * 1000,
        bound=LAG_BOUND_MILLISECONDS,
        bounded="value",
        note="99th percentile",
    )


def _page(system: System, alias: str) -> str:
    asking = urllib.request.Request(f"http://127.0.0.1:{system.port}/metrics", headers=_HEADERS)
    with urllib.request.urlopen(asking, timeout=5) as reply:
        page: str = reply.read().decode()
    return "".join(line for line in page.splitlines() if line.startswith(COUNTED) and alias in line)
