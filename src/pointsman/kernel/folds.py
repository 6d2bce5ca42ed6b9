"""What each event changes in the folded state of a run (see `state.py`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pointsman.kernel import events as ev
from pointsman.kernel.asking import open_task, task_id
from pointsman.kernel.policy.amounts import NOTHING

if TYPE_CHECKING:
    from pointsman.kernel.state import RunState


def _started(state: RunState, event: ev.RunStarted) -> None:
    state.workflow, state.workflow_version = event.workflow, event.workflow_version
    state.tenant, state.seed = event.tenant, event.seed
    state.parent, state.parent_call = event.parent, event.parent_call
    state.started_at, state.key_start = state.last_at, state.key_of("")
    state.budget = event.budget


def _restarted(state: RunState, event: ev.RunRestarted) -> None:
    state.workflow, state.workflow_version = event.workflow, event.workflow_version
    state.tenant, state.seed = event.tenant, event.seed
    state.parent, state.parent_call = event.parent, event.parent_call
    state.started_at, state.base = event.started_at, state.sequence
    state.generation, state.redrives = event.generation, event.redrives
    state.key_start = state.key_of("")
    state.folded, state.cancel_reason, state.kept = event.folded, event.cancel, event.state
    state.budget, state.spent = event.budget, event.spent
    state.reserved = sum(event.given.values(), NOTHING)
    state.children, state.given, state.revived = dict(event.children), dict(event.given), {}
    state.calls.clear()
    state.timers.clear()
    state.waiting_for.clear()
    state.unclaimed.clear()
    state.tasks = None
    for signal in event.signals:
        state.unclaimed[signal.name] = state.unclaimed.get(signal.name, 0) + 1


def _redriven(state: RunState, event: ev.RunRedriven) -> None:
    state.redrives = event.number
    state.key_start = state.key_of("")
    state.folded, state.spent = event.folded, event.spent
    state.given = {call: given for call, given in state.given.items() if call in event.children}
    state.reserved = sum(state.given.values(), NOTHING)
    state.revived = dict(event.children)
    _ask_again(state, event)
    for pending in state.calls.values():
        pending.reserved, pending.tranches = None, ()
        if pending.call not in event.calls:
            continue
        pending.attempt = pending.first_attempt = pending.attempt + 1
        pending.target, pending.tried = pending.asked, ()
        pending.task, pending.retry_at, pending.redrive = None, None, event.number
        pending.held_at = state.last_at  # its attempt has not begun: it is noted before it does
        if event.has_fresh_key:
            pending.key = f"{pending.key}/r{event.number}"


def _ask_again(state: RunState, event: ev.RunRedriven) -> None:
    """The body's questions that a redrive asks again become new tasks: the old ones have their answers."""
    for task in [task for task in (state.tasks or {}).values() if task.call in event.calls]:
        state.task_over(task.call)
        if task.asked is not None:
            again = task_id(task.asked, task.digest, event.number)
            state.task_opened(open_task(
                again, task.call, task.question, task.digest, task.terms, state.last_at, asked=task.asked,
                requested=task.requested,
            ))  # fmt: skip


def _call_ended(state: RunState, event: ev.CallCompleted | ev.CallFailed) -> None:
    pending = state.calls.pop(event.call, None)
    if pending is not None and (pending.reserved is not None or event.spent is not None):
        state.settle(pending, event.spent)


def _call_over(state: RunState, event: ev.CallSkipped | ev.CallCancelled) -> None:
    pending = state.calls.pop(event.call, None)
    if pending is not None:
        state.settle(pending, None)
    state.timers.pop(event.call, None)
    state.waiting_for.pop(event.call, None)
    state.task_over(event.call)


def _attempt_failed(state: RunState, event: ev.AttemptFailed) -> None:
    pending = state.calls[event.call]
    pending.retry_at, pending.held_at = event.retry_at, None
    state.settle(pending, event.spent)


def _retried(state: RunState, event: ev.CallRetried) -> None:
    pending = state.calls[event.call]
    pending.attempt, pending.retry_at = event.attempt, None


def _reassigned(state: RunState, event: ev.CallReassigned) -> None:
    pending = state.calls[event.call]
    pending.tried += (pending.target,)
    pending.target = event.agent
    pending.attempt = pending.first_attempt = event.attempt
    pending.retry_at = pending.held_at = None


def _held(state: RunState, event: ev.CallHeld) -> None:
    state.calls[event.call].held_at = state.last_at


def _admitted(state: RunState, event: ev.CallAdmitted) -> None:
    state.calls[event.call].held_at = None


def _reserved(state: RunState, event: ev.CallReserved) -> None:
    pending = state.calls[event.call]
    state.settle(pending, None)
    pending.reserved, pending.tranches = event.amount, event.tranches
    state.reserved += event.amount


def _asked_person(state: RunState, event: ev.HumanTaskOpened) -> None:
    pending = state.calls[event.call]
    pending.task, pending.retry_at, pending.held_at = event.task, None, None
    state.task_opened(open_task(
        event.task, event.call, event.question, event.digest, event.terms, state.last_at, requested=pending.requested
    ))  # fmt: skip


def _asked(state: RunState, event: ev.HumanTaskRequested) -> None:
    state.task_opened(open_task(
        event.task, event.call, event.question, event.digest, event.terms, state.last_at, asked=event.task,
        requested=state.sequence,
    ))  # fmt: skip


def _assigned(state: RunState, event: ev.HumanTaskAssigned) -> None:
    state.folded = max(state.folded, event.mail)
    task = (state.tasks or {}).get(event.call)
    if task is not None and task.id == event.task:
        task.assignee = event.assignee


def _escalated(state: RunState, event: ev.HumanTaskEscalated) -> None:
    task = (state.tasks or {}).get(event.call)
    if task is not None and task.id == event.task:
        task.go_to(event.assignee)


def _answered(state: RunState, event: ev.HumanTaskAnswered | ev.HumanTaskExpired) -> None:
    """Of the task that is open, and of no other of its call: what was on its way when a redrive began does not answer
    what was asked since."""
    state.folded = max(state.folded, event.mail)
    task = (state.tasks or {}).get(event.call)
    if task is None or task.id != event.task:
        state.misplaced = event
        return
    state.calls.pop(event.call, None)
    state.task_over(event.call)


def _effect(state: RunState, event: ev.EffectRecorded) -> None:
    state.folded = max(state.folded, event.mail)


def _timer_set(state: RunState, event: ev.TimerSet) -> None:
    state.timers[event.call] = event.due


def _timer_fired(state: RunState, event: ev.TimerFired) -> None:
    state.timers.pop(event.call, None)


def _signal_awaited(state: RunState, event: ev.SignalAwaited) -> None:
    if state.unclaimed.get(event.name, 0):
        state.unclaimed[event.name] -= 1
    else:
        state.waiting_for[event.call] = event.name


def _signal(state: RunState, event: ev.SignalReceived) -> None:
    state.folded = max(state.folded, event.mail)
    for call, name in state.waiting_for.items():
        if name == event.name:
            del state.waiting_for[call]
            return
    state.unclaimed[event.name] = state.unclaimed.get(event.name, 0) + 1


def _child_started(state: RunState, event: ev.ChildStarted) -> None:
    state.children[event.call] = event.run
    if event.budget is not None and state.budget is not None:
        given = state.given[event.call] = state.budget.share(event.budget)
        state.reserved += given


def _child_ended(state: RunState, event: ev.ChildEnded) -> None:
    state.folded = max(state.folded, event.mail)
    if state.children.get(event.call) != event.run:
        return
    del state.children[event.call]
    state.revived.pop(event.call, None)
    given = state.given.pop(event.call, None)
    if given is not None:
        state.reserved -= given
        state.spent += given if event.spent is None else event.spent


def _cancel(state: RunState, event: ev.CancelRequested) -> None:
    state.folded = max(state.folded, event.mail)
    state.cancel_reason = event.reason


def _ended(state: RunState, event: ev.Event) -> None:
    state.outcome = event
    state.calls.clear()
    state.timers.clear()
    state.waiting_for.clear()
    state.tasks = None


FOLDS: dict[type[ev.Event], Callable[[RunState, Any], None]] = {
    ev.RunStarted: _started,
    ev.RunRestarted: _restarted,
    ev.RunRedriven: _redriven,
    ev.CallCompleted: _call_ended,
    ev.CallFailed: _call_ended,
    ev.CallSkipped: _call_over,
    ev.CallCancelled: _call_over,
    ev.CallReassigned: _reassigned,
    ev.CallHeld: _held,
    ev.CallAdmitted: _admitted,
    ev.CallReserved: _reserved,
    ev.HumanTaskOpened: _asked_person,
    ev.HumanTaskRequested: _asked,
    ev.HumanTaskAssigned: _assigned,
    ev.HumanTaskEscalated: _escalated,
    ev.HumanTaskAnswered: _answered,
    ev.HumanTaskExpired: _answered,
    ev.EffectRecorded: _effect,
    ev.AttemptFailed: _attempt_failed,
    ev.CallRetried: _retried,
    ev.TimerSet: _timer_set,
    ev.TimerFired: _timer_fired,
    ev.SignalAwaited: _signal_awaited,
    ev.SignalReceived: _signal,
    ev.ChildStarted: _child_started,
    ev.ChildEnded: _child_ended,
    ev.CancelRequested: _cancel,
    **dict.fromkeys(ev.TERMINAL, _ended),
}
