"""The memory store of one coordinator: its ports over the tables that it shares with others."""

from __future__ import annotations

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
from pointsman.stores.inprocess.liveness import InProcessLiveness
from pointsman.stores.inprocess.wakeup import Inbound, InProcessWakeup
from pointsman.stores.memory.database import MemoryDatabase
from pointsman.stores.memory.event_log import MemoryEventLog
from pointsman.stores.memory.human_tasks import MemoryHumanTasks
from pointsman.stores.memory.inspection import MemoryInspection
from pointsman.stores.memory.mailbox import MemoryMailbox
from pointsman.stores.memory.notices import MemoryNotices
from pointsman.stores.memory.ownership import MemoryOwnership
from pointsman.stores.memory.reservations import MemoryReservations
from pointsman.stores.memory.retention import MemoryRetention
from pointsman.stores.memory.session import Session
from pointsman.stores.memory.states import MemoryStates
from pointsman.stores.memory.system_log import MemorySystemLog


class MemoryStore:
    """A `Store` over a `MemoryDatabase`; all use of one database stays in one event loop.

    Args:
        database: shared with other coordinators of this process; without it, one of its own.
        clock: this coordinator's clock where it differs from the database's (a simulated drift).
    """

    def __init__(self, database: MemoryDatabase | None = None, *, clock: Clock | None = None) -> None:
        self.database = database if database is not None else MemoryDatabase()
        self.clock: Clock = clock if clock is not None else self.database.clock
        self._session = Session(self.database)
        self._inbound = Inbound()
        self._liveness = InProcessLiveness(self._session, self.clock)
        self.log: EventLog = MemoryEventLog(self._session)
        self.mailbox: Mailbox = MemoryMailbox(self._session)
        self.ownership: Ownership = MemoryOwnership(self._session)
        self.liveness: Liveness = self._liveness
        self.wakeup: Wakeup = InProcessWakeup(self._inbound, lambda: self.database.inbound)
        self.system: SystemLog = MemorySystemLog(self._session)
        self.board: Board = InProcessBoard(self._session)
        self.human_tasks: HumanTasks = MemoryHumanTasks(self._session)
        self.notices: Notices = MemoryNotices(self._session)
        self.reservations: Reservations = MemoryReservations(self._session)
        self.states: States = MemoryStates(self._session)
        self.inspection: Inspection = MemoryInspection(self._session)
        self.retention: Retention = MemoryRetention(self._session)

    @property
    def description(self) -> str:
        return "memory (this process alone; nothing survives it)"

    async def open(self) -> None:
        if not self._session.is_open:
            self._session.is_open = True
            self.database.inbound.append(self._inbound)

    async def close(self) -> None:
        """Without `release` before it, this looks to others like the end of a process."""
        if self._session.is_open:
            self._session.is_open = False
            self.database.inbound.remove(self._inbound)
            await self._liveness.stop()

    def bucket(self) -> int:
        return self.clock.now() // BUCKET_MS
