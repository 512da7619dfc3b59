"""What many requests put within a moment is one transaction, in which the latest of each key stays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from gateway.cache import Entry, Space
from gateway.cache.disk import DiskWays
from tests.support.cache_disk import OTHER, SPACE, Seen, entries_of, entry_of, open_tier

UNTIL_CLOSED = DiskWays(gather_seconds=60, tend_seconds=60)


def transactions(directory: Path) -> int:
    """Return how often the file was written to, as SQLite counts it."""
    return int.from_bytes((directory / "embeddings.sqlite").read_bytes()[24:28])


async def write(directory: Path, puts: Sequence[tuple[Entry, Space]], seen: Seen | None = None) -> int:
    """Put each entry as a request of its own, all within a moment; return how many transactions that took."""
    first = open_tier(directory)
    first.put_many([entry_of("there before")], SPACE)
    first.put_many([entry_of("there before", space=OTHER)], OTHER)
    await first.close()
    before = transactions(directory)
    tier = open_tier(directory, seen, ways=UNTIL_CLOSED)
    for entry, space in puts:
        tier.put_many([entry], space)
    await tier.close()
    return transactions(directory) - before


@pytest.mark.parametrize(("requests", "needed"), [(1, 1), (30, 1), (64, 1), (65, 2), (200, 4)])
async def test_requests_share_a_transaction_of_at_most_64_rows(tmp_path: Path, requests: int, needed: int) -> None:
    entries = entries_of(range(requests))

    written = await write(tmp_path, [(entry, SPACE) for entry in entries])

    tier = open_tier(tmp_path)
    assert await tier.get_many([entry.key for entry in entries]) == {entry.key: entry for entry in entries}
    assert written == needed
    await tier.close()


async def test_models_have_a_transaction_each_and_keep_their_labels(tmp_path: Path) -> None:
    puts = [(entry, entry_space) for pair in zip(_in(SPACE), _in(OTHER), strict=True) for entry, entry_space in pair]

    written = await write(tmp_path, puts)

    tier = open_tier(tmp_path)
    assert [(label, entries) for label, entries, _ in await tier.labels()] == [
        ("openai/large", 21),
        ("openai/small", 21),
    ]
    assert len(await tier.get_many([entry.key for entry, _ in puts])) == 40
    assert written == 2
    await tier.close()


async def test_of_entries_of_one_key_the_latest_is_written(tmp_path: Path) -> None:
    older, newer = entry_of("same", 4), entry_of("same", 8)

    await write(tmp_path, [(older, SPACE), (entry_of("another"), SPACE), (newer, SPACE)])

    tier = open_tier(tmp_path)
    assert await tier.get_many([newer.key]) == {newer.key: newer}
    assert (await tier.state()).entries == 4
    await tier.close()


def _in(space: Space) -> list[tuple[Entry, Space]]:
    return [(entry, space) for entry in entries_of(range(20), space=space)]
