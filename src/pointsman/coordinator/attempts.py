"""The attempts of one run: each is wished for by its log, admitted, reserved for, and only then made.

In this order (the failure chain's first step): the agent's health and breaker, its limits, and the budgets last, so
that nothing leaks. What is held back uses up no attempt: the call waits in the agent's queue, or goes to the next agent
of its chain. `Driver` appends what is decided here before it lets `dispatch_ready` act.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from pointsman.agents.agent import Agent
from pointsman.coordinator.crew import Crew
from pointsman.coordinator.dispatcher import ONE_CALL, Attempt, OnEnd
from pointsman.coordinator.gates.service import Permit
from pointsman.kernel import events as ev
from pointsman.kernel.execution import Execution
from pointsman.kernel.policy.amounts import Amount
from pointsman.kernel.spending import refusal, seconds_left
from pointsman.kernel.state import PendingCall
from pointsman.ports.clock import Clock

ATTEMPT_ENDS = (ev.CallCompleted, ev.CallFailed, ev.AttemptFailed)
WITHHELD_MS = 50
"""How soon to look again when the lease could not be trusted."""


class Wish:
    """A call that wants an attempt; the gates' waiter."""

    __slots__ = ("_admitted", "agent", "call", "failure", "give_up_at", "is_continuing", "permit", "priority")

    def __init__(
        self, agent: Agent, pending: PendingCall, is_continuing: bool, admitted: Callable[[str], None]
    ) -> None:
        self.agent = agent
        self.call = pending.call
        self.priority = pending.options.priority
        self.is_continuing = is_continuing
        self.permit: Permit | None = None
        self.failure: ev.Failure | None = None
        """Why it waits."""
        self.give_up_at: int | None = None
        self._admitted = admitted

    def admitted(self, permit: Permit) -> None:
        self.permit = permit
        self._admitted(self.call)


@dataclass(slots=True)
class Reserved:
    """What is set aside for an attempt. `is_durable`: the log has it."""

    tranches: tuple[str, ...]
    amount: Amount
    is_durable: bool = False


class Attempts:
    """See the module.

    Args:
        wake: called when there is something to look at again.
        on_end: called when an attempt is over.
    """

    def __init__(
        self, crew: Crew, execution: Execution, epoch: int, wake: Callable[[], None], on_end: OnEnd, *,
        is_created: bool,
    ) -> None:  # fmt: skip
        self._crew = crew
        self._execution = execution
        self._epoch = epoch
        self._wake = wake
        self._on_end = on_end
        self._wishes: dict[str, Wish] = {}
        self._wanted: deque[str] = deque()
        """Calls to look at: new, admitted, or granted."""
        self._waiting: dict[str, None] = {}
        """Calls whose wish has a time to give up."""
        self._ready: dict[str, None] = {}
        """Calls whose attempt may be made as soon as the log has it."""
        self._reserved: dict[tuple[str, int], Reserved] = {}
        self._under_way: dict[str, Attempt] = {}
        self._begun: set[str] = set()
        """Calls whose attempt an owner before this one may have made: it has its number for itself."""
        self._later: list[str] = []
        """Calls that reserve only once the run is known to be created."""
        self._is_created = is_created

    @property
    def are_wanted(self) -> bool:
        """Is there something to decide?"""
        return bool(self._wanted)

    def is_overdue(self, clock: Clock) -> bool:
        """Has a call waited as long as it may?"""
        if not self._waiting:
            return False
        now = clock.now()
        self._waiting = {
            call: None for call in self._waiting if (wish := self._wishes.get(call)) is not None and wish.permit is None
        }
        return any((self._wishes[call].give_up_at or now) <= now for call in self._waiting)

    @property
    def has_reserved(self) -> bool:
        return bool(self._reserved)

    @property
    def are_under_way(self) -> bool:
        return bool(self._under_way)

    def want(self, call: str, *, may_have_begun: bool = False) -> None:
        """The log says that an attempt of this call is to be made. `may_have_begun`: by an owner before this one."""
        if may_have_begun:
            self._begun.add(call)
        self._wanted.append(call)

    def created(self) -> None:
        """The run's creation is durable."""
        self._is_created = True
        self._wanted.extend(self._later)
        self._later.clear()

    def over(self, call: str) -> None:
        """The attempt that was under way is over."""
        self._under_way.pop(call, None)

    # -- admission ------------------------------------------------------------------------------------------------

    def look(self, now: int) -> None:
        """Decide what can be decided now; what came of it is in `Execution.take`."""
        while self._wanted:
            self._advance(self._wanted.popleft(), now)
        for call in list(self._waiting) if self._waiting else ():
            wish = self._wishes.get(call)
            if wish is None or wish.permit is not None or wish.give_up_at is None or wish.failure is None:
                del self._waiting[call]
            elif wish.give_up_at <= now:
                del self._waiting[call]
                self._turn_away(wish, wish.failure, now)

    def _advance(self, call: str, now: int) -> None:
        state = self._execution.state
        pending = state.calls.get(call)
        if call in self._under_way:
            return
        if pending is None or pending.retry_at is not None or pending.task is not None or self._crew.is_draining:
            self._drop(call)
            return
        wish = self._wishes.get(call)
        if wish is None:
            agent = self._crew.directory.agent(pending.target)
            if agent is None:
                failure = ev.Failure("unknown_agent", f"no agent is named {pending.target!r} here", retryable=False)
                self._execution.attempt_failed(call, pending.attempt, failure, now)
                return
            wish = self._wishes[call] = Wish(agent, pending, state.sequence > 2, self._admitted)
            answer = self._crew.gates.enter(agent, wish)
            if isinstance(answer, ev.Failure):
                self._hold(wish, pending, answer, now)
                return
            wish.permit = answer
        if wish.permit is not None and call not in self._ready:
            self._reserve(wish, wish.permit, now)

    def _admitted(self, call: str) -> None:
        self._wanted.append(call)
        self._wake()

    def _hold(self, wish: Wish, pending: PendingCall, failure: ev.Failure, now: int) -> None:
        """The agent can't take it now: another one, or wait."""
        if failure.kind != "busy" and self._reassign(wish.call, failure, now):
            self._drop(wish.call)
            return
        if failure.kind != "busy" or not wish.agent.idempotent:
            # Noted also where a next owner must know for certain that the attempt has not begun.
            self._execution.held(wish.call, failure, now)
        wish.failure = failure
        wish.give_up_at = (pending.held_at or now) + round(wish.agent.described.hold * 1000)
        self._waiting[wish.call] = None
        self._crew.timers.wake_at(wish.give_up_at, self._execution.state.run)

    def _turn_away(self, wish: Wish, failure: ev.Failure, now: int) -> None:
        """It can't be done by this agent: the next of the chain, a person, the default, or failure."""
        self._drop(wish.call)
        if not self._reassign(wish.call, failure, now):
            self._execution.give_up(wish.call, failure, now)

    def _reassign(self, call: str, failure: ev.Failure, now: int) -> bool:
        begun = call in self._begun
        self._begun.discard(call)
        return self._execution.reassign(call, failure, now, begun=begun)

    def _reserve(self, wish: Wish, permit: Permit, now: int) -> None:
        state = self._execution.state
        cost = wish.agent.described.cost
        amount = ONE_CALL if cost is None else cost.most
        failure = refusal(state, amount, now) if state.budget is not None else None
        tranches: tuple[str, ...] = ()
        if failure is None:
            call = wish.call
            if not self._is_created and self._crew.purses.applies(wish.agent, state.tenant):
                # A creation is not fenced: one that comes late must not name a tranche that others settled meanwhile.
                self._later.append(call)
                return
            got = self._crew.purses.reserve(wish.agent, state.tenant, amount, lambda: self._admitted(call))
            if got is None:
                return  # a grant is being asked for
            if isinstance(got, ev.Failure):
                failure = got
            else:
                tranches = got
        if failure is not None:
            permit.give_back()
            wish.permit = None
            self._turn_away(wish, failure, now)
            return
        if state.budget is not None or tranches:
            self._execution.reserve(wish.call, amount, tranches, now)
            self._reserved[wish.call, state.calls[wish.call].attempt] = Reserved(tranches, amount)
        self._execution.admitted(wish.call, now)
        self._ready[wish.call] = None

    # -- the attempt ------------------------------------------------------------------------------------------------

    def dispatch_ready(self) -> None:
        """All that was decided is durable: make the attempts. Not on a lease that may have lapsed: a slow renewal may
        yet be answered, and else everything here is dropped."""
        if not self._ready:
            return
        crew, state = self._crew, self._execution.state
        if not crew.lease.is_trusted():
            crew.timers.wake_at(crew.store.clock.now() + WITHHELD_MS, state.run)
            return
        ready, self._ready = self._ready, {}
        for call in ready:
            pending, wish = state.calls.get(call), self._wishes.pop(call, None)
            if wish is None or wish.permit is None:
                continue
            if pending is None or crew.is_draining:
                wish.permit.give_back()
                continue
            asked = crew.directory.agent(pending.asked) if pending.asked != pending.target else None
            crew.gates.tried(wish.agent, pending.attempt > pending.first_attempt)
            self._under_way[call] = crew.dispatcher.dispatch(
                wish.agent, pending, run=state.run, tenant=state.tenant, epoch=self._epoch, on_end=self._on_end,
                permit=wish.permit, asked=asked,
                seconds_left=None if state.budget is None else seconds_left(state, crew.store.clock.now()),
            )  # fmt: skip

    def became_durable(self, event: ev.Event) -> None:
        """An event of this run is in the log."""
        if isinstance(event, ev.CallCancelled):
            self._drop(event.call)
            attempt = self._under_way.pop(event.call, None)
            if attempt is not None:
                attempt.abandon()
        if isinstance(event, ev.CallReserved):
            reserved = self._reserved.get((event.call, event.attempt))
            if reserved is not None:
                reserved.is_durable = True
        elif self._reserved and isinstance(event, ev.CallCancelled):
            for key in [key for key in self._reserved if key[0] == event.call]:
                self._settle(key, None)
        elif self._reserved and isinstance(event, ATTEMPT_ENDS):
            self._settle((event.call, event.attempt), event.spent)

    def close(self, *, was_refused: bool) -> None:
        """The run is over here. What was under way ends elsewhere, if at all: it counts in full.

        Args:
            was_refused: what was not durable yet never will be.
        """
        for call in list(self._wishes):
            self._drop(call)
        for attempt in self._under_way.values():
            attempt.abandon()
        for key, reserved in list(self._reserved.items()):
            if was_refused and not reserved.is_durable:
                self._crew.purses.release(reserved.tranches, reserved.amount)
            else:
                self._settle(key, None)

    def _settle(self, attempt: tuple[str, int], spent: Amount | None) -> None:
        """Only once the log has it: another owner would count by the log."""
        reserved = self._reserved.pop(attempt, None)
        if reserved is not None and reserved.tranches:
            self._crew.purses.settle(reserved.tranches, reserved.amount, spent)

    def _drop(self, call: str) -> None:
        self._ready.pop(call, None)
        wish = self._wishes.pop(call, None)
        if wish is None:
            return
        if wish.permit is not None:
            wish.permit.give_back()
        else:
            self._crew.gates.leave(wish.agent, wish)
