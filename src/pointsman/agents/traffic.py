"""The traffic of an agent, as its stream `agent/X` tells it: its breaker, and the permits that coordinators hold.

Nobody owns the stream: a decision here is a pure function of the folded state, appended at the expected sequence, and
the loser of a race decides again on what it reads then. So all coordinators agree on one breaker, and the sums of
permits never exceed the limits, without a row that every call updates.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec

from pointsman.kernel.events import Event
from pointsman.kernel.policy.breaker import PINS, Breaker, BreakerState, Sums, open_until, reason_to_open

NANOS = 10**9


class BreakerOpened(Event, frozen=True, omit_defaults=True):
    """`until`: ms, when the first probe may go. The counts are those that opened it; none after a failed probe."""

    reason: str
    until: int
    calls: int = 0
    failures: int = 0
    slow: int = 0


class BreakerHalfOpened(Event, frozen=True):
    pass


class ProbeGranted(Event, frozen=True):
    """`deadline`: ms; without an outcome by then the probe has failed."""

    probe: str
    incarnation: int
    deadline: int


class ProbeEnded(Event, frozen=True, omit_defaults=True):
    """`ok` None: it told nothing, and another may take its place."""

    probe: str
    ok: bool | None
    reason: str = ""


class BreakerClosed(Event, frozen=True):
    pass


class BreakerPinned(Event, frozen=True):
    state: str
    by: str


class BreakerUnpinned(Event, frozen=True):
    by: str


class PermitsGranted(Event, frozen=True):
    """Slots of the agent's concurrency limit."""

    incarnation: int
    count: int


class PermitsReturned(Event, frozen=True):
    incarnation: int
    count: int


class RateGranted(Event, frozen=True):
    """Attempts that may begin within `second` of the database's clock, and not later."""

    incarnation: int
    count: int
    second: int


class TrafficState(msgspec.Struct, omit_defaults=True):
    """What the events above add up to.

    Attributes:
        permits: slots held, by incarnation.
        rate_second: the last second for which attempts were granted; `rate_granted`: in it, by incarnation.
    """

    breaker: BreakerState = msgspec.field(default_factory=BreakerState)
    permits: dict[int, int] = {}
    rate_second: int = 0
    rate_granted: dict[int, int] = {}

    def evolve(self, event: Event, at: int) -> bool:
        """Fold one event in; False: it is not about traffic. `at`: ms by the database's clock."""
        fold = _FOLDS.get(type(event))
        if fold is not None:
            fold(self, event, at)
        return fold is not None

    def copy(self) -> TrafficState:
        breaker = msgspec.structs.replace(self.breaker, probes=dict(self.breaker.probes))
        return TrafficState(breaker, dict(self.permits), self.rate_second, dict(self.rate_granted))

    def _permits(self, incarnation: int, change: int) -> None:
        left = self.permits.get(incarnation, 0) + change
        if left > 0:
            self.permits[incarnation] = left
        else:
            self.permits.pop(incarnation, None)

    def _rate(self, event: RateGranted) -> None:
        if event.second != self.rate_second:
            self.rate_second, self.rate_granted = event.second, {}
        self.rate_granted[event.incarnation] = self.rate_granted.get(event.incarnation, 0) + event.count


_FOLDS: dict[type[Event], Callable[[TrafficState, Any, int], None]] = {
    BreakerOpened: lambda state, event, _at: state.breaker.open(event.reason, event.until),
    BreakerHalfOpened: lambda state, _event, _at: state.breaker.half_open(),
    ProbeGranted: lambda state, event, _at: state.breaker.grant(event.probe, event.incarnation, event.deadline),
    ProbeEnded: lambda state, event, _at: state.breaker.probe_ended(event.probe, event.ok),
    BreakerClosed: lambda state, _event, at: state.breaker.close(at),
    BreakerPinned: lambda state, event, _at: state.breaker.pin(event.state, event.by),
    BreakerUnpinned: lambda state, _event, at: state.breaker.unpin(at),
    PermitsGranted: lambda state, event, _at: state._permits(event.incarnation, event.count),
    PermitsReturned: lambda state, event, _at: state._permits(event.incarnation, -event.count),
    RateGranted: lambda state, event, _at: state._rate(event),
}
TRAFFIC_EVENTS: dict[str, type[Event]] = {cls.__name__: cls for cls in _FOLDS}


class Limits(msgspec.Struct, frozen=True):
    """What the agent's card says. `timeout_ms`: of one attempt. `rate`: attempts per second."""

    breaker: Breaker
    timeout_ms: int
    concurrency: int | None = None
    rate: float | None = None


class Wants(msgspec.Struct):
    """What one coordinator wants of an agent's stream now.

    Attributes:
        sums: what all coordinators counted, and `counted_since`: the `closed_at` that they were counted from.
        ended: probes of this coordinator that are over: what they told, and why.
        probes: ids of probes that it has a use for.
        permits: slots it would like to hold in all, so that a lost reply allows a repetition; None: as many as now.
        heir: the incarnation that gets the slots which it gives up.
        is_leaving: it is granted nothing more.
        rate: attempts that it would like to have for `second`, in all.
        dead: incarnations that are known to have ended.
    """

    sums: Sums = Sums()
    counted_since: int = 0
    ended: dict[str, tuple[bool | None, str]] = {}
    probes: list[str] = []
    permits: int | None = None
    heir: int | None = None
    is_leaving: bool = False
    rate: int = 0
    second: int = 0
    dead: frozenset[int] = frozenset()


def decide(state: TrafficState, limits: Limits, incarnation: int, wants: Wants, now: int) -> list[Event]:
    """The events that give this coordinator what it wants, as far as the state allows. Empty: nothing can be had."""
    decision = Decision(state, limits, incarnation, now)
    decision.breaker(wants)
    if limits.concurrency is not None or state.permits:
        decision.permits(wants)
    if limits.rate is not None and wants.rate > 0:
        decision.rate(wants.rate, wants.second, limits.rate)
    return decision.events


class Decision:
    """Events and the state that they lead to, made step by step."""

    def __init__(self, state: TrafficState, limits: Limits, incarnation: int, now: int) -> None:
        self.events: list[Event] = []
        self._state = state.copy()
        self._limits = limits
        self._incarnation = incarnation
        self._now = now

    def emit(self, event: Event) -> None:
        self._state.evolve(event, self._now)
        self.events.append(event)

    # -- breaker ------------------------------------------------------------------------------------------------------

    def breaker(self, wants: Wants) -> None:
        state, policy = self._state.breaker, self._limits.breaker
        if state.may_open and wants.counted_since == state.closed_at:
            reason = reason_to_open(policy, wants.sums)
            if reason:
                self._open(reason, wants.sums)
            return
        self._end_probes(wants)
        count = min(len(wants.probes), state.probes_left(policy, self._now))
        if count > 0 and state.position == "open":
            self.emit(BreakerHalfOpened())
        for probe in wants.probes[:count]:
            deadline = self._now + self._limits.timeout_ms + 1_000
            self.emit(ProbeGranted(probe, self._incarnation, deadline))

    def _end_probes(self, wants: Wants) -> None:
        """Those that are over, those that nobody will end any more, and those that took too long."""
        for probe, granted in list(self._state.breaker.probes.items()):
            if probe in wants.ended:
                ok, reason = wants.ended[probe]
            elif granted.incarnation in wants.dead:
                ok, reason = None, "its coordinator ended"
            elif granted.deadline < self._now:
                ok, reason = False, "no outcome by its deadline"
            else:
                continue
            self.emit(ProbeEnded(probe, ok, reason))
            if ok is False:
                self._open(f"a probe failed: {reason}", Sums())
                return
            if self._state.breaker.succeeded >= self._limits.breaker.probes:
                self.emit(BreakerClosed())
                return

    def _open(self, reason: str, sums: Sums) -> None:
        until = open_until(self._limits.breaker, self._state.breaker, self._now)
        self.emit(BreakerOpened(reason, until, sums.calls, sums.failures, sums.slow))

    # -- concurrency --------------------------------------------------------------------------------------------------

    def permits(self, wants: Wants) -> None:
        """The sum of what is granted never exceeds the limit; what the dead held is free."""
        for holder in [holder for holder in self._state.permits if holder in wants.dead]:
            self.emit(PermitsReturned(holder, self._state.permits[holder]))
        if wants.permits is None:
            return
        given = self._state.permits.get(self._incarnation, 0) - wants.permits
        if given > 0:
            self.emit(PermitsReturned(self._incarnation, given))
            if wants.heir is not None and wants.heir not in wants.dead:
                self._grant(wants.heir, given)
        elif not wants.is_leaving:
            self._grant(self._incarnation, -given)

    def _grant(self, incarnation: int, want: int) -> None:
        count = min(want, permits_left(self._state, self._limits.concurrency))
        if count > 0:
            self.emit(PermitsGranted(incarnation, count))

    # -- rate ---------------------------------------------------------------------------------------------------------

    def rate(self, want: int, second: int, rate: float) -> None:
        mine = self._state.rate_granted.get(self._incarnation, 0) if self._state.rate_second == second else 0
        count = min(want - mine, rate_left(self._state, rate, second))
        if count > 0:
            self.emit(RateGranted(self._incarnation, count, second))


def permits_left(state: TrafficState, limit: int | None) -> int:
    """Slots that nobody holds; below 0 after the limit was lowered, until they come back."""
    return limit - sum(state.permits.values()) if limit is not None else 0


def rate_left(state: TrafficState, rate: float, second: int) -> int:
    """Attempts that may still be granted for this second.

    From 1/s on, seconds get whole numbers that add up to the rate (2.5: 2, 3, 2, 3). Below 1/s, one attempt is followed
    by as many seconds without as the rate asks for, so that the first never waits.
    """
    if second < state.rate_second:
        return 0  # a clock that is behind must not open a second that is over
    if rate < 1:
        return int(state.rate_second == 0 or second - state.rate_second >= math.ceil(1 / rate))
    nanos = round(rate * NANOS)  # whole numbers: a second since 1970 times a rate is more than a float can hold
    allowed = nanos * (second + 1) // NANOS - nanos * second // NANOS
    return allowed - (sum(state.rate_granted.values()) if second == state.rate_second else 0)


def pin(state: TrafficState, position: str, by: str) -> list[Event]:
    """An operator holds the breaker in one position. Nothing to do where it is pinned so.

    Raises:
        ValueError: no such position.
    """
    if position not in PINS:
        raise ValueError(f"a breaker can be pinned open or closed, not {position!r}")
    return [] if state.breaker.pinned == position else [BreakerPinned(position, by)]


def unpin(state: TrafficState, by: str) -> list[Event]:
    """It goes by what is counted again."""
    return [] if state.breaker.pinned is None else [BreakerUnpinned(by)]
