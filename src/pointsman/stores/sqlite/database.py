"""The database file, and the lock by which only one process has it open."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from pointsman.kernel.errors import StoreInUse, StoreUnavailable
from pointsman.ports.clock import Clock
from pointsman.stores.inprocess.clock import SystemClock
from pointsman.stores.inprocess.membership import Membership
from pointsman.stores.queries import load
from pointsman.stores.sqlite.connection import Connection, Writer
from pointsman.stores.sqlite.migrate import migrate
from pointsman.stores.sqlite.settings import SqliteSettings

T = TypeVar("T")
INCARNATIONS: Final = 1 << 20
"""Numbers that one process may use. The next process begins after them, so none is reused, without recording any."""

_SQL = load(__package__, "ownership")


class SqliteDatabase(Membership):
    """What the stores of one process share. Opened by the first of them, closed by the last.

    Args:
        path: the file; created if it does not exist. Next to it are `-wal`, `-shm` and `.lock`.
    """

    def __init__(self, path: str | Path, settings: SqliteSettings | None = None, *, clock: Clock | None = None) -> None:
        super().__init__(clock if clock is not None else SystemClock())
        self.path = Path(path)
        self.settings = settings or SqliteSettings()
        self._writer = Writer(self.path, self.settings)
        self._users = 0
        self._lock: int | None = None

    def open(self) -> None:
        """Open the file. Raises StoreInUse, StoreUnavailable, SchemaFromFuture, SchemaDiffers."""
        if self._users == 0:
            self._lock = _lock(self.path)
            try:
                self._writer.start(self._prepare)
            except BaseException:
                self._unlock()
                raise
        self._users += 1

    def close(self) -> None:
        self._users -= 1
        if self._users == 0:
            self._writer.stop()
            self._unlock()

    async def call(self, work: Callable[[Connection], T]) -> T:
        """See `Writer.call`."""
        return await self._writer.call(work)

    def _prepare(self, connection: Connection) -> None:
        """Bring the schema up to date. The owners of runs died with the process before, and others must learn of it."""
        migrate(connection)
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT OR IGNORE INTO cluster (key, value) VALUES ('incarnations', '0')")
        (given,) = connection.execute("SELECT value FROM cluster WHERE key = 'incarnations'").fetchone()
        self.next_incarnation = int(given) + 1
        connection.execute("UPDATE cluster SET value = ? WHERE key = 'incarnations'", (str(int(given) + INCARNATIONS),))
        connection.execute("COMMIT")
        self.deaths += sorted(owner for (owner,) in connection.execute(_SQL["owners"]))

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _lock(path: Path) -> int:
    """Lock the file, until the descriptor is closed or the process ends in any way.

    Raises:
        StoreInUse, StoreUnavailable.
    """
    try:
        descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StoreUnavailable(f"{path} can't be used: {error.strerror or error}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise StoreInUse(
            f"another process has {path} open: stop it, or let several processes share a PostgreSQL"
        ) from error
    return descriptor
