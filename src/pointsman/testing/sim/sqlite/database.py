"""The file of a schedule: what was committed to it when, and the processes that open it, one at a time."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Final, TypeVar

from pointsman.kernel import events as ev
from pointsman.kernel.events import Recorded
from pointsman.ports.event_log import Head
from pointsman.stores.sqlite import SqliteDatabase, SqliteSettings, SqliteStore, rows
from pointsman.stores.sqlite.connection import Connection, Writer
from pointsman.stores.sqlite.event_log import _feed
from pointsman.stores.sqlite.migrate import migrate
from pointsman.testing.sim.clocks import ProcessClocks, SimClock
from pointsman.testing.sim.databases import Committed, Erased, OpenRun, Surroundings
from pointsman.testing.sim.reading import ALL, Reader
from pointsman.testing.sim.sqlite.writer import SimWriter

T = TypeVar("T")

IN_MEMORY: Final = Path("/dev/shm")
FILE: Final = "pointsman.db"
OPEN_RUNS: Final = "SELECT id, status, wake_at FROM runs WHERE ended_at IS NULL ORDER BY number"
ALTER: Final = """
UPDATE streams SET body = body || ' '
WHERE codec = 0 AND sequence = ? AND number = (SELECT number FROM runs WHERE id = ?)
"""
CUT: Final = Committed("", Recorded(0, 0, "", 0, b""), 0)


class MachineClock:
    """The clock of the machine that the file is on, which is the database's too: its processes need no estimate."""

    early_ms = 0

    def __init__(self, true: SimClock, clocks: ProcessClocks) -> None:
        self._true = true
        self._clocks = clocks

    def now(self) -> int:
        return self._true.now()

    def monotonic(self) -> float:
        return self._clocks.monotonic()


class Opened(SqliteDatabase):
    """The file as one process has it: production's, but that its writer is no thread."""

    def __init__(self, path: Path, clock: MachineClock, file: SimFile, around: Surroundings) -> None:
        super().__init__(path, clock=clock)
        self.writer = self._writer = SimWriter(path, self.settings, file, around)
        around.loop.inline |= {self.open, self.close}

    def kill(self) -> None:
        """What the system does for a process that has ended: it closes its files, which frees the lock."""
        self.writer.kill()
        self._unlock()


class FileSeat:
    """A `Seat` at a file: production's store, unchanged."""

    def __init__(self, file: SimFile, around: Surroundings) -> None:
        self.clock = MachineClock(file.true_clock, around.clocks)
        self.database = Opened(file.path, self.clock, file, around)
        self.store = SqliteStore(self.database)

    @property
    def is_busy(self) -> bool:
        return self.database.writer.is_busy

    def heal(self) -> None:
        """Nothing is between a process and its own file."""

    def crash(self) -> None:
        self.database.kill()


class _Beside(SqliteDatabase):
    """The file as a reader beside its process has it: what was committed, and nothing else."""

    def __init__(self, path: Path, clock: SimClock) -> None:
        super().__init__(path, clock=clock)
        self.connection = Writer(path, SqliteSettings())._connect()
        self.connection.execute("PRAGMA query_only = ON")

    def open(self) -> None:
        """It needs no lock."""

    def close(self) -> None:
        self.connection.close()

    async def call(self, work: Callable[[Connection], T]) -> T:
        return work(self.connection)


class SimFile:
    """A `SimDatabase`: a real file, with its write-ahead log, in memory where the machine has a place for that."""

    def __init__(self, clock: SimClock) -> None:
        self.true_clock = clock
        self.damaged: dict[str, Recorded] = {}
        self.erased: list[Erased] = []
        self.is_full = self.is_failing = False
        self._folder = Path(mkdtemp(prefix="pointsman-sim-", dir=IN_MEMORY if IN_MEMORY.is_dir() else None))
        self.path = self._folder / FILE
        self.path.write_bytes(_empty_file())
        self._seats: list[FileSeat] = []
        self._committed: list[Committed] = []
        self._past: dict[str, Erased] = {}
        """Every run as it was before the clock was put forward: what retention deletes is among these."""
        self._seen = 0
        """The last position in the file that was committed."""
        self._beside = _Beside(self.path, clock)
        self.reader = Reader(_opened(self._beside))

    @property
    def position(self) -> int:
        return len(self._committed)

    def open_runs_now(self) -> Sequence[OpenRun]:
        return [OpenRun(*row) for row in self._beside.connection.execute(OPEN_RUNS)]

    def epoch_of(self, run: str) -> int:
        row = self._beside.connection.execute("SELECT epoch FROM runs WHERE id = ?", (run,)).fetchone()
        return row[0] if row is not None else 0

    def join(self, around: Surroundings) -> FileSeat:
        seat = FileSeat(self, around)
        self._seats.append(seat)
        return seat

    def committed(self) -> Sequence[Committed]:
        return self._committed

    def hurt(self, *, is_full: bool = False, is_failing: bool = False) -> None:
        """The disk is so from now on."""
        self.is_full, self.is_failing = is_full, is_failing
        for seat in self._seats:
            seat.database.writer.feel_the_disk()

    def alter(self, run: str, event: Recorded) -> bool:
        connection = sqlite3.connect(self.path, isolation_level=None, timeout=0)
        try:
            changed = connection.execute(ALTER, (event.sequence, run)).rowcount == 1
        except sqlite3.OperationalError:  # a process is within a transaction: production's never is between groups
            changed = False
        finally:
            connection.close()
        return changed

    def skip(self, ms: int) -> None:
        self._past = {head.id: self._as_it_is(head) for head in self.reader.heads()}
        self.true_clock.skip(ms)
        for seat in self._seats:
            for row in seat.database.incarnations.values():
                row.expires_at += ms

    def close(self) -> None:
        for seat in self._seats:
            seat.crash()
        self._beside.close()
        shutil.rmtree(self._folder)

    # -- what production changes in it ------

    def observe(self) -> Sequence[Committed]:
        now, first = self.true_clock.now(), len(self._committed)
        found, _ = _feed(self._beside.connection, self._seen, ALL)
        for run, position, *row in found:
            self._seen, event = position, rows.recorded(tuple(row))
            if event.type == ev.LogRepaired.__name__:
                self._cut(run, event.sequence)
            self._committed.append(Committed(run, event, now))
        if self._past:
            self._note_erased(now)
        return self._committed[first:]

    def _cut(self, run: str, sequence: int) -> None:
        """A repair has moved away what stood from there on."""
        for place, one in enumerate(self._committed):
            if one.run == run and one.event.sequence >= sequence:
                self._committed[place] = CUT._replace(at=one.at)

    def _note_erased(self, now: int) -> None:
        left = {head.id: head for head in self.reader.heads()}
        for run in sorted(self._past.keys() - left.keys()):
            past = self._past.pop(run)
            parent = past.head.parent or ""
            was = self._past.get(parent)
            head = left.get(parent, was.head if was is not None else None)
            self.erased.append(past._replace(parent=head, at=now, position=self.position))

    def _as_it_is(self, head: Head) -> Erased:
        stream, mails = tuple(self.reader.stream(head.id)), tuple(self.reader.mails(head.id))
        return Erased(head, None, 0, 0, stream, mails)


def _opened(database: SqliteDatabase) -> SqliteStore:
    """For reading alone: it registers nobody, and takes no lock."""
    store = SqliteStore(database)
    store._session.is_open = True
    return store


@cache
def _empty_file() -> bytes:
    """A file of this release, without anything in it: making it takes as long as a tenth of a schedule."""
    folder = Path(mkdtemp(prefix="pointsman-sim-"))
    try:
        connection = sqlite3.connect(folder / FILE, isolation_level=None)
        migrate(connection)
        connection.close()
        return (folder / FILE).read_bytes()
    finally:
        shutil.rmtree(folder)
