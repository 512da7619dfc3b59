"""The file that entries are kept in: made whole or not at all, opened, and set aside when it is damaged.

Several processes do this with one directory at the same time; what must not overlap happens under a lock between them.
What is in the file, and when it is read, is decided elsewhere.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cache.disk_schema import APPLICATION, HEADER, SCHEMA, VERSION, WAYS, read_generation

if TYPE_CHECKING:
    import apsw

NAME = "embeddings.sqlite"
MOST_SET_ASIDE = 2
_LOCK_POLL_SECONDS = 0.005
_ATTEMPTS = 3
_Identity = tuple[int, int]


class DiskFault(Exception):
    """The store could not do what it was asked for; the message says why, for the operator."""


class DiskBusy(DiskFault):
    """Somebody else was at it for too long."""


class DiskReplaced(DiskFault):
    """There is another file by now."""


class DiskDamaged(DiskFault):
    """The file is not what was written."""


class DiskTrouble(DiskFault):
    """The place is full, gone, read-only or failing."""


@contextmanager
def judged() -> Iterator[None]:
    """Turn whatever SQLite or the file system raises into a DiskFault.

    We write all statements ourselves, so an error in one of them is the file's, too.
    """
    try:
        import apsw
    except ImportError as error:
        raise DiskTrouble(str(error)) from error
    try:
        yield
    except (apsw.BusyError, apsw.LockedError) as error:
        raise DiskBusy(str(error)) from error
    except (
        apsw.FullError,
        apsw.IOError,
        apsw.ReadOnlyError,
        apsw.CantOpenError,
        apsw.PermissionsError,
        apsw.AuthError,
        apsw.ProtocolError,
        apsw.NoLFSError,
        apsw.NoMemError,
        MemoryError,
        OSError,
    ) as error:
        raise DiskTrouble(str(error) or type(error).__name__) from error
    except (apsw.Error, UnicodeError, TypeError, ValueError, OverflowError) as error:
        raise DiskDamaged(f"{type(error).__name__}: {error}") from error


@dataclass(frozen=True, slots=True)
class Opened:
    """A connection, for one thread, and which file it is to."""

    connection: apsw.Connection
    identity: _Identity


class DiskFile:
    """The file in `directory`; `damaged` is called when one was set aside, with its new name and why.

    `vfs` names SQLite's way to the file system, the default one if empty. Everything here may wait for the disk, and
    raises DiskFault and nothing else.
    """

    def __init__(
        self,
        directory: Path,
        damaged: Callable[[str, str], None],
        clock: Callable[[], float],
        *,
        lock_seconds: float,
        vfs: str,
    ) -> None:
        self.path = directory / NAME
        self.generation = 0  # the latest that was seen; changes when anybody cleared
        self._damaged = damaged
        self._clock = clock
        self._lock_seconds = lock_seconds
        self._vfs = vfs

    def identity(self) -> _Identity | None:
        """Return which file there is now: another one after it was set aside or cleared, None if there is none."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DiskTrouble(str(error)) from error
        return found.st_dev, found.st_ino

    def open(self, busy_seconds: float) -> Opened:
        """Open the file, made anew if there is none or it is damaged."""
        for _ in range(_ATTEMPTS):
            identity = self.identity()
            if identity is None:
                self.build(None, self.generation)
                continue
            try:
                connection = self._connect(busy_seconds)
            except DiskDamaged as fault:
                self.set_aside(identity, str(fault))
                continue
            if self.identity() == identity:
                return Opened(connection, identity)
            connection.close()
        raise DiskTrouble("the file is damaged or replaced again and again")

    def set_aside(self, identity: _Identity, why: str) -> None:
        """Rename the file if it is still that one, and forget the oldest of those set aside before."""
        with self.locked(), judged():
            if self.identity() != identity:
                return
            earlier = self._set_aside_before()
            stamp = max(int(self._clock()), *(number + 1 for number in earlier), 0)
            aside = self._aside(stamp)
            self.path.rename(aside)
            self.generation = max(self.generation + 1, stamp)  # it must be another, whatever it was
            for number in [*earlier, stamp][:-MOST_SET_ASIDE]:
                self._aside(number).unlink(missing_ok=True)
        self._damaged(aside.name, why)

    def _set_aside_before(self) -> list[int]:
        endings = (path.name.removeprefix(f"{NAME}.corrupt-") for path in self.path.parent.glob(f"{NAME}.corrupt-*"))
        return sorted(int(ending) for ending in endings if ending.isdecimal())

    def _aside(self, stamp: int) -> Path:
        return self.path.with_name(f"{NAME}.corrupt-{stamp}")

    def build(self, instead_of: _Identity | None, generation: int) -> None:
        """Make an empty file and put it in the place of that one; if there is another by now, leave it."""
        with self.locked(), judged():
            if self.identity() != instead_of:
                return
            fresh = self.path.with_name(f"{NAME}.new")
            fresh.unlink(missing_ok=True)
            os.close(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            self._write_schema(fresh, generation)
            self._drop_journal()  # or it would be played into the new file
            fresh.rename(self.path)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only one, of all threads and processes, that changes the file."""
        held = self._open_lock()
        try:
            until = time.monotonic() + self._lock_seconds
            while not _flock(held):
                if time.monotonic() >= until:
                    raise DiskBusy("another process holds the lock")
                time.sleep(_LOCK_POLL_SECONDS)
            yield
        finally:
            os.close(held)

    def _open_lock(self) -> int:
        directory = self.path.parent
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.open(directory / f"{NAME}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DiskTrouble(str(error)) from error

    def _connect(self, busy_seconds: float) -> apsw.Connection:
        for path, mode in ((self.path.parent, 0o700), (self.path, 0o600)):
            with suppress(OSError):  # of another owner, or read-only: no reason to do without it
                if path.stat().st_mode & 0o077:
                    path.chmod(mode)
        with judged():
            connection = self._connection(self.path)
        try:
            with judged():
                self._check(connection, busy_seconds)
        except DiskFault:
            connection.close()
            raise
        return connection

    def _check(self, connection: apsw.Connection, busy_seconds: float) -> None:
        connection.set_busy_timeout(int(busy_seconds * 1000))
        if connection.pragma("application_id") != APPLICATION:
            raise DiskDamaged("it is not a file of ours")
        if (version := connection.pragma("user_version")) != VERSION:
            raise DiskDamaged(f"it is of version {version}, and this gateway writes version {VERSION}")
        if connection.pragma("journal_mode") == "wal":
            raise DiskDamaged("its header asks for a journal that is mapped")
        for name, value in WAYS:
            connection.pragma(name, value)
        if connection.readonly("main") and os.access(self.path, os.W_OK):
            raise DiskDamaged("its header says that nobody may write")
        self.generation = read_generation(connection)

    def _write_schema(self, path: Path, generation: int) -> None:
        connection = self._connection(path)
        try:
            connection.execute("PRAGMA journal_mode = OFF")  # what is not whole is never renamed
            for name, value in HEADER:
                connection.pragma(name, value)
            connection.execute(SCHEMA)
            connection.execute("INSERT INTO about VALUES (?)", (generation,))
        finally:
            connection.close()

    def _connection(self, path: Path) -> apsw.Connection:
        import apsw

        return apsw.Connection(str(path), vfs=self._vfs or None)

    def _drop_journal(self) -> None:
        for ending in ("-journal", "-wal", "-shm"):
            self.path.with_name(NAME + ending).unlink(missing_ok=True)


def _flock(held: int) -> bool:
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise DiskTrouble(str(error)) from error
    return True
