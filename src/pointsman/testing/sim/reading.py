"""What the simulator reads of a schedule's database: through the ports of a store, whichever it is, past every fault.

It reads at once, in no virtual time: nothing that a schedule does depends on how often it is looked at.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from pointsman.kernel.events import Recorded
from pointsman.ports.event_log import Head, RunFilter
from pointsman.ports.human_tasks import HumanTask, TaskFilter
from pointsman.ports.mailbox import Mail
from pointsman.ports.store import Store
from pointsman.ports.system_log import SystemHead

T = TypeVar("T")

ALL = 1_000_000
"""More than a schedule can have of anything."""
EVERY = RunFilter()


class Reader:
    """Reads the database of a schedule through its ports, past every fault. `store` must be open, and answer without
    waiting for anything.
    """

    def __init__(self, store: Store) -> None:
        self._log = store.log
        self._mailbox = store.mailbox
        self._system = store.system
        self._tasks = store.human_tasks

    def heads(self) -> list[Head]:
        """Of the runs that are there, the oldest first."""
        return at_once(self._log.list_runs(EVERY, limit=ALL))[0][::-1]

    def stream(self, run: str) -> list[Recorded]:
        return at_once(self._log.read(run, limit=ALL))

    def mails(self, run: str) -> list[Mail]:
        return at_once(self._mailbox.read(run, after=0))

    def open_tasks(self) -> list[HumanTask]:
        return at_once(self._tasks.list(TaskFilter(status=("open",)), limit=ALL))[0]

    def system_heads(self, prefix: str) -> list[SystemHead]:
        return at_once(self._system.heads(prefix, limit=ALL))

    def system_stream(self, stream: str) -> list[Recorded]:
        return at_once(self._system.read(stream, limit=ALL))


def at_once(operation: Coroutine[Any, Any, T]) -> T:
    """Run an operation of a store to its end; it only ever yields."""
    try:
        while True:
            operation.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
