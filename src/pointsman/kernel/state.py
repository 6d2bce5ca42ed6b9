"""The folded state of a run: what its events add up to, but for what its body remembers in local variables.

`evolve` takes any event in a lawful order and never refuses; whether an event may happen is decided before. An unlawful
order is a KeyError here, and `CorruptLog` to whoever replays.
The state is what a coordinator needs to go on: which calls are under way and with which bytes, which timers are
set, which mail was folded. It is mutable and owned by one `Execution` (copying it per event would make step n cost
O(n)).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from pointsman.kernel import events as ev
from pointsman.kernel.policy.amounts import NOTHING, Amount, Budget


class Options(msgspec.Struct, frozen=True):
    """What the workflow wants done when the agent of a call fails, and how urgent it is (larger: sooner).

    Attributes:
        fallback: who gets it then, in order; None: what the agent's card says.
        person: the question to a person when no agent is left; empty: nobody is asked.
        default: the result to go on with when nobody could do it, as JSON; empty: the call fails.
    """

    fallback: tuple[str, ...] | None = None
    person: str = ""
    default: bytes = b""
    priority: int = 0


AS_USUAL = Options()
NO_LIMIT = Budget().limit


class PendingCall(msgspec.Struct):
    """A call without an outcome.

    Attributes:
        asked: the agent that the workflow called; its schema is the result's.
        target: the agent that has it now; another one than `asked` after a fallback.
        attempt: tries so far, over all agents. first_attempt: the first one of `target`.
        retry_at: between attempts, waiting for that time (ms).
        held_at: since when it waits for `target`, which can't take it (ms).
        task: the human task that asks for its result.
        reserved, tranches: what is set aside for the attempt under way, and where else than in the run's own budget.
    """

    call: str
    target: str
    key: str
    data: bytes
    attempt: int = 1
    retry_at: int | None = None
    asked: str = ""
    first_attempt: int = 1
    tried: tuple[str, ...] = ()
    options: Options = AS_USUAL
    held_at: int | None = None
    task: str | None = None
    reserved: Amount | None = None
    tranches: tuple[str, ...] = ()


class RunState(msgspec.Struct):
    """See the module. Times in ms by the database's clock."""

    run: str
    sequence: int = 0
    generation: int = 1
    workflow: str = ""
    workflow_version: int = 1
    tenant: str = "default"
    seed: str = ""
    parent: str | None = None
    parent_call: str | None = None
    started_at: int = 0
    last_at: int = 0
    calls: dict[str, PendingCall] = {}
    timers: dict[str, int] = {}
    children: dict[str, str] = {}
    waiting_for: dict[str, str] = {}
    unclaimed: dict[str, int] = {}
    folded: int = 0
    cancel_reason: str | None = None
    outcome: ev.Event | None = None
    budget: Budget | None = None
    spent: Amount = NOTHING
    """Used up by attempts that ended, and in full by those whose end is unknown; children that ended included."""
    reserved: Amount = NOTHING
    """Set aside for attempts under way, and given to children that run."""
    given: dict[str, Amount] = {}
    """What each running child was given of the budget."""

    def evolve(self, event: ev.Event, at: int, data: bytes = b"") -> None:
        """Fold one event in. `data` is the full input of an event that has one."""
        self.sequence += 1
        self.last_at = max(at, self.last_at)
        if isinstance(event, ev.CallRequested):
            pending = self.calls[event.call] = PendingCall(event.call, event.target, self.key_of(event.call), data)
            pending.asked = event.target
            if event.fallback is not None or event.person or bytes(event.default) or event.priority:
                pending.options = Options(event.fallback, event.person, bytes(event.default), event.priority)
        elif (fold := _FOLDS.get(type(event))) is not None:
            fold(self, event)

    def key_of(self, call: str) -> str:
        """The idempotency key of a call: the same on every attempt, replay and coordinator."""
        return f"{self.run}/{self.generation}/{call}"

    @property
    def is_ended(self) -> bool:
        return self.outcome is not None

    def next_due(self) -> int | None:
        """When the next timer or retry is due, if any."""
        due = min(self.timers.values()) if self.timers else None
        for pending in self.calls.values():
            if pending.retry_at is not None and (due is None or pending.retry_at < due):
                due = pending.retry_at
        return due

    def is_idle(self) -> bool:
        """Nothing is under way in this process: all that is awaited comes by time or by mail."""
        for pending in self.calls.values():  # noqa: SIM110  asked at every step, and a generator costs 0.5 µs
            if pending.retry_at is None and pending.task is None:
                return False
        return True

    def free(self) -> Amount:
        """What is left of the run's own budget and not set aside; without a limit, more than anything counted."""
        return NO_LIMIT if self.budget is None else self.budget.limit - self.spent - self.reserved

    def settle(self, pending: PendingCall, spent: Amount | None) -> None:
        """The attempt under way is over. None: what was set aside for it counts in full, for its end is unknown."""
        if pending.reserved is not None:
            self.reserved -= pending.reserved
            self.spent += pending.reserved if spent is None else spent
            pending.reserved, pending.tranches = None, ()
        elif spent is not None:
            self.spent += spent


def _started(state: RunState, event: ev.RunStarted) -> None:
    state.workflow, state.workflow_version = event.workflow, event.workflow_version
    state.tenant, state.seed = event.tenant, event.seed
    state.parent, state.parent_call = event.parent, event.parent_call
    state.started_at = state.last_at
    state.budget = event.budget


def _call_ended(state: RunState, event: ev.CallCompleted | ev.CallFailed) -> None:
    pending = state.calls.pop(event.call, None)
    if pending is not None:
        state.settle(pending, event.spent)


def _call_over(state: RunState, event: ev.CallSkipped | ev.CallCancelled) -> None:
    pending = state.calls.pop(event.call, None)
    if pending is not None:
        state.settle(pending, None)
    state.timers.pop(event.call, None)
    state.waiting_for.pop(event.call, None)


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


def _answered(state: RunState, event: ev.HumanTaskAnswered) -> None:
    state.folded = event.mail
    state.calls.pop(event.call, None)


def _effect(state: RunState, event: ev.EffectRecorded) -> None:
    state.folded = event.mail


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
    state.folded = event.mail
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
    state.folded = event.mail
    state.children.pop(event.call, None)
    given = state.given.pop(event.call, None)
    if given is not None:
        state.reserved -= given
        state.spent += given if event.spent is None else event.spent


def _cancel(state: RunState, event: ev.CancelRequested) -> None:
    state.folded = event.mail
    state.cancel_reason = event.reason


def _ended(state: RunState, event: ev.Event) -> None:
    state.outcome = event
    state.calls.clear()
    state.timers.clear()
    state.waiting_for.clear()


_FOLDS: dict[type[ev.Event], Callable[[RunState, Any], None]] = {
    ev.RunStarted: _started,
    ev.CallCompleted: _call_ended,
    ev.CallFailed: _call_ended,
    ev.CallSkipped: _call_over,
    ev.CallCancelled: _call_over,
    ev.CallReassigned: _reassigned,
    ev.CallHeld: _held,
    ev.CallAdmitted: _admitted,
    ev.CallReserved: _reserved,
    ev.HumanTaskOpened: _asked_person,
    ev.HumanTaskAnswered: _answered,
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
