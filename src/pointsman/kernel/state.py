"""The folded state of a run: what its events add up to, apart from the local variables of its body.

`evolve` takes any event in a lawful order and never refuses one; whether an event may happen is decided before. An
unlawful order is a KeyError here, and `CorruptLog` for the caller that replays.

The state is what a coordinator needs to go on: which calls are under way and with which bytes, which timers are set,
which mail was folded. It is mutable and owned by one `Execution`; copying it for each event would make step n cost
O(n).
"""

from __future__ import annotations

import msgspec

from pointsman.kernel import events as ev
from pointsman.kernel.asking import OpenTask, Person
from pointsman.kernel.folds import FOLDS
from pointsman.kernel.policy.amounts import NOTHING, Amount, Budget


class CallOptions(msgspec.Struct, frozen=True):
    """What the workflow wants done when the agent of a call fails, and the call's priority (higher goes first).

    Attributes:
        fallback: agents that get the call then, in order; None: those on the agent's card.
        person: the question to a person when no agent is left; None: nobody is asked.
        default: the result to go on with when nobody could do the call, as JSON; empty: the call fails.
    """

    fallback: tuple[str, ...] | None = None
    person: Person | None = None
    default: bytes = b""
    priority: int = 0


NO_OPTIONS = CallOptions()
NO_LIMIT = Budget().limit


class PendingCall(msgspec.Struct, gc=False):
    """A call without an outcome.

    Attributes:
        asked: the agent that the workflow called; its schema is that of the result.
        target: the agent that has the call now; differs from `asked` after a fallback.
        attempt: tries so far, over all agents. first_attempt: the first one of `target`.
        retry_at: between attempts: when the next one is due (ms).
        held_at: since when the call waits for `target`, which can't take it (ms).
        task: the human task that asks for the result.
        redrive: number of the redrive that gave the call fresh attempts; 0: none did.
        reserved, tranches: what is reserved for the attempt under way, and in which tranches besides the run's own
            budget.
        requested: the sequence of the call's request.
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
    options: CallOptions = NO_OPTIONS
    held_at: int | None = None
    task: str | None = None
    redrive: int = 0
    reserved: Amount | None = None
    tranches: tuple[str, ...] = ()
    requested: int = 0


class RunState(msgspec.Struct):
    """Everything about one run that follows from its events. Times are in ms by the database's clock."""

    run: str
    sequence: int = 0
    base: int = 1
    """The sequence at which this generation begins."""
    generation: int = 1
    redrives: int = 0
    key_start: str = ""
    """What the idempotency keys of its calls begin with, from now on."""
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
    tasks: dict[str, OpenTask] | None = None
    """Human tasks that are open, by call; None where there is none, as there is in most runs."""
    misplaced: ev.Event | None = None
    """The last answer, or end of time, that came for a task which was not open any more: it counts for nothing."""
    revived: dict[str, int] = {}
    """Children whose outcome a redrive waits for anew, by call: the sequence at which each stood then."""
    kept: ev.KeptState | None = None
    """The typed state, once one was set (see `typed_state.py`)."""

    def evolve(self, event: ev.Event, at: int, data: bytes = b"") -> None:
        """Fold one event in. `data` is the event's full input, if it has one."""
        self.sequence += 1
        if at > self.last_at:
            self.last_at = at
        if type(event) is ev.CallRequested:
            call, target = event.call, event.target
            pending = self.calls[call] = PendingCall(
                call, target, self.key_start + call, data, asked=target, requested=self.sequence
            )
            if event.fallback is not None or event.person or event.default or event.priority:
                person = Person(event.person) if isinstance(event.person, str) else event.person
                pending.options = CallOptions(
                    event.fallback, person if person.question else None, bytes(event.default), event.priority
                )
        elif (fold := FOLDS.get(type(event))) is not None:
            fold(self, event)
        elif type(event) is ev.StateSet:
            self.kept = ev.KeptState(event.state_version, msgspec.Raw(data))

    def key_of(self, call: str, redrives: int | None = None) -> str:
        """The idempotency key of a call: the same on every attempt, replay and coordinator. After a redrive, calls that
        are made anew get a new key, even under a call id that was used before.
        """
        number = self.redrives if redrives is None else redrives
        again = f"r{number}" if number else ""
        return f"{self.run}/{self.generation}{again}/{call}"

    @property
    def length(self) -> int:
        """The number of events in this generation."""
        return self.sequence - self.base + 1

    @property
    def is_ended(self) -> bool:
        return self.outcome is not None

    def next_due(self) -> int | None:
        """When the next timer or retry is due; None if there is none."""
        due = min(self.timers.values()) if self.timers else None
        for pending in self.calls.values():
            if pending.retry_at is not None and (due is None or pending.retry_at < due):
                due = pending.retry_at
        if self.tasks is not None:
            for task in self.tasks.values():
                task_due = task.next_due()
                if task_due is not None and (due is None or task_due < due):
                    due = task_due
        return due

    def is_idle(self) -> bool:
        """Whether nothing is under way in this process: everything that the run awaits comes by time or by mail."""
        for pending in self.calls.values():  # noqa: SIM110  asked at every step, and a generator costs 0.5 µs
            if pending.retry_at is None and pending.task is None:
                return False
        return True

    def task_opened(self, task: OpenTask) -> None:
        if self.tasks is None:
            self.tasks = {}
        self.tasks[task.call] = task

    def task_over(self, call: str) -> OpenTask | None:
        """Forget the open human task of this call, if any, and return it."""
        if self.tasks is None:
            return None
        task = self.tasks.pop(call, None)
        if not self.tasks:
            self.tasks = None
        return task

    def free(self) -> Amount:
        """What is left of the run's own budget and is not reserved. Without a limit, more than anything counted."""
        return NO_LIMIT if self.budget is None else self.budget.limit - self.spent - self.reserved

    def settle(self, pending: PendingCall, spent: Amount | None) -> None:
        """Settle the attempt under way. None: its outcome is unknown, so its reservation counts in full."""
        if pending.reserved is not None:
            self.reserved -= pending.reserved
            self.spent += pending.reserved if spent is None else spent
            pending.reserved, pending.tranches = None, ()
        elif spent is not None:
            self.spent += spent
