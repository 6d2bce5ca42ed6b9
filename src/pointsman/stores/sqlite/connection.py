"""The only connection, on a thread of its own, and group commit.

Operations that are queued while a group is being written form the next group: all of them run in one transaction, each
under its own savepoint, and are answered after the commit. So an operation of an idle process does not wait for others,
and a busy process waits for the disk once for hundreds of operations. Must not know: runs, events, or any query.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from pointsman.kernel.errors import InvalidValue, PointsmanError, StoreUnavailable
from pointsman.stores.checks import holds
from pointsman.stores.sqlite.settings import SqliteSettings

T = TypeVar("T")
Connection = sqlite3.Connection


class Operation:
    """An operation that waits for its group: the work, and the caller's future."""

    __slots__ = ("error", "future", "loop", "result", "work")

    def __init__(self, work: Callable[[Connection], Any]) -> None:
        self.work = work
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self.loop.create_future()
        self.result: Any = None
        self.error: BaseException | None = None

    def settle(self) -> None:
        """Set the result; called in the loop of the caller, which may have left."""
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class Writer:
    """Runs operations: `start`, `call`, `stop`. Only one writer at a time has the file open; see `database.py`."""

    def __init__(self, path: Path, settings: SqliteSettings) -> None:
        self._path = path
        self._settings = settings
        self._queue: SimpleQueue[Operation | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def start(self, prepare: Callable[[Connection], None]) -> None:
        """Open the file, and call `prepare` on it first, in autocommit mode.

        Raises:
            StoreUnavailable: the file can't be opened, or is not a database. And what `prepare` raises.
        """
        opened: SimpleQueue[PointsmanError | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, args=(prepare, opened), name="sqlite", daemon=True)
        self._thread.start()
        error = opened.get()
        if error is not None:
            self._thread.join()
            self._thread = None
            raise error

    def stop(self) -> None:
        """Stop after all queued operations. Idempotent."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    async def call(self, work: Callable[[Connection], T]) -> T:
        """Do `work` in the next group. If the caller is cancelled, its work still runs to its end.

        Raises:
            StoreUnavailable: the disk refused; nothing of the group was written.
            InvalidValue: SQLite can't hold this; nothing of `work` was written.
        """
        operation = Operation(work)
        self._queue.put(operation)
        result: T = await operation.future
        return result

    # -- on the thread -----------------------------------------------------------------------------------------------

    def _run(self, prepare: Callable[[Connection], None], opened: SimpleQueue[PointsmanError | None]) -> None:
        try:
            connection = self._open(prepare)
        except PointsmanError as error:
            opened.put(error)
            return
        opened.put(None)
        while group := self._next_group():
            operations = [operation for operation in group if operation is not None]
            _perform(connection, operations)
            _tell(operations)
            if len(operations) < len(group):
                break
        connection.close()

    def _open(self, prepare: Callable[[Connection], None]) -> Connection:
        """Open the connection. Raises StoreUnavailable, and what `prepare` raises."""
        try:
            connection = self._connect()
            with _closed_on_failure(connection):
                prepare(connection)
        except (sqlite3.Error, OSError) as error:
            raise StoreUnavailable(f"{self._path} can't be used: {error}") from error
        return connection

    def _connect(self) -> Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, cached_statements=256)
        with _closed_on_failure(connection):
            connection.create_function("holds", 2, holds, deterministic=True)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA temp_store = MEMORY")
            connection.execute(f"PRAGMA cache_size = -{self._settings.cache_mb * 1024}")
            connection.execute(f"PRAGMA wal_autocheckpoint = {self._settings.wal_pages_max}")
        return connection

    def _next_group(self) -> list[Operation | None]:
        """Wait for an operation, and take all that are queued by then. The last is None if the writer is to stop."""
        group = [self._queue.get()]
        with contextlib.suppress(Empty):
            while group[-1] is not None and len(group) < self._settings.group_max:
                group.append(self._queue.get_nowait())
        return group


@contextlib.contextmanager
def _closed_on_failure(connection: Connection) -> Iterator[None]:
    """Close the connection on an error: the error refers to it, and would keep the file open as long as it lives."""
    try:
        yield
    except BaseException:
        connection.close()
        raise


def _perform(connection: Connection, group: list[Operation]) -> None:
    if not group:
        return
    try:
        connection.execute("BEGIN IMMEDIATE")
        for operation in group:
            connection.execute("SAVEPOINT operation")
            try:
                operation.result = operation.work(connection)
            except Exception as error:  # noqa: BLE001  it is told to who asked, and must not end the others
                operation.error = _meaning(error)
                connection.execute("ROLLBACK TO operation")
            connection.execute("RELEASE operation")
        connection.execute("COMMIT")
    except sqlite3.Error as error:  # the disk is full or failed: nothing of the group was written
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        for operation in group:
            operation.error = StoreUnavailable(f"the file could not be written: {error}")


def _meaning(error: Exception) -> Exception:
    if isinstance(error, UnicodeError | OverflowError):
        return InvalidValue(f"SQLite can't hold this: {error}")
    if isinstance(error, sqlite3.Error):
        return StoreUnavailable(f"SQLite refused: {error}")
    return error


def _tell(group: list[Operation]) -> None:
    """Settle the operations with one wake-up per loop; in a loop that is closed, nobody waits."""
    loops: dict[asyncio.AbstractEventLoop, list[Operation]] = {}
    for operation in group:
        loops.setdefault(operation.loop, []).append(operation)
    for loop, operations in loops.items():
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_settle, operations)


def _settle(operations: list[Operation]) -> None:
    for operation in operations:
        operation.settle()
