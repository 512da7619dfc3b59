"""What is in the file, and every statement on it. Who may run them, and when, is decided elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import apsw

APPLICATION = 0x47574345  # "GWCE"
VERSION = 1
PAGE_BYTES = 4096
# For every connection. Nothing is mapped: a damaged page then is an error, never a signal. Nothing is synced: after a
# power cut the checksums decide, and no request waits for a disk. Triggers are told of rows that others replace.
WAYS: tuple[tuple[str, int | str], ...] = (
    ("journal_mode", "truncate"),
    ("synchronous", "off"),
    ("mmap_size", 0),
    ("cache_size", -4096),
    ("cell_size_check", 1),
    ("temp_store", 2),  # in memory, not in a directory of others
    ("trusted_schema", 0),
    ("recursive_triggers", 1),
)
# Keys, spaces and labels are blobs: damaged text could not even be read.
HEADER: tuple[tuple[str, int], ...] = (
    ("page_size", PAGE_BYTES),
    ("auto_vacuum", 2),  # what is not in use is given back when we ask for it
    ("application_id", APPLICATION),
    ("user_version", VERSION),
)
SCHEMA = """
CREATE TABLE about (generation INTEGER NOT NULL);
CREATE TABLE labels (space BLOB PRIMARY KEY, label BLOB NOT NULL, entries INTEGER NOT NULL, bytes INTEGER NOT NULL)
    WITHOUT ROWID;
CREATE TABLE entries (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE ON CONFLICT REPLACE, space BLOB NOT NULL,
    until INTEGER NOT NULL, packed BLOB NOT NULL);
CREATE INDEX entries_by_space ON entries (space);
CREATE INDEX entries_by_until ON entries (until);
CREATE TRIGGER entry_came AFTER INSERT ON entries BEGIN
    UPDATE labels SET entries = entries + 1, bytes = bytes + length(NEW.packed) WHERE space = NEW.space; END;
CREATE TRIGGER entry_went AFTER DELETE ON entries BEGIN
    UPDATE labels SET entries = entries - 1, bytes = bytes - length(OLD.packed) WHERE space = OLD.space; END;
"""
_AT_ONCE = (1, 8, 32, 64, 128, 256, 512)  # so that few statements serve requests of any size


@dataclass(frozen=True, slots=True)
class Row:
    """One entry as it is kept; `until` in Unix seconds."""

    id: int
    key: bytes
    until: int
    packed: bytes
    label: str = ""


@contextmanager
def writing(connection: apsw.Connection) -> Iterator[None]:
    """Keep all that is written within, or nothing; a connection that failed at it is of no further use."""
    connection.execute("BEGIN IMMEDIATE")
    yield
    connection.execute("COMMIT")


def read_rows(connection: apsw.Connection, keys: Sequence[bytes]) -> Iterator[tuple[int, bytes, int, bytes]]:
    """Yield (id, key, until, packed) of the rows of these keys; the types of damaged ones are made to fit."""
    start = 0
    while start < len(keys):
        left = len(keys) - start
        size = next((size for size in _AT_ONCE if size >= left), _AT_ONCE[-1])
        asked = list(keys[start : start + size])
        start += size
        places = ",".join("?" * size)
        yield from connection.execute(
            f"SELECT id, CAST(key AS BLOB), CAST(until AS INTEGER), CAST(packed AS BLOB) FROM entries WHERE key IN ({places})",  # noqa: S608 - places only
            asked + asked[-1:] * (size - len(asked)),
        )


def read_page(connection: apsw.Connection, after: int, most: int) -> list[Row]:
    """Return the oldest rows that came after the one with the id `after`, with their labels."""
    found = connection.execute(
        "SELECT id, CAST(key AS BLOB), CAST(until AS INTEGER), CAST(packed AS BLOB), CAST(label AS BLOB)"
        " FROM entries LEFT JOIN labels USING (space) WHERE id > ? ORDER BY id LIMIT ?",
        (after, most),
    )
    return [Row(id_, key, until, packed, _text(label)) for id_, key, until, packed, label in found]


def read_labels(connection: apsw.Connection) -> list[tuple[str, int, int]]:
    """Return (label, entries, bytes) of every label that has any, in order."""
    found = connection.execute(
        "SELECT CAST(label AS BLOB), SUM(CAST(entries AS INTEGER)), SUM(CAST(bytes AS INTEGER)) FROM labels"
        " WHERE entries > 0 GROUP BY label ORDER BY label"
    )
    return [(_text(label), int(entries), int(size)) for label, entries, size in found]


def read_generation(connection: apsw.Connection) -> int:
    return _number(connection, "SELECT CAST(generation AS INTEGER) FROM about")


def bump_generation(connection: apsw.Connection) -> None:
    connection.execute("UPDATE about SET generation = generation + 1")


def insert(connection: apsw.Connection, space: bytes, label: str, rows: Sequence[tuple[bytes, int, bytes]]) -> None:
    """Add (key, until, packed) in the place of what there was of these keys, as the newest."""
    connection.execute("INSERT OR IGNORE INTO labels VALUES (?, ?, 0, 0)", (space, label.encode()))
    connection.executemany(
        "INSERT INTO entries (key, space, until, packed) VALUES (?, ?, ?, ?)",
        [(key, space, until, packed) for key, until, packed in rows],
    )


def delete_ids(connection: apsw.Connection, ids: Sequence[int]) -> None:
    connection.executemany("DELETE FROM entries WHERE id = ?", [(id_,) for id_ in ids])


def delete_oldest(connection: apsw.Connection, most: int, needed: int) -> int:
    """Delete the oldest rows, at most so many, and no more than it takes for that many bytes."""
    chosen: list[int] = []
    for id_, size in connection.execute("SELECT id, length(packed) FROM entries ORDER BY id LIMIT ?", (most,)):
        chosen.append(id_)
        needed -= int(size)
        if needed <= 0:
            break
    delete_ids(connection, chosen)
    return len(chosen)


def delete_expired(connection: apsw.Connection, now: int, most: int) -> int:
    return _delete(connection, "SELECT id FROM entries WHERE until <= ? ORDER BY until LIMIT ?", (now, most))


def delete_label(connection: apsw.Connection, label: str, most: int) -> int:
    chosen = "SELECT id FROM entries WHERE space IN (SELECT space FROM labels WHERE label = ?) LIMIT ?"
    return _delete(connection, chosen, (label.encode(), most))


def delete_empty_labels(connection: apsw.Connection) -> int:
    connection.execute("DELETE FROM labels WHERE entries <= 0")
    return connection.changes()


def has_expired(connection: apsw.Connection, now: int) -> bool:
    return bool(_number(connection, "SELECT EXISTS (SELECT 1 FROM entries WHERE until <= ?)", (now,)))


def size_of(connection: apsw.Connection) -> int:
    """Return the bytes of the file."""
    return _number(connection, "PRAGMA page_count") * PAGE_BYTES


def used_of(connection: apsw.Connection) -> int:
    """Return the bytes of the file that are in use."""
    return size_of(connection) - _number(connection, "PRAGMA freelist_count") * PAGE_BYTES


def room_for(rows: Sequence[tuple[bytes, int, bytes]]) -> int:
    """Return how many bytes of the file these rows take at most: half-empty pages and their places in each index."""
    sizes = (len(packed) for _, _, packed in rows)
    taken = (
        2 * size + 256 if size < PAGE_BYTES // 2 else (size // (PAGE_BYTES - 4) + 2) * PAGE_BYTES for size in sizes
    )
    return sum(taken) + 8 * PAGE_BYTES


def give_back(connection: apsw.Connection, pages: int) -> None:
    """Make the file smaller by up to so many pages that are not in use."""
    connection.execute(f"PRAGMA incremental_vacuum({pages})").fetchall()


def _delete(connection: apsw.Connection, chosen: str, bindings: tuple[Any, ...]) -> int:
    connection.execute(f"DELETE FROM entries WHERE id IN ({chosen})", bindings)  # noqa: S608 - our own words
    return connection.changes()


def _number(connection: apsw.Connection, statement: str, bindings: tuple[Any, ...] = ()) -> int:
    for (value,) in connection.execute(statement, bindings):
        return int(value)
    raise ValueError("a row is missing")


def _text(label: bytes | None) -> str:
    return (label or b"").decode(errors="replace")
