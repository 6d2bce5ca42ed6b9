"""What an event sets in motion once it is durable: the run is looked at again when it is due, and a child is driven by
whichever coordinator has room for it.
"""

from __future__ import annotations

from pointsman.coordinator.driving.crew import Crew
from pointsman.kernel import events as ev
from pointsman.kernel.state import RunState

SETS_IN_MOTION = frozenset(
    {
        ev.TimerSet, ev.AttemptFailed, ev.ChildStarted, ev.HumanTaskOpened, ev.HumanTaskRequested,
        ev.HumanTaskEscalated,
    }
)  # fmt: skip
"""The events that do."""


def set_in_motion(crew: Crew, state: RunState, event: ev.Event) -> None:
    """Act on an event that is in the log of the run with this folded state."""
    match event:
        case ev.TimerSet(due=due):
            crew.timers.wake_at(due, state.run)
        case ev.AttemptFailed(retry_at=due) if due is not None:
            crew.timers.wake_at(due, state.run)
        case ev.ChildStarted():
            crew.on_due(event.run)
        case ev.HumanTaskOpened() | ev.HumanTaskRequested() | ev.HumanTaskEscalated():
            _watch_tasks(crew, state)
        case _:
            pass


def set_in_motion_again(crew: Crew, state: RunState) -> None:
    """After a replay: schedule whatever has a due time, even if that is over already."""
    for due in [*state.timers.values(), *(pending.retry_at for pending in state.calls.values())]:
        if due is not None:
            crew.timers.wake_at(due, state.run)
    _watch_tasks(crew, state)


def _watch_tasks(crew: Crew, state: RunState) -> None:
    for task in (state.tasks or {}).values():
        for due in (task.escalate_at, task.expires_at):
            if due is not None:
                crew.timers.wake_at(due, state.run)
