"""The attempts of one run: each is requested by the log, admitted, reserved for, and only then made.

The order is: the agent's health and breaker, then its limits (`admission.py`), and the budgets last, so that no
reservation is left behind. `Driver` appends what is decided here before it calls `dispatch_ready`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from pointsman.agents.agent import ONE_CALL
from pointsman.coordinator.driving.admission import Admission
from pointsman.coordinator.driving.attempt import Attempt, Caller, OnEnd, PulledAttempt, ignore
from pointsman.coordinator.driving.crew import Crew
from pointsman.kernel import events as ev
from pointsman.kernel.execution import Execution
from pointsman.kernel.policy.amounts import Amount
from pointsman.kernel.spending import refusal, seconds_left
from pointsman.kernel.state import PendingCall

ATTEMPT_ENDS = (ev.CallCompleted, ev.CallFailed, ev.AttemptFailed)
WITHHELD_MS = 50
"""How soon to look again when the lease could not be trusted."""


@dataclass(slots=True)
class Reserved:
    """What is reserved for an attempt. `is_durable`: the log has it."""

    tranches: tuple[str, ...]
    amount: Amount
    is_durable: bool = False


class Attempts:
    """The attempts of one run, from the request to the outcome.

    Attributes:
        wanted, look, go_on: see `Admission`.
        under_way: attempts that are being made, by call.
        reserved: what is reserved, by call and attempt.

    Args:
        wake: called when there is something to look at again.
        on_end: called when an attempt is over.
    """

    __slots__ = (
        "_admission", "_crew", "_execution", "_is_created", "_later", "_wake", "go_on", "look", "reserved",
        "under_way", "wanted",
    )  # fmt: skip

    def __init__(
        self, crew: Crew, execution: Execution, epoch: int, wake: Callable[[], None], on_end: OnEnd, *,
        is_created: bool,
    ) -> None:  # fmt: skip
        self._crew = crew
        self._execution = execution
        self._wake = wake
        self.under_way: dict[str, Attempt] = {}
        state = execution.state
        caller = Caller(state.run, state.tenant, state.workflow, epoch, crew.store.clock, crew.effects, on_end)
        self._admission = Admission(crew, execution, caller, wake, self.under_way, self._reserve)
        self.reserved: dict[tuple[str, int], Reserved] = {}
        self._later: list[str] = []
        """Calls that reserve only once the run is known to be created."""
        self._is_created = is_created
        self.wanted = self._admission.wanted
        self.look = self._admission.look
        self.go_on = self._admission.go_on

    @property
    def are_left(self) -> bool:
        """Whether attempts are being made, or the log does not say yet that they are not made here."""
        return bool(self.under_way) or self._admission.are_left

    def withdraw(self) -> None:
        """Begin no more attempts, because the coordinator drains.

        Attempts of workers are not waited for either if the worker may give its result to the run's next owner, where
        the same attempt goes on under its key.
        """
        for call, attempt in list(self.under_way.items()):
            if isinstance(attempt, PulledAttempt) and attempt.agent.idempotent:
                del self.under_way[call]
                attempt.let_go()
        self._admission.withdraw()

    def created(self) -> None:
        """Note that the run's creation is durable."""
        self._is_created = True
        self.wanted += self._later
        self._later.clear()

    def _reserve(self, attempt: Attempt, pending: PendingCall, now: int) -> None:
        state, agent = self._execution.state, attempt.agent
        is_shared = self._crew.purses.applies(agent, state.tenant)
        if state.budget is not None or is_shared:
            amount = ONE_CALL if agent.most is None else agent.most
            tranches = refusal(state, amount, now) or (self._reserve_shared(attempt, amount) if is_shared else ())
            if not isinstance(tranches, tuple):
                self._admission.wait(attempt)
                if tranches is not None:
                    self._admission.turn_away(attempt, tranches, now)
                return
            if state.budget is not None or tranches:
                self._execution.reserve(attempt.call, amount, tranches, now)
                self.reserved[attempt.call, attempt.number] = Reserved(tranches, amount)
        if pending.held_at is not None:
            self._execution.admitted(attempt.call, now)
        self._admission.ready[attempt.call] = attempt

    def _reserve_shared(self, attempt: Attempt, amount: Amount) -> tuple[str, ...] | ev.Failure | None:
        """Reserve in the tranches of shared budgets. None: not possible now; it is tried again."""
        if not self._is_created:
            # A creation is not fenced: one that comes late must not name a tranche that others settled meanwhile.
            self._later.append(attempt.call)
            return None
        again = partial(self._admission.again, attempt.call)
        return self._crew.purses.reserve(attempt.agent, self._execution.state.tenant, amount, again)

    # -- the attempt ------------------------------------------------------------------------------------------------

    def dispatch_ready(self) -> None:
        """Make the attempts; everything that was decided is durable by now.

        Does nothing while the lease may have lapsed: a slow renewal may yet be answered, and otherwise everything here
        is dropped.
        """
        if not self._admission.ready:
            return
        crew, state = self._crew, self._execution.state
        if crew.is_draining:
            self._wake()  # they are withdrawn in the next step
            return
        if not crew.lease.is_trusted():
            crew.timers.wake_at(crew.store.clock.now() + WITHHELD_MS, state.run)
            return
        for call, attempt in self._admission.take().items():
            permit, pending = attempt.permit, state.calls.get(call)
            assert permit is not None
            if pending is None:
                permit.give_back()
                continue
            if pending.asked != pending.target:
                attempt.asked = crew.directory.agent(pending.asked)
            if pending.attempt == pending.first_attempt:
                permit.tried()
            left = None if state.budget is None else seconds_left(state, crew.store.clock.now())
            crew.dispatcher.dispatch(attempt, pending.data, left)
            self.under_way[call] = attempt

    def became_durable(self, event: ev.Event) -> None:
        """Note that an event of this run is in the log."""
        if isinstance(event, ev.CallCancelled):
            self._admission.drop(event.call)
            attempt = self.under_way.pop(event.call, None)
            if attempt is not None:
                attempt.abandon()
        if isinstance(event, ev.CallReserved):
            reserved = self.reserved.get((event.call, event.attempt))
            if reserved is not None:
                reserved.is_durable = True
        elif self.reserved and isinstance(event, ev.CallCancelled):
            for key in [key for key in self.reserved if key[0] == event.call]:
                self._settle(key, None)
        elif self.reserved and isinstance(event, ATTEMPT_ENDS):
            self._settle((event.call, event.attempt), event.spent)

    def close(self, *, was_refused: bool, has_ended: bool) -> None:
        """Stop, because the run is over here. What was under way may end elsewhere, so it counts in full.

        Args:
            was_refused: what was not durable yet never will be.
            has_ended: for every owner; nothing waits for what is under way any more.
        """
        self._admission.close()
        for attempt in self.under_way.values():
            if has_ended:
                attempt.abandon()
            else:
                attempt.let_go()
        for key, reserved in list(self.reserved.items()):
            if was_refused and not reserved.is_durable:
                self._crew.purses.release(reserved.tranches, reserved.amount)
            else:
                self._settle(key, None)
        self._wake = ignore  # else a reference cycle would wait for the garbage collector

    def _settle(self, attempt: tuple[str, int], spent: Amount | None) -> None:
        """Settle an attempt, but only once the log has its end: another owner would count by the log."""
        reserved = self.reserved.pop(attempt, None)
        if reserved is not None and reserved.tranches:
            self._crew.purses.settle(reserved.tranches, reserved.amount, spent)
