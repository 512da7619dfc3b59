"""What the configuration may say of the server itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class ServerSettings(BaseModel):
    """Where the gateway listens and how it ends."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: Annotated[
        str, Field(min_length=1, description="Name or address to listen on; all but loopback ones need auth.keys.")
    ] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535, description="0 takes any free port.")] = 8080
    workers: Annotated[int, Field(ge=1, le=256, description="Processes that share the port.")] = 1
    data_dir: Annotated[Path, Field(description="Models and state; relative to the configuration file.")] = Path("data")
    allowed_hosts: Annotated[
        tuple[str, ...], Field(description="Host names accepted besides loopback ones and IP addresses.")
    ] = ()
    max_body_mb: Annotated[int, Field(ge=1, le=1024, description="Largest request body, in MiB.")] = 32
    accept_grace_seconds: Annotated[
        float,
        Field(ge=0, le=60, description="After SIGTERM: how long new requests are still taken while /readyz says 503."),
    ] = 2.0
    grace_seconds: Annotated[
        float, Field(ge=0, le=3600, description="After SIGTERM: how long running answers may finish.")
    ] = 30.0
