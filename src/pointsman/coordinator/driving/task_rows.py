"""What an append says of human tasks besides its events: the rows of the people's list, and notices about them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from pointsman.kernel import events as ev
from pointsman.kernel.asking import OpenTask, open_task
from pointsman.kernel.requests import Produced
from pointsman.kernel.state import RunState
from pointsman.ports.human_tasks import TaskRow, detail_of
from pointsman.ports.notices import NoticeRow

Rows = tuple[tuple[TaskRow, ...], tuple[NoticeRow, ...]]


class OpenTasks:
    """The human tasks of one run that are open in the log or about to be, by call.

    Args:
        has_webhook: whether there is a webhook to notify.
    """

    def __init__(self, state: RunState, *, has_webhook: bool = False) -> None:
        self._state = state
        self._has_webhook = has_webhook
        self.by_call = {call: task.id for call, task in (state.tasks or {}).items()}

    def rows(self, produced: Sequence[Produced], after: int) -> Rows:
        """The rows and notices for tasks that these events, which follow sequence `after`, open, change and close.
        Returns the same for the same events until `moved`.
        """
        rows: list[TaskRow] = []
        notices: list[NoticeRow] = []
        tasks = dict(self.by_call)
        for sequence, entry in enumerate(produced, after + 1):
            rows += _apply(entry, sequence, tasks, self._state)
            if self._has_webhook and type(entry.event) in NOTICED:
                notices.append(_notice(entry.event, self._state, entry.at))
        return tuple(rows), tuple(notices)

    def moved(self, produced: Sequence[Produced]) -> None:
        """Note that these events are in the log."""
        for entry in produced:
            _apply(entry, 0, self.by_call, self._state)


def _apply(entry: Produced, sequence: int, tasks: dict[str, str], state: RunState) -> list[TaskRow]:
    event, at = entry.event, entry.at
    if isinstance(event, ev.HumanTaskOpened | ev.HumanTaskRequested):
        tasks[event.call] = event.task
        return [_open_row(event, sequence, state, at)]
    if not tasks:
        return []
    if isinstance(event, ev.HumanTaskAssigned | ev.HumanTaskEscalated) and tasks.get(event.call) == event.task:
        return [_row(event.task, event.call, "open", at, event.assignee)]
    if isinstance(event, ev.HumanTaskAnswered | ev.HumanTaskExpired):
        if tasks.get(event.call) != event.task:
            return []  # misplaced: the row of its task is closed, and that of this call's is another's
        del tasks[event.call]
        return [_row(event.task, event.call, _end_of(event), at)]
    if isinstance(event, ev.CallCancelled) and (task := tasks.pop(event.call, "")):
        return [_row(task, event.call, "closed", at)]
    if isinstance(event, ev.TERMINAL):
        left = [_row(task, call, "closed", at) for call, task in tasks.items()]
        tasks.clear()
        return left
    return []


def _end_of(event: ev.HumanTaskAnswered | ev.HumanTaskExpired) -> str:
    if isinstance(event, ev.HumanTaskExpired):
        return "expired"
    return "answered" if event.failure is None else "refused"


def _row(task: str, call: str, status: str, at: int, assignee: str | None = None) -> TaskRow:
    """The row of a task that exists already."""
    return TaskRow(task, call, status, "", b"{}", at, assignee)


def _open_row(event: ev.HumanTaskOpened | ev.HumanTaskRequested, requested: int, state: RunState, at: int) -> TaskRow:
    fields: dict[str, Any] = {}
    if isinstance(event, ev.HumanTaskOpened):
        pending = state.calls.get(event.call)
        requested = pending.requested if pending else 0  # 0: it is over already, and nobody will look at it twice
        fields = {
            "agent": pending.asked if pending else "", "kind": event.failure.kind, "message": event.failure.message
        }  # fmt: skip
    task = open_task(event.task, event.call, event.question, event.digest, event.terms, at)
    return TaskRow(event.task, event.call, "open", event.question, _detail(task, fields), at, task.assignee, requested)


def _detail(task: OpenTask, fields: dict[str, Any]) -> bytes:
    """What a list shows of a task besides its columns."""
    if task.expires_at is not None:
        fields["expires_at"] = iso(task.expires_at)
    if task.escalate_at is not None:
        fields |= {"escalate_at": iso(task.escalate_at), "escalate_to": task.escalate_to}
    return detail_of(**fields)


def iso(at_ms: int) -> str:
    """Format as RFC 3339, to the millisecond."""
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03}Z"


# -- notices ------------------------------------------------------------------------------------------------------

OPENED = "human_task.opened"
NOTICED: dict[type[ev.Event], str] = {
    ev.HumanTaskOpened: OPENED,
    ev.HumanTaskRequested: OPENED,
    ev.HumanTaskEscalated: "human_task.escalated",
    ev.HumanTaskExpired: "human_task.expired",
}
"""What a webhook is told of, and under which type."""


def _notice(event: Any, state: RunState, at: int) -> NoticeRow:
    """The notice about an event of `NOTICED`."""
    said: dict[str, Any] = {}
    if isinstance(event, ev.HumanTaskOpened | ev.HumanTaskRequested):
        said = _told(open_task(event.task, event.call, event.question, event.digest, event.terms, at))
    elif isinstance(event, ev.HumanTaskEscalated):
        said = {"assignee": event.assignee, "before": event.before}
    again = event.step if isinstance(event, ev.HumanTaskEscalated) else 1
    return _notice_of(NOTICED[type(event)], event.task, event.call, state, said, at, again)


def _told(task: OpenTask) -> dict[str, Any]:
    expires_at = None if task.expires_at is None else iso(task.expires_at)
    return {"question": task.question, "assignee": task.assignee, "digest": task.digest, "expires_at": expires_at}


def _notice_of(
    kind: str, task: str, call: str, state: RunState, said: dict[str, Any], at: int, again: int = 1
) -> NoticeRow:
    """Build a notice. Its id does not depend on when and by whom it is sent, so that a receiver can drop duplicates.
    `again`: how many earlier notices of its kind there were.
    """
    who = {"task": task, "run": state.run, "call": call, "workflow": state.workflow, "tenant": state.tenant}
    body = msgspec.json.encode({"type": kind, "timestamp": iso(at), "data": who | said})
    number = f"{again}_" if again > 1 else ""
    return NoticeRow(f"{kind.rpartition('.')[2]}_{number}{task}", at, body)  # a signed id has no full stops


# -- after a redrive ------------------------------------------------------------------------------------------------


def open_again(state: RunState, questions: Sequence[OpenTask], at: int, *, has_webhook: bool) -> Rows:
    """The human tasks that a run's failure closed and its redrive opens again. A notice goes out for each question of
    the body, because it is asked again as a new task.

    Args:
        state: of the run after the redrive.
        questions: those that the body asks again, as they were before the redrive.
    """
    rows: list[TaskRow] = []
    notices: list[NoticeRow] = []
    calls = {task.call for task in questions}
    for task in (state.tasks or {}).values():
        rows.append(
            TaskRow(
                task.id, task.call, "open", task.question, _detail(task, {}), at, task.assignee, task.requested
            )
        )  # fmt: skip
        if has_webhook and task.call in calls:
            notices.append(_notice_of(OPENED, task.id, task.call, state, _told(task), at))
    return tuple(rows), tuple(notices)
