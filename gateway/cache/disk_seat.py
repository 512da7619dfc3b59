"""One thread's place at the file: a connection that is opened when needed and never outlives the file it is to."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, TypeVar

from gateway.cache.disk_file import (
    DiskBusy,
    DiskDamaged,
    DiskFault,
    DiskFile,
    DiskReplaced,
    DiskTrouble,
    Opened,
    judged,
)
from gateway.cache.disk_health import Rest

if TYPE_CHECKING:
    import apsw

T = TypeVar("T")


class Seat:
    """Runs work on the file, in one thread; `rest` is shared by all that open it."""

    def __init__(self, file: DiskFile, rest: Rest, busy_seconds: float) -> None:
        self.file = file
        self._rest = rest
        self._busy_seconds = busy_seconds
        self._opened: Opened | None = None

    @property
    def is_off(self) -> bool:
        """Return whether the file could not be opened or read, and is left alone for now."""
        return self._rest.is_on

    def run(self, work: Callable[[apsw.Connection], T], *, alone: bool = False) -> T:
        """Return what `work` made of the connection; where the file is found damaged, of a new one's.

        `alone` keeps all others, of all processes, from writing meanwhile. Raises DiskFault.
        """
        for attempt in range(2):
            opened = self._open()
            try:
                with judged(), self.file.locked() if alone else nullcontext():
                    if not alone or self.file.identity() == opened.identity:
                        result = work(opened.connection)
                        self._rest.worked()
                        return result
            except DiskDamaged as fault:
                self._set_aside(opened, fault)
                if attempt:
                    raise
            except DiskFault as fault:
                self.close()
                if isinstance(fault, DiskTrouble) and not alone:
                    self._rest.failed(str(fault))  # it can not even be read
                raise
        raise DiskReplaced("the file was replaced")

    def close(self) -> None:
        """Close the connection; what was not committed is undone."""
        opened, self._opened = self._opened, None
        if opened is not None:
            with suppress(DiskFault), judged():  # on a failing disk: whoever opens it next undoes it
                opened.connection.close()

    def _open(self) -> Opened:
        if self._rest.is_on:
            raise DiskTrouble(self._rest.reason)
        try:
            if self._opened is not None and self.file.identity() != self._opened.identity:
                self.close()
            if self._opened is None:
                self._opened = self.file.open(self._busy_seconds)
        except DiskBusy:
            raise
        except DiskFault as fault:
            self._rest.failed(str(fault))
            raise
        return self._opened

    def _set_aside(self, opened: Opened, why: DiskFault) -> None:
        self.close()
        try:
            self.file.set_aside(opened.identity, str(why))
        except DiskTrouble as fault:
            self._rest.failed(f"{why}, and: {fault}")
            raise
