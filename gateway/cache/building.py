"""The tiers that a configuration asks for. Nothing is opened before it is used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gateway.cache.disk import DiskTier
from gateway.cache.memory import MemoryTier
from gateway.cache.redis import RedisTier
from gateway.cache.settings import CacheSettings, RedisSettings
from gateway.cache.tier import Counts
from gateway.cache.tiers import Board, Tiers

DIRECTORY = "cache"  # below the data directory


def build_tiers(
    settings: CacheSettings,
    redis: RedisSettings,
    data_dir: Path,
    counts: Counts,
    *,
    now: Callable[[], float],
    dice: Callable[[], float],
) -> Tiers:
    """Return the tiers; `now` gives Unix seconds, `dice` numbers in [0, 1).

    Counts that are a `Board` as well are shown what the tiers hold.
    """
    url = redis.url.get_secret_value()
    return Tiers(
        memory=None if settings.memory is None else MemoryTier(settings.memory, counts, now, dice),
        disk=None if settings.disk is None else DiskTier(data_dir / DIRECTORY, settings.disk, counts, now, dice),
        redis=RedisTier(url, settings.redis, redis.timeout_ms / 1000, counts, wall=now, dice=dice)
        if url and settings.redis
        else None,
        board=counts if isinstance(counts, Board) else None,
    )
