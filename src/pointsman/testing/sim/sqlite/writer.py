"""The thread of a simulated process that has the file open, in virtual time: it is held, and dies, with its process."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from pointsman.kernel.errors import StoreUnavailable
from pointsman.stores.sqlite import connection as production
from pointsman.stores.sqlite.connection import Connection, Operation, Writer
from pointsman.stores.sqlite.settings import SqliteSettings
from pointsman.testing.sim.databases import Committed, Surroundings

T = TypeVar("T")

PAGES_MAX = 1_073_741_823
"""What SQLite allows by itself."""


class Disk(Protocol):
    """What a writer finds below it. `is_full`: the file can't grow. `is_failing`: no commit gets through."""

    is_full: bool
    is_failing: bool

    def observe(self) -> Sequence[Committed]:
        """Something may have been committed. Gives the events that were."""
        ...


class SimWriter(Writer):
    """Production's groups and transactions, on the schedule's loop instead of a thread.

    A group is committed at one instant, and answered when the disk has it: a process that ends in between has committed
    what nobody was told of.
    """

    def __init__(self, path: Path, settings: SqliteSettings, disk: Disk, around: Surroundings) -> None:
        super().__init__(path, settings)
        self._around = around
        self._disk = disk
        self._connection: Connection | None = None
        self._waiting: list[Operation] = []
        self._group: list[Operation] = []

    @property
    def is_busy(self) -> bool:
        return bool(self._waiting or self._group)

    def start(self, prepare: Callable[[Connection], None]) -> None:
        self._connection = self._open(prepare)

    def stop(self) -> None:
        """What is queued is done first, as on the thread."""
        if self._connection is not None:
            self._answer()
            while self._waiting:
                self._write()
                self._answer()
            self._connection.close()
            self._connection = None

    def kill(self) -> None:
        """Its process has ended: what is not committed is gone, and nobody hears of anything."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def call(self, work: Callable[[Connection], T]) -> T:
        if self._connection is None:
            raise StoreUnavailable("this process has ended")
        operation = Operation(work)
        self._waiting.append(operation)
        if not self._group and len(self._waiting) == 1:
            self._later(self._wake_up_s(), self._take)
        result: T = await operation.future
        return result

    def feel_the_disk(self) -> None:
        """Do as the disk does from now on: it is SQLite itself that refuses what has no room, and commits."""
        connection, disk = self._connection, self._disk
        if connection is not None:
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            connection.execute(f"PRAGMA max_page_count = {pages if disk.is_full else PAGES_MAX}")
            connection.set_authorizer(_refuse_commit if disk.is_failing else None)

    # -- on the thread ------

    def _connect(self) -> Connection:
        connection = super()._connect()
        self._connection = connection
        self.feel_the_disk()
        self._connection = None
        return connection

    def _take(self) -> None:
        if self._connection is not None and self._waiting and not self._group:
            self._write()
            self._later(self._disk_s(), self._tell)

    def _write(self) -> None:
        """All that waits, up to a group, in one transaction."""
        assert self._connection is not None
        self._group, self._waiting = (
            self._waiting[: self._settings.group_max], self._waiting[self._settings.group_max :],
        )  # fmt: skip
        before = self._connection.total_changes
        production._perform(self._connection, self._group)
        committed = self._disk.observe() if self._connection.total_changes != before else ()
        self._say(committed)

    def _tell(self) -> None:
        if self._connection is not None:
            self._answer()
            if self._waiting:
                self._take()

    def _answer(self) -> None:
        group, self._group = self._group, []
        production._settle(group)

    def _say(self, committed: Sequence[Committed]) -> None:
        trace, name = self._around.trace, self._around.process.name
        if trace.is_on:
            for run, event, _ in committed:
                trace.say(name, f"append {run}@{event.epoch}:{event.sequence} {event.type}")
        refused = [operation for operation in self._group if isinstance(operation.error, StoreUnavailable)]
        if refused:
            trace.fault(name, "refused", f"{len(refused)} of {len(self._group)} operations: {refused[0].error}")

    def _later(self, delay_s: float, callback: Callable[[], None]) -> None:
        self._around.loop.call_later(delay_s, callback)

    def _wake_up_s(self) -> float:
        return 0.00002 + self._around.rng.random() * 0.0002

    def _disk_s(self) -> float:
        """Seconds until the disk has it: mostly a few milliseconds."""
        slow = self._around.faults.slow
        if slow and self._around.rng.random() < slow:
            self._around.trace.fault(self._around.process.name, "slow")
            return 0.02 + self._around.rng.random() * 0.6
        return 0.0003 + self._around.rng.random() * 0.003


def _refuse_commit(action: int, what: str | None, *_: str | None) -> int:
    is_commit = action == sqlite3.SQLITE_TRANSACTION and what == "COMMIT"
    return sqlite3.SQLITE_DENY if is_commit else sqlite3.SQLITE_OK
