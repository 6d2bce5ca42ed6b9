"""Admission: which calls of one run may have their attempt made now, and what becomes of those that may not.

Health and breaker of the agent, then its limits; what is held back uses up no attempt. A call waits in the queue of its
agent for as long as the agent's `hold`, in the memory of the owner of its run, or goes to the next agent of its chain.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container

import msgspec

from pointsman.agents.agent import Agent
from pointsman.coordinator.driving.crew import Crew
from pointsman.coordinator.gates.service import Permit
from pointsman.kernel import events as ev
from pointsman.kernel.errors import InvalidInput, InvalidValue
from pointsman.kernel.execution import Execution
from pointsman.kernel.policy.amounts import NOTHING
from pointsman.kernel.policy.failures import FAILURE_KINDS
from pointsman.kernel.spending import refusal, seconds_left
from pointsman.kernel.state import PendingCall
from pointsman.kernel.values import faithful

RETRY_LOOK_MS = 250
"""How often a retry looks whether the retry budget allows it."""
LEAVING = ev.Failure("busy", "its coordinator leaves, and has not made the attempt", retryable=True)
NO_MORE_RETRIES = ev.Failure("retry_budget_spent", FAILURE_KINDS["retry_budget_spent"].meaning, retryable=False)

OnAdmitted = Callable[["Wish", PendingCall, Permit, int], None]
"""(wish, its call, its permit, now): set aside what the attempt needs; asked again after `Admission.again`."""


def nothing() -> None:
    """To be called in place of what is over."""


def _nobody(wish: Wish, pending: PendingCall, permit: Permit, now: int) -> None:
    """Likewise."""


class Wish(msgspec.Struct, eq=False):
    """A call that wants an attempt; the gates' waiter. A struct, for each call makes one: its defaults cost nothing.

    Attributes:
        workflow: of its run. Only who waits is asked for it, and most never do.
        is_ready: all is set aside for it: the attempt may be made as soon as the log has it.
        failure: why it waits.
        obstacle: why it should not wait any more, where another agent can be had.
    """

    agent: Agent
    call: str
    priority: int
    is_continuing: bool
    again: Callable[[str], None]
    workflow: str = ""
    permit: Permit | None = None
    is_ready: bool = False
    failure: ev.Failure | None = None
    obstacle: ev.Failure | None = None
    give_up_at: int | None = None

    def admitted(self, permit: Permit) -> None:
        self.permit = permit
        self.again(self.call)

    def obstructed(self, failure: ev.Failure) -> None:
        self.obstacle = failure
        self.again(self.call)


class Admission:
    """See the module.

    Attributes:
        wanted: calls to look at: those of which the log says that an attempt is to be made, and those whose time has
            come, or what they waited for. As long as it is empty there is nothing to decide.

    Args:
        wake: called when there is something to look at again.
        under_way: calls of which an attempt is being made.
    """

    __slots__ = (
        "_alarm", "_begun", "_crew", "_deferred", "_execution", "_on_admitted", "_under_way", "_waiting", "_wake",
        "_wishes", "wanted",
    )  # fmt: skip

    def __init__(
        self, crew: Crew, execution: Execution, wake: Callable[[], None], under_way: Container[str],
        on_admitted: OnAdmitted,
    ) -> None:  # fmt: skip
        self.wanted: list[str] = []
        self._crew = crew
        self._execution = execution
        self._wake = wake
        self._under_way = under_way
        self._on_admitted = on_admitted
        self._wishes: dict[str, Wish] = {}
        self._waiting: dict[str, None] = {}
        """Calls whose wish has a time to give up."""
        self._begun: set[str] = set()
        """Calls whose attempt an owner before this one may have made: it has its number for itself."""
        self._deferred: dict[str, int] = {}
        """Retries that wait for the agent's retry budget, and since when (ms)."""
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def are_left(self) -> bool:
        """Calls that the log does not say yet are not made here."""
        return bool(self._wishes)

    def go_on(self, call: str, *, may_have_begun: bool) -> None:
        """The log says that an attempt of this call is under way. `may_have_begun`: by an owner before this one."""
        if may_have_begun:
            self._begun.add(call)
        self.wanted.append(call)

    def again(self, call: str) -> None:
        """Something that this call waited for is there."""
        self.wanted.append(call)
        self._wake()

    def withdraw(self) -> None:
        """The coordinator drains: what has not begun does not begin here, and the log must say so where it matters."""
        self.wanted.extend(self._wishes)

    def take(self, wish: Wish) -> Permit | None:
        """Its attempt is made now. None: it was dropped meanwhile."""
        if self._wishes.get(wish.call) is not wish:
            return None
        del self._wishes[wish.call]
        if self._begun:
            self._begun.discard(wish.call)
        return wish.permit

    def drop(self, call: str) -> None:
        """The call wants no attempt any more."""
        self._deferred.pop(call, None)
        wish = self._wishes.pop(call, None)
        if wish is None:
            return
        if wish.permit is not None:
            wish.permit.give_back()
        else:
            self._crew.gates.leave(wish.agent, wish)

    def close(self) -> None:
        """The run is over here."""
        if self._alarm is not None:
            self._alarm.cancel()
        for call in list(self._wishes):
            self.drop(call)
        self._wake, self._on_admitted = nothing, _nobody  # a circle would wait for the garbage collector

    # -- deciding -------------------------------------------------------------------------------------------------

    def look(self, now: int) -> None:
        """Decide what can be decided now; what came of it is in `Execution.take`."""
        for call in self.wanted:  # and those that come to it meanwhile
            self._advance(call, now)
        self.wanted.clear()
        if self._waiting:
            self._give_up_late(now)
        if self._waiting or self._deferred:
            self._set_alarm(now)

    def _give_up_late(self, now: int) -> None:
        for call in list(self._waiting):
            wish = self._wishes.get(call)
            if wish is None or wish.permit is not None or wish.give_up_at is None or wish.failure is None:
                del self._waiting[call]
            elif wish.give_up_at <= now:
                del self._waiting[call]
                self.turn_away(wish, self._out_of_time(now) or wish.failure, now)

    def _advance(self, call: str, now: int) -> None:
        state = self._execution.state
        pending = state.calls.get(call)
        if call in self._under_way:
            return
        if pending is None or pending.retry_at is not None or pending.task is not None:
            self.drop(call)
            return
        if self._crew.is_draining:
            self.drop(call)
            agent = self._crew.directory.agent(pending.target)
            if agent is not None and not agent.idempotent and call not in self._begun:
                self._execution.held(call, LEAVING, now)
            return
        wish = self._wishes.get(call)
        if wish is None:
            agent = self._crew.directory.agent(pending.target)
            if agent is None:
                failure = ev.Failure("unknown_agent", f"no agent is named {pending.target!r} here", retryable=False)
                self._execution.attempt_failed(call, pending.attempt, failure, now)
                return
            if pending.attempt != pending.first_attempt and self._waits_to_retry(call, agent, now):
                return
            misfit = _misfit(agent, pending.data) if agent.function is None else None
            if misfit is not None:
                self._execution.attempt_failed(call, pending.attempt, misfit, now)
                return
            wish = self._wishes[call] = Wish(agent, call, pending.options.priority, state.sequence > 2, self.again)
            answer = self._crew.gates.enter(agent, wish)
            if isinstance(answer, ev.Failure):
                self._hold(wish, pending, answer, now)
                return
            wish.permit = answer
        if wish.permit is None:
            self._avoid(wish, now)
        elif not wish.is_ready:
            self._on_admitted(wish, pending, wish.permit, now)

    def _avoid(self, wish: Wish, now: int) -> None:
        """It waits for an agent that is not to be had soon any more: another one, as for a call that comes now."""
        obstacle, wish.obstacle = wish.obstacle, None
        if obstacle is not None and self._reassign(wish.call, obstacle, now):
            self.drop(wish.call)

    def _hold(self, wish: Wish, pending: PendingCall, failure: ev.Failure, now: int) -> None:
        """The agent can't take it now: another one, or wait."""
        if failure.kind != "busy" and self._reassign(wish.call, failure, now):
            self.drop(wish.call)
            return
        if failure.kind != "busy" or not wish.agent.idempotent:
            # Noted also where a next owner must know for certain that the attempt has not begun.
            self._execution.held(wish.call, failure, now)
        wish.workflow = self._execution.state.workflow
        wish.failure = failure
        wish.give_up_at = (pending.held_at or now) + round(wish.agent.described.hold * 1000)
        left = seconds_left(self._execution.state, now)
        if left is not None:
            wish.give_up_at = min(wish.give_up_at, now + max(round(left * 1000), 0))
        self._waiting[wish.call] = None

    def _out_of_time(self, now: int) -> ev.Failure | None:
        """The run's wall time is over: that is why, and not what it waited for."""
        return refusal(self._execution.state, NOTHING, now)

    def _set_alarm(self, now: int) -> None:
        """One for all that wait, at the first of their times, and soon where a retry waits for its turn."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        times = [wish.give_up_at for call in self._waiting if (wish := self._wishes.get(call)) and wish.give_up_at]
        if self._deferred:
            times.append(now + RETRY_LOOK_MS)
        if times:
            wait_s = max(min(times) - now, 0) / 1000 + 0.001
            self._alarm = asyncio.get_running_loop().call_later(wait_s, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self.wanted += [*self._deferred, *self._waiting]
        self._wake()

    def _waits_to_retry(self, call: str, agent: Agent, now: int) -> bool:
        """Retries of an agent are rationed, so that those that fail together do not fall on it together. One that is
        not allowed goes to the next agent at once, and waits where there is none."""
        if call in self._begun:
            return False
        if self._crew.gates.may_retry(agent):
            self._deferred.pop(call, None)
            return False
        if self._reassign(call, NO_MORE_RETRIES, now):
            self._deferred.pop(call, None)
            return True
        since = self._deferred.setdefault(call, now)
        if now - since >= agent.described.hold * 1000:
            del self._deferred[call]
            self._execution.give_up(call, NO_MORE_RETRIES, now)
        else:
            self._execution.held(call, NO_MORE_RETRIES, now)
        return True

    def turn_away(self, wish: Wish, failure: ev.Failure, now: int) -> None:
        """It can't be done by this agent: the next of the chain, a person, the default, or failure."""
        self.drop(wish.call)
        if not self._reassign(wish.call, failure, now):
            self._execution.give_up(wish.call, failure, now)

    def _reassign(self, call: str, failure: ev.Failure, now: int) -> bool:
        begun = call in self._begun
        self._begun.discard(call)
        return self._execution.reassign(call, failure, now, begun=begun)


def _misfit(agent: Agent, data: bytes) -> ev.Failure | None:
    """An agent behind HTTP describes what it takes, and may have described it anew since the call was made."""
    try:
        agent.signature.check_input(data)
    except (InvalidInput, InvalidValue) as error:
        return ev.Failure("invalid_input", faithful(error), retryable=False)
    return None
