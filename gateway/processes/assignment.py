"""What the parent process hands to an HTTP worker: one line of JSON on its standard input."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from gateway.processes.listening import Address


@dataclass(frozen=True, slots=True)
class Assignment:
    """The configuration as text, so that every worker runs what the parent has checked, and the worker's place.

    `metrics_dir` is "" when there is one worker and its figures stay in its memory.
    """

    file: str
    text: str
    host: str | None
    port: int | None
    addresses: tuple[Address, ...]
    run_dir: str
    metrics_dir: str = ""

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> Assignment:
        fields = json.loads(line)
        return cls(**{**fields, "addresses": tuple(Address(**address) for address in fields["addresses"])})
