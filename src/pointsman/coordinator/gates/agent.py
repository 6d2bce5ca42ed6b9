"""The gate of one agent in one coordinator: lets attempts pass, or keeps them waiting, by what the agent's stream says.

Synchronous throughout: what has to be appended is seen to by `GateWork`, in a task of its own.
"""

from __future__ import annotations

import asyncio

from pointsman.agents.agent import Agent
from pointsman.agents.traffic import Limits, TrafficState, Wants
from pointsman.coordinator.gates.breaker import LocalBreaker
from pointsman.coordinator.gates.counts import AgentSums, RetryBudget
from pointsman.coordinator.gates.permit import Permit, SpecialPermit
from pointsman.coordinator.gates.queue import Waiter, WaitQueue
from pointsman.coordinator.gates.ramp import Ramp
from pointsman.coordinator.gates.slots import PermitSlots, RateSlots, Rival
from pointsman.coordinator.gates.work import GateWork, SharedByGates
from pointsman.kernel.events import Failure
from pointsman.kernel.policy.breaker import speaks_for


class Gate:
    """Admits attempts of one agent, or keeps them waiting. Times in ms by the database's clock.

    Attributes:
        free: what everybody gets as long as there is no limit, no problem, and nobody waits; else None.
        let_in: how many of those who waited were let in.
        others: the other coordinators' sums of this agent, by incarnation.
        traffic: what the stream says.
    """

    def __init__(self, shared: SharedByGates, agent: Agent) -> None:
        self._shared = shared
        self.agent = agent
        self.name = agent.name
        self.breaker = LocalBreaker(agent.described, shared.incarnation)
        self.queue = WaitQueue()
        self.retries = RetryBudget(shared.settings)
        self.let_in = 0
        self.others: dict[int, AgentSums] = {}
        self.traffic = TrafficState()
        self.limits = _limits(agent)
        self.free: Permit | None = None
        self._permits = PermitSlots(shared.incarnation)
        self._rate = RateSlots(shared.incarnation)
        self._ramp: Ramp | None = None
        self._problem: Failure | None = None
        self._is_obstructed = False
        self._was_held_back = False
        self._looked_back_at = 0
        self._alarm: asyncio.TimerHandle | None = None
        self._work = GateWork(shared, agent.name, self)
        self.look_around(shared.clock.now())

    def adopt(self, agent: Agent) -> None:
        """Another card of the agent."""
        if agent.described != self.agent.described:
            self.breaker.adopt(agent.described)
            self.limits = _limits(agent)
        self.agent = agent
        self.look_around(self._shared.clock.now())

    # -- passing ------------------------------------------------------------------------------------------------------

    def enter(self, waiter: Waiter, now: int) -> Permit | Failure:
        """See `Gates.enter`."""
        failure = self._problem or self.breaker.obstacle(now, len(self.queue))
        if failure is None:
            permit = self._take(now) if not self.queue else None
            if permit is not None:
                return permit
            failure = Failure("busy", f"agent {self.name}: {self._what_is_full(now)}")
        held = self._shared.stats.held
        held[failure.kind] = held.get(failure.kind, 0) + 1
        is_first = not self.queue
        self.queue.push(waiter, now)
        if is_first:  # for those before it everything was asked for that is to be had
            self._poke(now)
        return failure

    def leave(self, waiter: Waiter) -> None:
        """See `Gates.leave`."""
        self.queue.remove(waiter)
        if not self.queue:
            self._refresh()

    @property
    def is_busy(self) -> bool:
        """Calls wait, and only because the agent has so many."""
        return bool(self.queue) and self._problem is None and self.breaker.state.is_closed and self._ramp is None

    def oldest_s(self) -> float:
        """How long the first one has waited (seconds)."""
        return max(self._shared.clock.now() - self.queue.oldest, 0) / 1000 if self.queue else 0.0

    def _what_is_full(self, now: int) -> str:
        if not self.breaker.state.is_closed:
            return "its breaker is half-open, and a probe is asked for"
        if self._ramp is not None:
            return "its traffic is raised slowly after it was away"
        if self.limits.rate is not None and self._rate.left(self.traffic, now // 1000) <= 0:
            return f"at most {self.limits.rate:g} attempts a second"
        return f"at most {self.limits.concurrency} attempts at the same time"

    def _take(self, now: int) -> Permit | None:
        """A permit if there is room now. The caller has seen to it that there is no obstacle."""
        limits, ramp, probe = self.limits, self._ramp, None
        if (
            (ramp is not None and not ramp.has_room)
            or (limits.concurrency is not None and self._permits.free <= 0)
            or (limits.rate is not None and self._rate.left(self.traffic, now // 1000) <= 0)
        ):
            return None
        if not self.breaker.state.is_closed:
            probe = self.breaker.take_probe(now)
            if probe is None:
                return None
        if ramp is not None:
            ramp.under_way += 1
        if limits.concurrency is not None:
            self._permits.take()
        if limits.rate is not None:
            self._rate.take(now // 1000)
        if probe is None and ramp is None and limits.concurrency is None and limits.rate is None:
            return Permit(self, self.breaker.term)
        return SpecialPermit(self, self.breaker.term, probe, ramp)

    def _pump(self, now: int) -> None:
        """Let in who may come."""
        while self.queue and self._problem is None:
            permit = self._take(now)
            if permit is None:
                break
            self._shared.stats.admitted_late += 1
            self.let_in += 1
            self.queue.pop().admitted(permit)
        self._refresh()

    # -- what permits say ---------------------------------------------------------------------------------------------

    def count_trouble(self, kind: str | None, seconds: float) -> None:
        """See `PermitGate`."""
        self.breaker.count_trouble(kind, seconds)
        now = self._shared.clock.now()
        if self.breaker.should_open(now, self.others.values()):
            self._poke(now)

    def ended(self, permit: SpecialPermit, kind: str | None, seconds: float) -> None:
        """See `PermitGate`."""
        is_well = speaks_for(kind, seconds >= self.breaker.slow_after)
        if permit.ramp is not None:
            permit.ramp.ended(is_well is not False, seconds)
        if permit.probe is not None:
            reason = kind or ("slow" if is_well is False else "completed")
            if self.breaker.end_probe(permit.probe, is_well, reason):
                self._poke(self._shared.clock.now())

    def left(self, permit: SpecialPermit, *, unused: bool) -> None:
        """See `PermitGate`."""
        now = self._shared.clock.now()
        if permit.ramp is not None:
            permit.ramp.under_way -= 1
        self._permits.leave()
        if unused:
            self._rate.untake(now // 1000)
        reason = "no attempt was made" if unused else "abandoned"
        is_probe = permit.probe is not None and self.breaker.end_probe(permit.probe, None, reason)
        self._pump(now)
        if is_probe or self._permits.owed:
            self._poke(now)

    # -- what others say ----------------------------------------------------------------------------------------------

    def tick(self, now: int) -> AgentSums:
        """Several times a second: look around. Returns what goes on the board."""
        if now - self._looked_back_at >= self._shared.settings.idle_ms:
            self._looked_back_at = now
            self._permits.look_back()
        self.look_around(now)
        tries, retries = self.retries.sums(now // 1000)
        waiting = self._waiting(now)
        return AgentSums(*self.breaker.sums(now), self.breaker.term, tries, retries, waiting, self.queue.oldest)

    def hear(self, others: dict[int, AgentSums], now: int) -> None:
        """What the others say, directly after a tick: a slot that came is used before it is promised."""
        self.others = others
        self.retries.others_tries = sum(other.tries for other in others.values())
        self.retries.others_retries = sum(other.retries for other in others.values())
        self._permits.share_with(self._rivals(), self.traffic, len(self.queue), now)
        self._poke(now)

    def changed(self, now: int) -> None:
        """The stream did."""
        self.look_around(now)
        self._poke(now)

    def settled(self) -> None:
        """See `WorkGate`."""
        now = self._shared.clock.now()
        self.look_around(now)
        self._permits.returning = 0
        self._pump(now)

    def look_around(self, now: int) -> None:
        """Take in the agent's health, and what is known of the stream."""
        self._problem = self._shared.problem(self.name, now)
        state = self.traffic = self._shared.traffic(self.name)
        self.breaker.learn(state.breaker)
        self._permits.learn(state, self.limits.concurrency, now)
        self._refresh()
        self._pump(now)
        obstacle = self._problem or self.breaker.obstacle(now, 0)
        if obstacle is not None and not self._is_obstructed:
            for waiter in self.queue.waiters():
                waiter.obstructed(obstacle)
        self._is_obstructed = obstacle is not None

    def _rivals(self) -> list[Rival]:
        return [Rival(who, other.waiting, other.since) for who, other in self.others.items() if other.waiting > 0]

    def _refresh(self) -> None:
        """Is the way clear? If it just became so, those who waited are let in slowly."""
        is_held_back = self._problem is not None or not self.breaker.state.is_closed
        if is_held_back or not self.queue:
            self._ramp = None
        elif self._was_held_back:
            self._ramp = Ramp(self.breaker.policy.probes)
        self._was_held_back = is_held_back
        limits = self.limits
        if is_held_back or self.queue or limits.concurrency is not None or limits.rate is not None:
            self.free = None
        elif self.free is None or self.free.term != self.breaker.term:
            self.free = Permit(self, self.breaker.term)
        if not self.queue and self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    # -- what is appended ---------------------------------------------------------------------------------------------

    def _waiting(self, now: int) -> int:
        """How many of the queue could pass if there were slots."""
        if self._problem is not None:
            return 0
        waiting = self.breaker.passable(now, len(self.queue))
        return waiting if self._ramp is None else max(min(waiting, self._ramp.room - self._ramp.under_way), 0)

    def wants(self, now: int) -> Wants:
        """See `WorkGate`."""
        limits, rivals, waiting = self.limits, self._rivals(), self._waiting(now)
        wants = Wants(second=now // 1000, dead=self._shared.dead)
        self.breaker.add_wants(wants, now, self.others.values(), waiting)
        if limits.concurrency is not None:
            wants.permits, wants.heir = self._permits.wish(waiting, self.traffic, limits.concurrency, rivals)
        elif self._permits.held:
            wants.permits = 0
        if limits.rate is not None:
            wants.rate = self._rate.wish(waiting, self.queue.oldest, self.traffic, limits.rate, rivals, now)
        return wants

    def committing(self, permits: int | None) -> None:
        """See `WorkGate`."""
        self._permits.returning = 0 if permits is None else max(self._permits.held - permits, 0)

    def suspects(self) -> list[int]:
        """See `WorkGate`."""
        if self.limits.concurrency is None or self._waiting(self._shared.clock.now()) <= self._permits.free:
            return []
        return [who for who in self.traffic.permits if who != self._shared.incarnation]

    def _poke(self, now: int) -> None:
        if not self._work.poke(now) and self.queue and self._alarm is None:
            self._set_alarm(now)

    def _set_alarm(self, now: int) -> None:
        """Who waits for a time is let in at that time, not at the next tick."""
        breaker = self.breaker.state
        if breaker.position == "open" and breaker.pinned is None and breaker.until > now:
            due = breaker.until
        elif self.limits.rate is not None:
            due = now - now % 500 + 500
        else:
            return
        self._alarm = asyncio.get_running_loop().call_later((due - now + 1) / 1000, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        now = self._shared.clock.now()
        self._pump(now)
        self._poke(now)

    # -- the end ------------------------------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Give back what is not in use; the rest is free once this incarnation has ended. Raises StoreUnavailable."""
        if self._alarm is not None:
            self._alarm.cancel()
        await self._work.stop()
        self.breaker.abandon_probes()
        wants = Wants(ended=self.breaker.ended, permits=self._permits.in_use, is_leaving=True, counted_since=-1)
        await self._work.give_up(wants)


def _limits(agent: Agent) -> Limits:
    card = agent.described
    return Limits(card.breaker, round(card.timeout * 1000), card.concurrency, card.rate)
