"""A store: the ports that one backend implements together, opened for one coordinator."""

from __future__ import annotations

from typing import Protocol

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
from pointsman.ports.retention import Retention
from pointsman.ports.states import States
from pointsman.ports.system_log import SystemLog
from pointsman.ports.wakeup import Wakeup


class Store(Protocol):
    """A store, opened for one coordinator, with connections of its own.

    Obligations: `open` fails with a named error if the store can't be used (`SchemaMissing`, `SchemaFromFuture`,
    `StoreUnavailable`); `close` is idempotent.
    """

    @property
    def log(self) -> EventLog: ...

    @property
    def mailbox(self) -> Mailbox: ...

    @property
    def ownership(self) -> Ownership: ...

    @property
    def liveness(self) -> Liveness: ...

    @property
    def wakeup(self) -> Wakeup: ...

    @property
    def system(self) -> SystemLog: ...

    @property
    def board(self) -> Board: ...

    @property
    def human_tasks(self) -> HumanTasks: ...

    @property
    def notices(self) -> Notices: ...

    @property
    def reservations(self) -> Reservations: ...

    @property
    def states(self) -> States: ...

    @property
    def inspection(self) -> Inspection: ...

    @property
    def retention(self) -> Retention: ...

    @property
    def clock(self) -> Clock: ...

    @property
    def description(self) -> str:
        """A description for display, without secrets."""
        ...

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    def bucket(self) -> int:
        """The bucket of a run that starts now."""
        ...
