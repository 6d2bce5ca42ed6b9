"""Admission: which calls of one run may have their attempt made now, and what happens to the others.

The health and breaker of the agent are checked first, then its limits; a call that is held back uses up no attempt. It
waits in the queue of its agent for at most the agent's `hold`, in the memory of the run's owner, or goes to the next
agent of its chain.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container

from pointsman.agents.agent import Agent
from pointsman.agents.card import PULL
from pointsman.coordinator.driving.attempt import Attempt, Caller, PulledAttempt, ignore
from pointsman.coordinator.driving.crew import Crew
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

OnAdmitted = Callable[[Attempt, PendingCall, int], None]
"""(attempt, its call, now): set aside what it needs, and then `ready` or `wait`."""


def _ignore_admitted(attempt: Attempt, pending: PendingCall, now: int) -> None:
    """An `OnAdmitted` that does nothing: the run is over."""


class Admission:
    """Decides which of a run's calls may have their attempt made.

    Attributes:
        wanted: calls to look at: those whose log asks for an attempt, and those that are due or got what they waited
            for.
            There is nothing to decide while it is empty.
        ready: attempts that may be made as soon as all decisions are in the log.

    Args:
        wake: called when there is something to look at again.
        under_way: calls of which an attempt is being made.
    """

    __slots__ = (
        "_alarm", "_begun", "_caller", "_crew", "_deferred", "_execution", "_on_admitted", "_under_way", "_waiting",
        "_wake", "ready", "wanted",
    )  # fmt: skip

    def __init__(
        self, crew: Crew, execution: Execution, caller: Caller, wake: Callable[[], None], under_way: Container[str],
        on_admitted: OnAdmitted,
    ) -> None:  # fmt: skip
        self.wanted: list[str] = []
        self._crew = crew
        self._execution = execution
        self._wake = wake
        self._under_way = under_way
        self._on_admitted = on_admitted
        self._caller = caller
        caller.again = self.again
        self.ready: dict[str, Attempt] = {}
        self._waiting: dict[str, Attempt] = {}
        """For their agents, or for what is to be set aside for them; by call, as those that are ready."""
        self._begun: set[str] = set()
        """Calls whose attempt an owner before this one may have made: it has its number for itself."""
        self._deferred: dict[str, int] = {}
        """Retries that wait for the agent's retry budget, and since when (ms)."""
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def are_left(self) -> bool:
        """Whether there are calls of which the log does not say yet that they are not made here."""
        return bool(self.ready or self._waiting)

    def go_on(self, call: str, *, may_have_begun: bool) -> None:
        """Note that an attempt of this call is under way by the log. `may_have_begun`: a previous owner may have
        made it.
        """
        if may_have_begun:
            self._begun.add(call)
        self.wanted.append(call)

    def again(self, call: str) -> None:
        """Note that something that this call waited for is there."""
        self.wanted.append(call)
        self._wake()

    def withdraw(self) -> None:
        """Begin no more attempts, because the coordinator drains; where it matters, the log must say so."""
        self.wanted += [*self.ready, *self._waiting]

    def wait(self, attempt: Attempt) -> None:
        """Let a call wait that can't be made yet; `again` tells when to look at it again."""
        self._waiting[attempt.call] = attempt

    def take(self) -> dict[str, Attempt]:
        """Take all attempts that are ready, to make them now."""
        ready, self.ready = self.ready, {}
        if self._begun:
            self._begun.difference_update(ready)
        return ready

    def drop(self, call: str) -> None:
        """Note that the call wants no attempt any more."""
        self._deferred.pop(call, None)
        attempt = self._waiting.pop(call, None) or self.ready.pop(call, None)
        if attempt is None:
            return
        if attempt.permit is not None:
            attempt.permit.give_back()
        else:
            self._crew.gates.leave(attempt.agent, attempt)

    def close(self) -> None:
        """Stop, because the run is over here."""
        if self._alarm is not None:
            self._alarm.cancel()
        for call in [*self.ready, *self._waiting]:
            self.drop(call)
        self._caller.leave()
        self._wake, self._on_admitted = ignore, _ignore_admitted  # else a cycle waits for the garbage collector

    # -- deciding -------------------------------------------------------------------------------------------------

    def look(self, now: int) -> None:
        """Decide what can be decided now; the results are in `Execution.take`."""
        for call in self.wanted:  # and those that come to it meanwhile
            self._advance(call, now)
        self.wanted.clear()
        if self._waiting or self._deferred:
            self._give_up_late(now)
            self._set_alarm(now)

    def _held(self) -> list[Attempt]:
        """The calls that wait for their agents."""
        return [attempt for attempt in self._waiting.values() if attempt.permit is None]

    def _give_up_late(self, now: int) -> None:
        calls = self._execution.state.calls  # one may be cancelled for another that was given up, and is dropped later
        for attempt in self._held():
            if attempt.give_up_at <= now and attempt.failure is not None and attempt.call in calls:
                self.turn_away(attempt, self._out_of_time(now) or attempt.failure, now)

    def _advance(self, call: str, now: int) -> None:
        state, crew = self._execution.state, self._crew
        pending = state.calls.get(call)
        if call in self._under_way:
            return
        if pending is None or pending.retry_at is not None or pending.task is not None:
            self.drop(call)
            return
        if crew.is_draining:
            self._leave_to_next_owner(pending, now)
            return
        attempt = self._waiting.get(call)
        if attempt is None:
            if call in self.ready:
                return
            agent = crew.directory.agent(pending.target)
            if agent is None:
                failure = ev.Failure("unknown_agent", f"no agent is named {pending.target!r} here", retryable=False)
                self._execution.attempt_failed(call, pending.attempt, failure, now)
                return
            if pending.attempt != pending.first_attempt and self._waits_to_retry(call, agent, now):
                return
            if agent.function is None and (misfit := _misfit(agent, pending.data)) is not None:
                self._execution.attempt_failed(call, pending.attempt, misfit, now)
                return
            kind = Attempt if agent.transport != PULL else PulledAttempt
            attempt = kind(
                self._caller, agent, call, pending.key, pending.attempt, pending.options.priority, state.sequence > 2
            )
            answer = crew.gates.enter(agent, attempt)
            if isinstance(answer, ev.Failure):
                self._hold(attempt, pending, answer, now)
                return
            attempt.permit = answer
        elif attempt.permit is None:
            self._avoid(attempt, now)
            return
        else:
            del self._waiting[call]
        self._on_admitted(attempt, pending, now)

    def _leave_to_next_owner(self, pending: PendingCall, now: int) -> None:
        """Leave the calls to the run's next owner, because the coordinator drains. If an attempt must not be made
        twice, record that it was not made here.
        """
        self.drop(pending.call)
        agent = self._crew.directory.agent(pending.target)
        if agent is not None and not agent.idempotent and pending.call not in self._begun:
            self._execution.held(pending.call, LEAVING, now)

    def _avoid(self, attempt: Attempt, now: int) -> None:
        """Try another agent for a call whose agent will not be available soon, as for a new call."""
        obstacle, attempt.obstacle = attempt.obstacle, None
        if obstacle is not None and self._reassign(attempt.call, obstacle, now):
            self.drop(attempt.call)

    def _hold(self, attempt: Attempt, pending: PendingCall, failure: ev.Failure, now: int) -> None:
        """Try another agent, or wait, because the agent can't take the call now."""
        self.wait(attempt)
        if failure.kind != "busy" and self._reassign(attempt.call, failure, now):
            self.drop(attempt.call)
            return
        if failure.kind != "busy" or not attempt.agent.idempotent:
            # Noted also where a next owner must know for certain that the attempt has not begun.
            self._execution.held(attempt.call, failure, now)
        attempt.failure = failure
        attempt.give_up_at = (pending.held_at or now) + round(attempt.agent.described.hold * 1000)
        left = seconds_left(self._execution.state, now)
        if left is not None:
            attempt.give_up_at = min(attempt.give_up_at, now + max(round(left * 1000), 0))

    def _out_of_time(self, now: int) -> ev.Failure | None:
        """Fail the call because the run's wall time is over; that is the reason, not what it waited for."""
        return refusal(self._execution.state, NOTHING, now)

    def _set_alarm(self, now: int) -> None:
        """Set one timer for all calls that wait: for the earliest of their times, and a short one if a retry waits for
        its turn.
        """
        times = [attempt.give_up_at for attempt in self._held()]
        if self._deferred:
            times.append(now + RETRY_LOOK_MS)
        if times:
            if self._alarm is not None:
                self._alarm.cancel()
            wait_s = max(min(times) - now, 0) / 1000 + 0.001
            self._alarm = asyncio.get_running_loop().call_later(wait_s, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self.wanted += [*self._deferred, *(attempt.call for attempt in self._held())]
        self._wake()

    def _waits_to_retry(self, call: str, agent: Agent, now: int) -> bool:
        """Whether the call must wait before a retry. Retries of an agent are rationed, so that calls that fail together
        do not all come back together. A retry that is not allowed goes to the next agent at once, and waits if there is
        none.
        """
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

    def turn_away(self, attempt: Attempt, failure: ev.Failure, now: int) -> None:
        """End the call at this agent: the next of the chain, a person, the default, or failure."""
        self.drop(attempt.call)
        if not self._reassign(attempt.call, failure, now):
            self._execution.give_up(attempt.call, failure, now)

    def _reassign(self, call: str, failure: ev.Failure, now: int) -> bool:
        begun = call in self._begun
        self._begun.discard(call)
        return self._execution.reassign(call, failure, now, begun=begun)


def _misfit(agent: Agent, data: bytes) -> ev.Failure | None:
    """Why an agent behind HTTP can't take the input, if so; it may have changed its schema since the call was made."""
    try:
        agent.signature.check_input(data)
    except (InvalidInput, InvalidValue) as error:
        return ev.Failure("invalid_input", faithful(error), retryable=False)
    return None
