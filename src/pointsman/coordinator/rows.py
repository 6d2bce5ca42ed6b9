"""What an append says beside its events: rows of the people's list, of who spends from which tranche, and of the typed
state."""

from __future__ import annotations

from collections.abc import Sequence

from pointsman.kernel import events as ev
from pointsman.kernel.requests import Produced
from pointsman.kernel.state import PendingCall, RunState
from pointsman.kernel.upcast import read_event
from pointsman.ports.human_tasks import TaskRow, detail_of
from pointsman.ports.reservations import ReservationRow
from pointsman.ports.states import StateRow


class OpenTasks:
    """The human tasks of one run that are open in the log or about to be: by call."""

    def __init__(self, state: RunState) -> None:
        self._state = state
        self.by_call = {call: pending.task for call, pending in state.calls.items() if pending.task is not None}

    def rows(self, produced: Sequence[Produced]) -> tuple[TaskRow, ...]:
        """What these events open and close. Asked again for the same events it says the same, until `moved`."""
        rows: list[TaskRow] = []
        tasks = dict(self.by_call)
        for entry in produced:
            rows += _apply(entry, tasks, self._state)
        return tuple(rows)

    def moved(self, produced: Sequence[Produced]) -> None:
        """These events are in the log."""
        for entry in produced:
            _apply(entry, self.by_call, self._state)


def _apply(entry: Produced, tasks: dict[str, str], state: RunState) -> list[TaskRow]:
    event = entry.event
    if isinstance(event, ev.HumanTaskOpened):
        tasks[event.call] = event.task
        pending = state.calls.get(event.call)
        detail = detail_of(
            agent=pending.asked if pending else "", kind=event.failure.kind, message=event.failure.message
        )
        return [TaskRow(event.task, event.call, "open", event.question, detail, entry.at)]
    if not tasks:
        return []
    if isinstance(event, ev.HumanTaskAnswered) and tasks.pop(event.call, ""):
        return [TaskRow(event.task, event.call, "answered", "", b"{}", entry.at)]
    if isinstance(event, ev.CallCancelled) and (task := tasks.pop(event.call, "")):
        return [TaskRow(task, event.call, "closed", "", b"{}", entry.at)]
    if isinstance(event, ev.TERMINAL):
        left = [TaskRow(task, call, "closed", "", b"{}", entry.at) for call, task in tasks.items()]
        tasks.clear()
        return left
    return []


def reopened(tasks: Sequence[PendingCall], recorded: Sequence[ev.Recorded], at: int) -> tuple[TaskRow, ...]:
    """Human tasks that a run's failure closed, and its redrive opens again."""
    rows: dict[str, TaskRow] = {}
    asked = {pending.task: pending.asked for pending in tasks}
    for row in recorded if asked else ():
        event = read_event(row)
        if isinstance(event, ev.HumanTaskOpened) and event.task in asked:
            detail = detail_of(agent=asked[event.task], kind=event.failure.kind, message=event.failure.message)
            rows[event.task] = TaskRow(event.task, event.call, "open", event.question, detail, at)
    return tuple(rows.values())


def generations(produced: Sequence[Produced], after: int) -> tuple[int, int]:
    """Of the events that follow sequence `after`: how many begin a generation, and the sequence of the last of them."""
    begins = [n for n, entry in enumerate(produced, after + 1) if isinstance(entry.event, ev.RunRestarted)]
    return len(begins), begins[-1] if begins else 0


def reservations(produced: Sequence[Produced], after: int) -> tuple[ReservationRow, ...]:
    """Of the events that follow sequence `after`, those that spend from tranches."""
    rows = []
    for sequence, entry in enumerate(produced, after + 1):
        if isinstance(entry.event, ev.CallReserved):
            rows += [ReservationRow(tranche, sequence) for tranche in entry.event.tranches]
    return tuple(rows)


def state(produced: Sequence[Produced], after: int) -> StateRow | None:
    """What the events that follow sequence `after` make of the run's typed state; None: they don't change it."""
    for place in range(len(produced) - 1, -1, -1):
        event = produced[place].event
        if isinstance(event, ev.StateSet):
            return StateRow(event.state_version, produced[place].data, after + place + 1)
    return None
