"""What a run's log tells of one human task."""

from __future__ import annotations

import msgspec

from pointsman.kernel import events as ev
from pointsman.kernel.asking import OpenTask, open_task, task_id
from pointsman.kernel.upcast import read_event
from pointsman.ports.event_log import EventLog, was_cut
from pointsman.ports.human_tasks import HumanTask
from pointsman.ports.inbox import FailedAttempt, Handover

PAGE, PAGE_BYTES = 500, 4_000_000


class Told(msgspec.Struct):
    """What the log says of one human task.

    Attributes:
        requested: the sequence of its call's request.
        agent: who was asked before people were; empty: nobody, the body asks people itself.
        schema: JSON Schema of an answer to a body's question; empty: any JSON.
    """

    task: OpenTask
    requested: int
    agent: str = ""
    attempts: list[FailedAttempt] = []
    handovers: list[Handover] = []
    context: msgspec.Raw | None = None
    proposed: msgspec.Raw | None = None
    schema: msgspec.Raw = ev.ABSENT

    @property
    def digest(self) -> str:
        return self.task.digest


async def told_of(log: EventLog, row: HumanTask) -> Told | None:
    """Read from its call's request on: one page, unless its run does much beside it. None: the log has no such task."""
    reader = _Reader(row.call, row.id)
    after = max(row.requested - 1, 0)
    while recorded := await log.read(row.run, after=after, limit=PAGE, bytes_max=PAGE_BYTES):
        for one in recorded:
            if one.type in _TELLING:
                reader.read(read_event(one), one)
        after = recorded[-1].sequence
        if not was_cut(recorded, PAGE, PAGE_BYTES) or (reader.is_over and row.status != "open"):
            break
    return reader.told


class _Reader:
    """Reads a run's events in their order.

    Attributes:
        told: what they tell of the task, once it was met.
        is_over: it has ended; only a redrive could say more of it.
    """

    def __init__(self, call: str, task: str) -> None:
        self.told: Told | None = None
        self.is_over = False
        self._call = call
        self._task = task
        self._requested = 0
        self._agent = ""
        self._holder = ""
        self._attempts: list[FailedAttempt] = []
        self._question: ev.HumanTaskRequested | None = None

    def read(self, event: ev.Event, row: ev.Recorded) -> None:
        if isinstance(event, ev.RunRedriven):
            self._redriven(event, row)
        elif getattr(event, "call", None) != self._call:
            return
        elif isinstance(event, ev.HumanTaskOpened):
            self._opened(event, row)
        elif isinstance(event, ev.HumanTaskRequested):
            self._question = event
            self._asked(event.task, row)
        elif isinstance(event, ev.HumanTaskAssigned | ev.HumanTaskEscalated):
            self._handed_over(event, row.at)
        elif isinstance(event, ev.CallCancelled):
            self.is_over = self.told is not None
        elif isinstance(event, ev.HumanTaskAnswered | ev.HumanTaskExpired):
            self.is_over = self.is_over or event.task == self._task
        elif isinstance(event, ev.CallRequested):
            self._requested, self._agent, self._holder, self._attempts = row.sequence, event.target, event.target, []
        elif isinstance(event, ev.CallReassigned):
            self._holder = event.agent
        elif isinstance(event, ev.AttemptFailed):
            self._attempts.append(FailedAttempt(event.attempt, self._holder, event.failure, row.at))

    def _opened(self, event: ev.HumanTaskOpened, row: ev.Recorded) -> None:
        if event.task == self._task:
            task = open_task(event.task, event.call, event.question, event.digest, event.terms, row.at)
            self.told = Told(task, self._requested, self._agent, list(self._attempts))

    def _asked(self, task: str, row: ev.Recorded) -> None:
        event = self._question
        if task == self._task and event is not None:
            self.told = Told(
                open_task(task, event.call, event.question, event.digest, event.terms, row.at), row.sequence,
                context=event.context if bytes(event.context) else None,
                proposed=event.proposed if bytes(event.proposed) else None, schema=event.schema,
            )  # fmt: skip

    def _redriven(self, event: ev.RunRedriven, row: ev.Recorded) -> None:
        """What a body asks anew has an id of its own, and no event but this."""
        if self._question is not None and self._call in event.calls:
            self._asked(task_id(self._question.task, self._question.digest, event.number), row)

    def _handed_over(self, event: ev.HumanTaskAssigned | ev.HumanTaskEscalated, at: int) -> None:
        if self.told is None or event.task != self._task:
            return
        if isinstance(event, ev.HumanTaskEscalated):
            self.told.task.go_to(event.assignee)
        by = event.by if isinstance(event, ev.HumanTaskAssigned) else ""
        self.told.handovers.append(Handover(event.assignee, at, by))


_TELLING = frozenset(
    cls.__name__
    for cls in (
        ev.CallRequested, ev.CallReassigned, ev.AttemptFailed, ev.HumanTaskOpened, ev.HumanTaskRequested,
        ev.HumanTaskAssigned, ev.HumanTaskEscalated, ev.HumanTaskAnswered, ev.HumanTaskExpired, ev.CallCancelled,
        ev.RunRedriven,
    )
)  # fmt: skip
