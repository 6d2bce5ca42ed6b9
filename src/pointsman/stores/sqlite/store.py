"""The SQLite store of one coordinator: its ports over the file that it shares with others of its process."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Final

from pointsman.ports.board import Board
from pointsman.ports.clock import Clock
from pointsman.ports.event_log import EventLog
from pointsman.ports.human_tasks import HumanTasks
from pointsman.ports.inspection import Inspection
from pointsman.ports.liveness import Liveness
from pointsman.ports.mailbox import Mailbox
from pointsman.ports.notices import Notices
from pointsman.ports.ownership import Ownership
from pointsman.ports.reservations import Reservations
from pointsman.ports.retention import BUCKET_MS, Retention
from pointsman.ports.states import States
from pointsman.ports.system_log import SystemLog
from pointsman.ports.wakeup import Wakeup
from pointsman.stores.inprocess.board import InProcessBoard
from pointsman.stores.inprocess.wakeup import Inbound, InProcessWakeup
from pointsman.stores.sqlite.connection import Connection
from pointsman.stores.sqlite.database import SqliteDatabase
from pointsman.stores.sqlite.event_log import SqliteEventLog
from pointsman.stores.sqlite.human_tasks import SqliteHumanTasks
from pointsman.stores.sqlite.inspection import SqliteInspection
from pointsman.stores.sqlite.liveness import SqliteLiveness
from pointsman.stores.sqlite.mailbox import SqliteMailbox
from pointsman.stores.sqlite.notices import SqliteNotices
from pointsman.stores.sqlite.ownership import SqliteOwnership
from pointsman.stores.sqlite.reservations import SqliteReservations
from pointsman.stores.sqlite.retention import SqliteRetention
from pointsman.stores.sqlite.session import Session
from pointsman.stores.sqlite.states import SqliteStates
from pointsman.stores.sqlite.system_log import SqliteSystemLog

HASH_SEED_MAX: Final = 2**32 - 1


class SqliteStore:
    """A `Store` over a file. All use of one database stays in one process.

    Args:
        database: the file, or a database that other coordinators of this process use too.
    """

    def __init__(self, database: SqliteDatabase | str | Path) -> None:
        self.database = database if isinstance(database, SqliteDatabase) else SqliteDatabase(database)
        self.clock: Clock = self.database.clock
        self._session = Session(self.database)
        self._inbound = Inbound()
        self._liveness = SqliteLiveness(self._session, self.clock)
        self.log: EventLog = SqliteEventLog(self._session)
        self.mailbox: Mailbox = SqliteMailbox(self._session)
        self.ownership: Ownership = SqliteOwnership(self._session)
        self.liveness: Liveness = self._liveness
        self.wakeup: Wakeup = InProcessWakeup(self._inbound, lambda: self.database.inbound)
        self.system: SystemLog = SqliteSystemLog(self._session)
        self.board: Board = InProcessBoard(self._session)
        self.human_tasks: HumanTasks = SqliteHumanTasks(self._session)
        self.notices: Notices = SqliteNotices(self._session, self.clock)
        self.reservations: Reservations = SqliteReservations(self._session)
        self.states: States = SqliteStates(self._session)
        self.inspection: Inspection = SqliteInspection(self._session)
        self.retention: Retention = SqliteRetention(self._session)

    @property
    def description(self) -> str:
        return f"SQLite at {self.database.path} (one process)"

    async def open(self) -> None:
        """Open the store. Raises StoreInUse, StoreUnavailable, SchemaFromFuture, SchemaDiffers."""
        if not self._session.is_open:
            await asyncio.to_thread(self.database.open)
            self._session.is_open = True
            self.database.inbound.append(self._inbound)

    async def close(self) -> None:
        """Close the store. Without `release` before it, this looks to others like the end of a process."""
        if self._session.is_open:
            self._session.is_open = False
            self.database.inbound.remove(self._inbound)
            await self._liveness.stop()
            await asyncio.to_thread(self.database.close)

    def bucket(self) -> int:
        return self.clock.now() // BUCKET_MS

    async def hash_seed(self) -> int:
        """The seed of string hashes for every process that opens the file; drawn once."""

        def draw(connection: Connection) -> int:
            drawn = str(random.SystemRandom().randint(1, HASH_SEED_MAX))
            connection.execute("INSERT OR IGNORE INTO cluster (key, value) VALUES ('hash_seed', ?)", (drawn,))
            (seed,) = connection.execute("SELECT value FROM cluster WHERE key = 'hash_seed'").fetchone()
            return int(seed)

        return await self._session.call(draw)
