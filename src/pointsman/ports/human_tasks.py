"""Human tasks: the list that people see, kept up to date by the appends that open and close tasks (`Append.tasks`).

The list is a read model. A person's decision is a mail of the run, and the first one counts.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

TASK_STATUSES = ("open", "answered", "refused", "expired", "closed")
"""closed: the run went on without an answer (it ended, or gave the question up)."""


class TaskRow(msgspec.Struct, frozen=True):
    """What an append says of one task. The row is made by the first and changed by later ones: `status`, `closed_at`,
    `assignee` and `requested` alone change.

    Attributes:
        id: unique in the cluster, made of the run, its generation and the call.
        question: for people, in one line or a few.
        detail: a JSON object: agent, failures, and what the run's author added.
        at: ms by the database's clock.
        assignee: a person or group, empty for whoever looks; None: as it was.
        requested: the sequence of the first event that tells of it, its call's request; 0: as it was.
    """

    id: str
    call: str
    status: str
    question: str
    detail: bytes
    at: int
    assignee: str | None = None
    requested: int = 0


class HumanTask(msgspec.Struct, frozen=True):
    """A row of the list. `requested`: the sequence of the first event of the run's log that concerns this task."""

    id: str
    run: str
    call: str
    tenant: str
    workflow: str
    status: str
    question: str
    detail: msgspec.Raw
    opened_at: int
    closed_at: int | None = None
    assignee: str = ""
    requested: int = 0


class TaskFilter(msgspec.Struct, frozen=True):
    """Which tasks to list. An empty filter lists all; an empty assignee selects the tasks that are assigned to
    nobody.
    """

    status: tuple[str, ...] = ()
    tenant: str | None = None
    run: str | None = None
    workflow: str | None = None
    assignee: str | None = None


class HumanTasks(Protocol):
    async def get(self, task: str) -> HumanTask | None: ...

    async def list(
        self, where: TaskFilter, *, limit: int = 50, cursor: str | None = None
    ) -> tuple[list[HumanTask], str | None]:
        """List tasks, oldest first, with an opaque cursor for the next page (None at the end). Raises `InvalidCursor`
        for a cursor that this store did not return.
        """
        ...


def detail_of(**fields: Any) -> bytes:
    return msgspec.json.encode(fields)
