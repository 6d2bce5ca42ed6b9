"""The breaker of one agent as one coordinator sees it: what it counts here, and which probes it has."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from itertools import count

from pointsman.agents.card import Card
from pointsman.agents.traffic import Wants
from pointsman.coordinator.gates.counts import AgentSums
from pointsman.kernel.events import Failure
from pointsman.kernel.policy.breaker import NOT_REACHED, BreakerState, Sums, reason_to_open, slow_after
from pointsman.kernel.policy.failures import counts_against
from pointsman.kernel.policy.windows import Window

logger = logging.getLogger("pointsman.gates")


class LocalBreaker:
    """One coordinator's part of an agent's breaker. Times in ms by the database's clock.

    Attributes:
        state: as the agent's stream says.
        term: since when is counted (its `closed_at`); attempts that began in an earlier term tell nothing.
        calls: attempts that ended and are not in the window yet; counted by permits themselves.
        slow_after: seconds.
        ended: own probes that are over and whose end is not in the stream yet.
    """

    def __init__(self, card: Card, incarnation: int) -> None:
        self._incarnation = incarnation
        self._numbers = count(1)
        self._in_use: set[str] = set()
        self._failures = 0
        self._slow = 0
        self.state = BreakerState()
        self.term = 0
        self.calls = 0
        self.ended: dict[str, tuple[bool | None, str]] = {}
        self.adopt(card)

    def adopt(self, card: Card) -> None:
        """The agent's card, perhaps a new one: counts start afresh."""
        self._name, self.policy = card.name, card.breaker
        self.slow_after = slow_after(card.breaker, card.timeout)
        self._window = Window(max(round(card.breaker.window), 1), 3)
        self.calls = self._failures = self._slow = 0

    def learn(self, state: BreakerState) -> None:
        """Take in what the stream says."""
        before, self.state = self.state, state
        if state.closed_at != self.term:
            self.term = state.closed_at
            self.calls = self._failures = self._slow = 0
            self._window.clear()
        self.ended = {probe: end for probe, end in self.ended.items() if probe in state.probes}
        self._in_use.intersection_update(state.probes)
        if (before.position, before.pinned) != (state.position, state.pinned):
            pinned = f", pinned {state.pinned} by {state.pinned_by}" if state.pinned else ""
            reason = f" ({state.reason})" if state.reason else ""
            logger.warning(
                "breaker of agent %s: %s, was %s%s%s", self._name, state.position, before.position, pinned, reason
            )

    # -- counting -----------------------------------------------------------------------------------------------------

    def count_trouble(self, kind: str | None, seconds: float) -> None:
        """An attempt of this term, counted in `calls`, failed or was slow."""
        if kind in NOT_REACHED:
            self.calls -= 1
            return
        self._failures += kind is not None and counts_against(kind)
        self._slow += seconds >= self.slow_after

    def sums(self, now: int) -> Sums:
        """Of this coordinator alone."""
        if self.calls:
            self._window.add(now // 1000, self.calls, self._failures, self._slow)
            self.calls = self._failures = self._slow = 0
        return Sums(*self._window.sums(now // 1000))

    def all_sums(self, now: int, others: Iterable[AgentSums]) -> Sums:
        """Of all coordinators that count from the same closing on."""
        sums = self.sums(now)
        for other in others:
            if other.term == self.term:
                sums = sums.plus(other.sums)
        return sums

    def should_open(self, now: int, others: Iterable[AgentSums]) -> bool:
        return self.state.may_open and bool(reason_to_open(self.policy, self.all_sums(now, others)))

    # -- probes -------------------------------------------------------------------------------------------------------

    def free_probes(self, now: int) -> list[str]:
        """Granted to this coordinator, and not in use."""
        return [
            probe
            for probe, granted in self.state.probes.items()
            if granted.incarnation == self._incarnation
            and granted.deadline > now
            and probe not in self._in_use
            and probe not in self.ended
        ]

    def take_probe(self, now: int) -> str | None:
        free = self.free_probes(now)
        if not free:
            return None
        self._in_use.add(free[0])
        return free[0]

    def end_probe(self, probe: str, ok: bool | None, reason: str) -> bool:
        """False: it is not under way (any more)."""
        if probe not in self._in_use:
            return False
        self._in_use.discard(probe)
        self.ended[probe] = (ok, reason)
        return True

    def abandon_probes(self) -> None:
        """Nobody will say how those in use end."""
        for probe in list(self._in_use):
            self.end_probe(probe, None, "its coordinator leaves")

    def passable(self, now: int, waiting: int) -> int:
        """How many of those who wait could pass now, or as soon as a probe is granted."""
        if self.state.is_closed:
            return waiting
        return min(waiting, len(self.free_probes(now)) + self.state.probes_left(self.policy, now))

    def obstacle(self, now: int, waiting: int) -> Failure | None:
        """Why one more can't pass. One that may become a probe has to wait for that, and should not go elsewhere."""
        state = self.state
        if state.is_closed or self.passable(now, waiting + 1) > waiting:
            return None
        if state.pinned is not None:
            return Failure("breaker_open", f"agent {self._name}: its breaker is pinned open by {state.pinned_by}")
        why = f"its breaker is {state.position.replace('_', '-')} ({state.reason})"
        return Failure("breaker_open", f"agent {self._name}: {why}", retry_after_ms=max(state.until - now, 0) or None)

    def add_wants(self, wants: Wants, now: int, others: Iterable[AgentSums], waiting: int) -> None:
        """What this coordinator would like to have appended, for `waiting` calls."""
        if self.state.may_open:
            wants.sums, wants.counted_since = self.all_sums(now, others), self.term
            return
        wants.ended = dict(self.ended)
        more = min(waiting - len(self.free_probes(now)), self.state.probes_left(self.policy, now))
        wants.probes = [f"{self._incarnation}.{next(self._numbers)}" for _ in range(more)]
