"""Where a run takes place: its cores, its directory, its upstream, and how each program is started on it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import configs
from bench.accounting import pinned
from bench.systems import Program, System, free_port, running

CORES_FOR_TWO_WORKERS = 4


@dataclass(frozen=True, slots=True)
class Cores:
    """Who runs where. With a single core nothing is pinned, and load and upstream are in each other's way."""

    measured: tuple[int, ...]
    rest: tuple[int, ...]

    @classmethod
    def divide(cls, usable: Sequence[int], measured: int = 1) -> Cores:
        """Give the first `measured` cores to what is measured and the next two to load and upstream."""
        if len(usable) <= measured:
            return cls((), ())
        return cls(tuple(usable[:measured]), tuple(usable[measured : measured + 2]))


class Stage:
    """Makes the programs of a run and starts them on their cores."""

    def __init__(self, directory: Path, usable_cores: Sequence[int], gateway_command: str) -> None:
        self.directory = directory
        self.usable_cores = tuple(usable_cores)
        self._gateway_command = gateway_command
        self._upstream_port = free_port()

    @property
    def upstream(self) -> str:
        """The base URL of the canned upstream."""
        return f"http://127.0.0.1:{self._upstream_port}/v1"

    @contextmanager
    def set(self, measured: int = 1) -> Iterator[Cores]:
        """Start the upstream and keep it and this process off the first `measured` cores."""
        cores = Cores.divide(self.usable_cores, measured)
        argv = configs.command(configs.UPSTREAM_COMMAND, port=self._upstream_port)
        upstream = Program("upstream", argv, self._upstream_port, "/v1/models")
        with running(upstream, self.directory, cores.rest), pinned(cores.rest):
            yield cores

    @contextmanager
    def running(self, program: Program, cores: Sequence[int]) -> Iterator[System]:
        """Start `program` on `cores`."""
        with running(program, self.directory, cores) as system:
            yield system

    def raw(self) -> Program:
        """Return the baseline."""
        port = free_port()
        return Program("raw", configs.command(configs.RAW_COMMAND, upstream=self.upstream, port=port), port)

    def gateway(self, workers: int = 1, name: str = "gateway") -> Program:
        """Return the gateway on a port and a configuration of its own."""
        port = free_port()
        file = self.directory / f"gateway-{port}.yaml"
        file.write_text(configs.gateway_config(self.upstream, self.directory / f"state-{port}", workers))
        argv = configs.command(self._gateway_command, config=file, port=port, upstream=self.upstream)
        return Program(name, argv, port, workers=workers)

    def remembering(self, embeddings: str, redis: str = "") -> Program:
        """Return the gateway with a cache for embeddings; `embeddings` is YAML, `redis` a URL."""
        port = free_port()
        file = self.directory / f"gateway-{port}.yaml"
        state = self.directory / f"state-{port}"
        file.write_text(configs.gateway_config(self.upstream, state, embeddings=embeddings, redis=redis))
        argv = configs.command(self._gateway_command, config=file, port=port, upstream=self.upstream)
        return Program("gateway", argv, port)

    def configured(self, file: Path, port: int) -> Program:
        """Return the gateway with this configuration."""
        argv = configs.command(self._gateway_command, config=file, port=port, upstream=self.upstream)
        return Program("gateway", argv, port)

    def failing(self, holder_port: int) -> Program:
        """Return the gateway in front of dead deployments and one that holds every request."""
        port = free_port()
        file = self.directory / f"failing-{port}.yaml"
        dead = [free_port() for _ in range(3)]
        file.write_text(configs.failing_config(dead, holder_port, self.directory / f"state-{port}"))
        return Program("gateway", configs.command(self._gateway_command, config=file, port=port, upstream=""), port)

    def nginx(self) -> Program | None:
        """Return nginx as a proxy, None where it is not installed."""
        if shutil.which("nginx") is None:
            return None
        port = free_port()
        directory = self.directory / f"nginx-{port}"
        directory.mkdir()
        file = directory / "nginx.conf"
        file.write_text(configs.nginx_config(self._upstream_port, port))
        return Program("nginx", configs.command(configs.NGINX_COMMAND, directory=directory, nginx=file), port)
