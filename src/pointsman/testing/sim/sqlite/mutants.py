"""Guards of the SQLite store, broken on purpose, one (or a pair that backs each other up) at a time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from pointsman.kernel.errors import StoreUnavailable
from pointsman.ports.event_log import Append, AppendResult, Outcome, Resolution
from pointsman.stores.sqlite import connection, database, event_log, ownership
from pointsman.stores.sqlite.connection import Connection, Operation
from pointsman.stores.sqlite.event_log import SqliteEventLog
from pointsman.testing.sim.patching import patched


class Bent:
    """A connection that does something else instead of one statement."""

    def __init__(self, inner: Connection, statement: str, instead: Callable[[Connection], object]) -> None:
        self._inner = inner
        self._statement = statement
        self._instead = instead

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def execute(self, statement: str, *arguments: Any) -> Any:
        if statement == self._statement:
            return self._instead(self._inner)
        if statement.startswith("BEGIN") and self._inner.in_transaction:
            self._inner.execute("COMMIT")
        return self._inner.execute(statement, *arguments)


@contextmanager
def _bent(statement: str, instead: Callable[[Connection], object]) -> Iterator[None]:
    perform = connection._perform

    def performed(inner: Connection, group: list[Operation]) -> None:
        perform(Bent(inner, statement, instead), group)  # type: ignore[arg-type]

    with patched(connection, "_perform", performed):
        yield


@contextmanager
def answered_before_the_commit() -> Iterator[None]:
    """A group is answered while it is not committed: the next one commits it."""
    with _bent("COMMIT", lambda _: None):
        yield


@contextmanager
def refusals_not_told() -> Iterator[None]:
    """The disk refuses a group, and whoever had an answer before that is told it."""
    perform = connection._perform

    def hopeful(inner: Connection, group: list[Operation]) -> None:
        perform(inner, group)
        for operation in group:
            if operation.result is not None and isinstance(operation.error, StoreUnavailable):
                operation.error = None

    with patched(connection, "_perform", hopeful):
        yield


@contextmanager
def every_refusal_believed_to_be_done() -> Iterator[None]:
    """What an append that was refused left behind is not looked up: it is taken for durable."""

    async def ours(*_: Any) -> Resolution:
        return Resolution.OURS

    with patched(SqliteEventLog, "resolve", ours):
        yield


@contextmanager
def no_lock_of_the_file() -> Iterator[None]:
    """A second process opens the file beside the first."""

    def unguarded(path: Path) -> int:
        return os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)

    with patched(database, "_lock", unguarded):
        yield


@contextmanager
def no_lock_and_no_fence() -> Iterator[None]:
    """Two processes append, and each at the end, whatever the epoch and the sequence are."""

    settle = SqliteEventLog._settle

    def anywhere(self: SqliteEventLog, inner: Connection, item: Append, settled: Any) -> AppendResult:
        place = inner.execute("SELECT epoch, sequence FROM runs WHERE id = ?", (item.run,)).fetchone()
        if place is not None and item.create is None:
            item = msgspec.structs.replace(item, epoch=place[0], expected=place[1])
        return settle(self, inner, item, settled)

    with no_lock_of_the_file(), patched(SqliteEventLog, "_settle", anywhere):
        yield


@contextmanager
def no_mail_barrier() -> Iterator[None]:
    """An append that parks or ends a run moves although mail has arrived."""
    refuse = event_log._refuse_move

    def careless(place: event_log.Position | None, item: Append) -> Outcome | None:
        outcome = refuse(place, item)
        return None if outcome is Outcome.MAIL_ARRIVED else outcome

    with patched(event_log, "_refuse_move", careless):
        yield


@contextmanager
def no_epoch_raised() -> Iterator[None]:
    """A claim leaves the epoch as it was."""
    flat = {name: text.replace("epoch = epoch + 1", "epoch = epoch") for name, text in ownership._SQL.items()}
    with patched(ownership, "_SQL", flat):
        yield


SQLITE_MUTANTS: dict[str, Callable[[], contextlib.AbstractContextManager[None]]] = {
    "sqlite-commit": answered_before_the_commit,
    "sqlite-refusal": refusals_not_told,
    "sqlite-resolve": every_refusal_believed_to_be_done,
    "sqlite-lock+fence": no_lock_and_no_fence,
    "sqlite-mail-barrier": no_mail_barrier,
    "sqlite-epoch": no_epoch_raised,
}
