"""Remembered embeddings: one entry for each input, in tiers that are asked in turn.

All but the settings is imported when it is first asked for, see `doors.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.cache.settings import (
    CacheSettings,
    DiskTierSettings,
    EmbeddingsSettings,
    MemoryTierSettings,
    RedisSettings,
    RedisTierSettings,
)
from gateway.doors import lazily

if TYPE_CHECKING:
    from gateway.cache.building import build_tiers
    from gateway.cache.disk import DiskTier
    from gateway.cache.entry import Entry, pack, unpack
    from gateway.cache.export import ExportError, ExportWriter, read_export
    from gateway.cache.keys import Input, Space, make_space
    from gateway.cache.memory import MemoryTier
    from gateway.cache.redis import RedisTier
    from gateway.cache.tier import Counts, Tier, TierName, TierState
    from gateway.cache.tiers import Recalled, SharedTier, Tiers
    from gateway.cache.wishes import FIELD, HEADER, NO_WISHES, Wishes, read_wishes

__all__ = [
    "FIELD",
    "HEADER",
    "NO_WISHES",
    "CacheSettings",
    "Counts",
    "DiskTier",
    "DiskTierSettings",
    "EmbeddingsSettings",
    "Entry",
    "ExportError",
    "ExportWriter",
    "Input",
    "MemoryTier",
    "MemoryTierSettings",
    "Recalled",
    "RedisSettings",
    "RedisTier",
    "RedisTierSettings",
    "SharedTier",
    "Space",
    "Tier",
    "TierName",
    "TierState",
    "Tiers",
    "Wishes",
    "build_tiers",
    "make_space",
    "pack",
    "read_export",
    "read_wishes",
    "unpack",
]

__getattr__ = lazily(
    __name__,
    {
        "RedisTier": "redis",
        "DiskTier": "disk",
        "SharedTier": "tiers",
        "ExportWriter": "export",
        "read_export": "export",
        "ExportError": "export",
        "Recalled": "tiers",
        "Tiers": "tiers",
        "MemoryTier": "memory",
        "FIELD": "wishes",
        "HEADER": "wishes",
        "NO_WISHES": "wishes",
        "Counts": "tier",
        "Entry": "entry",
        "Input": "keys",
        "Space": "keys",
        "Tier": "tier",
        "TierName": "tier",
        "TierState": "tier",
        "Wishes": "wishes",
        "build_tiers": "building",
        "make_space": "keys",
        "pack": "entry",
        "read_wishes": "wishes",
        "unpack": "entry",
    },
)
