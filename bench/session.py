"""One run of the harness: in which order things are measured, and what rows come of it."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench import configs, embeddings, failures, local, measures, profiling, report, windows
from bench.accounting import MEGABYTE
from bench.canned import CHAT, REQUESTS, Request
from bench.canned_wires import lanes
from bench.load import Crew
from bench.loop import run
from bench.measures import Comparison
from bench.ratios import ratios, spread
from bench.report import Row
from bench.stage import CORES_FOR_TWO_WORKERS, Cores, Stage
from bench.systems import Program, System, free_port
from bench.wrk import Wrk

TURNS_OF_WRK = 8  # a second long each
# Of the litellm lane: a bare handler takes so much longer for a request that fewer of them are as sure.
LANES_FULL = measures.Effort({"chat": 30, "stream": 16}, {"chat": 100, "stream": 30}, 0)
LANES_QUICK = measures.Effort({"chat": 10, "stream": 6}, {"chat": 100, "stream": 30}, 0)
NGINX_ROWS = ("chat", "stream", "embedding")


@dataclass(slots=True)
class Found:
    """What a run has found so far."""

    rows: list[Row] = field(default_factory=list)
    nginx: list[Row] = field(default_factory=list)
    turns: dict[str, Any] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


class Session:
    """Measures what was asked for on a stage; `say` is told what is going on."""

    def __init__(self, stage: Stage, options: argparse.Namespace, say: Callable[[str], None]) -> None:
        efforts = (measures.QUICK, LANES_QUICK) if options.quick else (measures.FULL, LANES_FULL)
        self._stage = stage
        self._say = say
        self._quick: bool = options.quick
        self._only: list[str] = options.only
        self._soak: int = options.soak
        turns = options.turns or (TURNS_OF_WRK if options.load == "wrk" else 0)
        self._effort, self._lanes_effort = (
            dataclasses.replace(effort, turns=dict.fromkeys(effort.turns, turns)) if turns else effort
            for effort in efforts
        )
        self._gateway_command: str = options.gateway_command
        self._by: measures.Open = Wrk if options.load == "wrk" else Crew
        self.found = Found()

    def measure(self) -> Found:
        """Measure; raises BenchError when something does not start or answers wrongly."""
        requests = [request for request in REQUESTS if self._wants(request.name)]
        with self._stage.set() as cores:
            if requests or self._soak:
                self._one_worker(requests, cores)
            beside = {
                "cache": self._cache,
                "windows": self._windows,
                "lanes": self._lanes,
                "failures": self._failures,
                "workers": self._two_workers,
            }
            for step in filter(self._wants, beside):
                beside[step](cores)
        if self._wants("workers"):
            self._scaling()
        if self._wants("start"):
            self._starts()
        if self._wants("local"):
            self._local()
        return self.found

    def profile(self, directory: Path) -> list[str]:
        """Return raw and gateway compared function by function."""
        requests = [request for request in REQUESTS if self._wants(request.name)]
        with self._stage.set() as cores, ExitStack() as stack:
            programs = (self._stage.raw(), self._stage.gateway())
            raw, gateway = (stack.enter_context(self._stage.running(program, cores.measured)) for program in programs)
            return run(profiling.compare(raw, gateway, requests, directory))

    def _wants(self, name: str) -> bool:
        return not self._only or name in self._only

    def _one_worker(self, requests: list[Request], cores: Cores) -> None:
        with ExitStack() as stack:
            programs = [self._stage.raw(), self._stage.gateway()]
            raw, gateway = (stack.enter_context(self._stage.running(program, cores.measured)) for program in programs)
            nginx = self._stage.nginx()
            limit = stack.enter_context(self._stage.running(nginx, cores.measured)) if nginx else None
            for request in requests:
                self._say(f"{request.name}: {self._effort.turns[request.name]} turns")
                systems = [raw, gateway, *([limit] if limit and request.name in NGINX_ROWS else [])]
                found = run(measures.compare(systems, request, self._effort, self._by))
                self._add(request.name, found)
            self._memory(raw, gateway)
            if self._soak:
                self._watch(gateway)

    def _add(self, kind: str, found: Comparison) -> None:
        self.found.turns[kind] = {name: dataclasses.asdict(series) for name, series in found.series.items()}
        self.found.rows.append(report.cpu_row(kind, found, bound=report.RATIO_BOUNDS.get(kind)))
        if "nginx" in found.series:
            self.found.nginx.append(report.cpu_row(kind, found, "nginx"))

    def _memory(self, raw: System, gateway: System) -> None:
        own = measures.workers_memory(gateway)
        base = max(held.resident for held in measures.workers_memory(raw))
        largest = max(own, key=lambda held: held.resident)
        served = gateway.served
        self.found.rows.append(
            Row(
                f"resident after {served:,} requests",
                "MB",
                base / MEGABYTE,
                largest.resident / MEGABYTE,
                bound=report.MEMORY_BOUND_MEGABYTES,
                bounded="value",
            )
        )
        self.found.remarks.append(
            f"memory: proportional {largest.proportional / MEGABYTE:.1f} MB, unique {largest.unique / MEGABYTE:.1f} MB; "
            f"the supervising process holds {measures.rest_memory(gateway) / MEGABYTE:.1f} MB beside it"
        )

    def _watch(self, gateway: System) -> None:
        self._say(f"soak: {self._soak:,} more requests")
        megabytes, slope = run(measures.soak(gateway, self._soak))
        self.found.rows.append(
            Row(
                f"resident after {gateway.served:,} requests",
                "MB",
                None,
                megabytes[-1],
                bound=report.MEMORY_BOUND_MEGABYTES,
                bounded="value",
            )
        )
        steps = " ".join(f"{value:.1f}" for value in megabytes)
        self.found.remarks.append(f"soak: {steps} MB; slope {slope:+.2f} kB per 1,000 requests over the second half")

    def _cache(self, cores: Cores) -> None:
        for case, measured in embeddings.measure(self._stage, cores, self._effort, self._by, self._say):
            if measured is None:
                self.found.remarks.append(f"{case.title}: not measured, there is no redis-server")
                continue
            found = judged_by_raw(measured)
            self.found.turns[case.title] = {name: dataclasses.asdict(series) for name, series in found.series.items()}
            row = report.added_row if case.is_added else report.cpu_row
            self.found.rows.append(row(case.title, found, bound=case.bound))

    def _windows(self, cores: Cores) -> None:
        self.found.rows += windows.measure(self._stage, cores, self._effort, self._by, self._say)

    def _lanes(self, cores: Cores) -> None:
        """Measure what an upstream of another wire costs, beside raw and beside litellm without the gateway."""
        if find_spec("litellm") is None:
            self.found.remarks.append("the litellm lane was not measured: litellm is not installed")
            return
        with ExitStack() as stack:
            port = free_port()
            wires = Program("wires", configs.command(configs.WIRES_COMMAND, port=port), port, "/v1/models")
            stack.enter_context(self._stage.running(wires, cores.rest))
            programs = (self._stage.raw(), *self._lane_programs(f"http://127.0.0.1:{port}"))
            systems = [stack.enter_context(self._stage.running(program, cores.measured)) for program in programs]
            for title, request in lanes().items():
                self._say(f"{title}: {self._lanes_effort.turns[request.name]} turns")
                found = judged_by_raw(run(measures.compare(systems, request, self._lanes_effort, self._by)))
                self._add(title, found)
                row = report.cpu_row(title, found, base="bare")
                self.found.rows.append(dataclasses.replace(row, note=f"{row.note}; aim {report.LANE_AIM}"))

    def _lane_programs(self, upstream: str) -> tuple[Program, Program]:
        """Return the bare handler and the gateway, both with litellm in front of `upstream`."""
        bare, own = free_port(), free_port()
        file = self._stage.directory / f"lanes-{own}.yaml"
        file.write_text(configs.lanes_config(upstream, self._stage.directory / f"state-{own}"))
        gateway = configs.command(self._gateway_command, config=file, port=own, upstream=upstream)
        return (
            Program("bare", configs.command(configs.BARE_COMMAND, upstream=upstream, port=bare), bare),
            Program("gateway", gateway, own),
        )

    def _failures(self, cores: Cores) -> None:
        """Measure how soon an outage is told, and how soon upstreams are let go."""
        self._say("failures: a dead upstream, and callers that leave")
        for title, found in run(self._fail(cores)).items():
            bound = report.OUTAGE_BOUND_MILLISECONDS if "outage" in title else report.LEAVING_BOUND_MILLISECONDS
            note = f"99th percentile; largest {found.largest:.1f}"
            self.found.rows.append(Row(title, "ms", None, found.p99, bound=bound, bounded="value", note=note))

    async def _fail(self, cores: Cores) -> dict[str, failures.Milliseconds]:
        holder = failures.Holder()
        await holder.open()
        try:
            with self._stage.running(self._stage.failing(holder.port), cores.measured) as gateway:
                port = gateway.port
                return {
                    "error in a total outage": await failures.outage(port, "outage"),
                    "caller gone, plain": await failures.leaving(port, holder, "held", stream=False),
                    "caller gone, before content": await failures.leaving(port, holder, "held", stream=True),
                    "caller gone, in a stream": await failures.leaving(
                        port, holder, "midway", stream=True, midway=True
                    ),
                }
        finally:
            await holder.close()

    def _two_workers(self, cores: Cores) -> None:
        """Measure what two workers cost per request on one core: their metrics are shared through files."""
        with ExitStack() as stack:
            programs = (self._stage.raw(), self._stage.gateway(workers=2))
            systems = [stack.enter_context(self._stage.running(program, cores.measured)) for program in programs]
            self._say("chat, two workers on one core")
            found = run(measures.compare(systems, CHAT, self._effort, self._by))
        self._add("chat, two workers", found)

    def _scaling(self) -> None:
        if len(self._stage.usable_cores) < CORES_FOR_TWO_WORKERS:
            self.found.remarks.append(
                f"two workers against one: needs {CORES_FOR_TWO_WORKERS} cores, here are {len(self._stage.usable_cores)}"
            )
            return
        with self._stage.set(measured=2) as cores, ExitStack() as stack:
            programs = (self._stage.gateway(1, "one"), self._stage.gateway(2, "two"))
            systems = [stack.enter_context(self._stage.running(program, cores.measured)) for program in programs]
            self._say("chat, two workers against one on two cores")
            found = run(measures.compare(systems, CHAT, self._effort, self._by))
        one, two = found.per_second("one"), found.per_second("two")
        self.found.rows.append(
            Row(
                "chat, two workers over one",
                "requests/s",
                spread(one).median,
                spread(two).median,
                spread(ratios(two, one)),
                bound=report.TWO_WORKERS_BOUND,
                is_floor=True,
                note="one worker in place of raw",
                is_calm=found.is_enough,
            )
        )

    def _starts(self) -> None:
        self._say(f"start: {self._effort.starts} times each")
        raw, gateway = (
            measures.starts(program, self._stage.directory, self._effort.starts)
            for program in (self._stage.raw(), self._stage.gateway())
        )
        self.found.turns["start"] = {"raw": raw.seconds, "gateway": gateway.seconds}
        self.found.rows.append(
            Row(
                "start to the first 200",
                "s",
                spread(raw.seconds).median,
                spread(gateway.seconds).median,
                bound=report.START_BOUND_SECONDS,
                bounded="value",
                note=f"fastest {min(gateway.seconds):.2f}; cpu {spread(gateway.cpu_seconds).median:.2f}",
            )
        )

    def _local(self) -> None:
        """Measure what a local model gives alone, in company, and behind the gateway."""
        model = Path("data/models/smollm2.gguf").absolute()
        if not model.is_file():
            self.found.remarks.append("local models were not measured: fetch one with `gateway models add smollm2`")
            return
        turns, each = (2, 2) if self._quick else (5, 3)
        wanted, missing = local.systems(model, self._stage.directory)
        self.found.remarks += missing
        with ExitStack() as stack:
            places = [stack.enter_context(place) for place in wanted]
            self._say(f"local: {', '.join(place.name for place in places)}; {turns} turns")
            found = run(local.take_turns(places, turns, each))
        self.found.turns["local"] = {name: dataclasses.asdict(series) for name, series in found.items()}
        self.found.rows += report.local_rows(found)


def judged_by_raw(found: Comparison) -> Comparison:
    """Return the comparison with only raw telling which turns were calm.

    Where work is handed to threads, as litellm does and the cache's disk, the main thread waits for them on its one core:
    that tells nothing of other programs.
    """
    series = {
        name: one if name == "raw" else dataclasses.replace(one, waiting=[0.0] * len(one.waiting))
        for name, one in found.series.items()
    }
    return Comparison(series, found.wanted)
