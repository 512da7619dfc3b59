"""What the configuration may say of remembered embeddings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

Megabytes = Annotated[int, Field(ge=1, le=1_048_576, description="MiB.")]
TtlSeconds = Annotated[int, Field(ge=1, le=315_360_000)]


class EmbeddingCacheSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MemoryTierSettings(EmbeddingCacheSettings):
    """Embeddings remembered in each process."""

    max_mb: Megabytes = 64
    ttl_seconds: TtlSeconds = 300


class DiskTierSettings(EmbeddingCacheSettings):
    """Embeddings remembered in the data directory, for all processes and over restarts."""

    max_mb: Megabytes = 2048
    ttl_seconds: TtlSeconds = 2_592_000


class RedisTierSettings(EmbeddingCacheSettings):
    """Embeddings remembered in Redis, for all processes and hosts."""

    ttl_seconds: TtlSeconds = 604_800


class CacheSettings(EmbeddingCacheSettings):
    """The tiers, asked in this order; null switches one off."""

    memory: MemoryTierSettings | None = MemoryTierSettings()
    disk: DiskTierSettings | None = DiskTierSettings()
    redis: Annotated[RedisTierSettings | None, Field(description="Used when redis.url is set.")] = RedisTierSettings()
    scope: Annotated[
        Literal["shared", "caller"],
        Field(description="shared: what one caller asked is remembered for all; caller: for itself only."),
    ] = "shared"


class EmbeddingsSettings(EmbeddingCacheSettings):
    """How embeddings are asked for and remembered."""

    cache: Annotated[CacheSettings | None, Field(description="Where embeddings are remembered; null: nowhere.")] = (
        CacheSettings()
    )
    coalesce_ms: Annotated[
        float | None,
        Field(
            ge=0,
            le=1000,
            description="How long small requests for one model wait for others, to be asked together. "
            "Default: 0 for hosted models, 2 for local ones.",
        ),
    ] = None
    parallel: Annotated[
        int,
        Field(ge=1, le=64, description="Parts of split requests that are asked at once, per deployment and process."),
    ] = 4


class RedisSettings(EmbeddingCacheSettings):
    """A Redis that processes and hosts share."""

    url: Annotated[SecretStr, Field(description="redis://host:6379/0, rediss:// or unix://; empty: none.")] = SecretStr(
        ""
    )
    timeout_ms: Annotated[
        int, Field(ge=1, le=5000, description="The most that one request waits for it; then it is left alone a while.")
    ] = 50
