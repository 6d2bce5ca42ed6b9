"""The circuit breaker of an agent: when it opens, when it lets probes through, when it closes."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from pointsman.kernel.policy.failures import counts_against


class Breaker(msgspec.Struct, frozen=True, omit_defaults=True):
    """When to hold back the calls of an agent because of its failures, as counted by all coordinators together.

    Attributes:
        window: seconds to look back.
        calls_min: the breaker never opens with fewer calls than this in the window.
        failure_rate: share of failures that opens it. Only failures that count against the agent's health are counted.
        slow_after: seconds after which a call is slow; None: four fifths of the agent's timeout.
        slow_rate: share of slow calls that opens it.
        open_for: seconds before the first probe.
        probes: calls let through while half-open, at once and in all; the breaker closes when so many have succeeded.
    """

    window: float = 10.0
    calls_min: int = 20
    failure_rate: float = 0.5
    slow_after: float | None = None
    slow_rate: float = 0.8
    open_for: float = 5.0
    probes: int = 3

    def __post_init__(self) -> None:
        if not (
            1 <= self.window <= 3600
            and self.calls_min >= 1
            and 0 < self.failure_rate <= 1
            and (self.slow_after is None or self.slow_after > 0)
            and 0 < self.slow_rate <= 1
            and 0 < self.open_for <= 3600
            and 1 <= self.probes <= 100
        ):
            raise ValueError(
                f"{self}: window 1 to 3600 s, calls_min >= 1, rates in (0, 1], slow_after and open_for > 0, "
                "probes 1 to 100"
            )


OPEN_FOR_MAX_S = 60.0
"""Openings in a row double the wait for the next probe, up to this (or `open_for`, where that is longer)."""
PINS = ("open", "closed")
"""Where an operator may hold a breaker."""


class Sums(NamedTuple):
    """Attempts that ended within the window: all, those that speak against the agent, those that were slow."""

    calls: int = 0
    failures: int = 0
    slow: int = 0

    def plus(self, other: Sums) -> Sums:
        return Sums(self.calls + other.calls, self.failures + other.failures, self.slow + other.slow)


class Probe(msgspec.Struct, frozen=True):
    """A permit for one attempt through a half-open breaker. Without an outcome by `deadline` (ms) it has failed."""

    incarnation: int
    deadline: int


class BreakerState(msgspec.Struct, omit_defaults=True):
    """What the events of a breaker add up to. Times in ms by the database's clock.

    Attributes:
        position: closed, open or half_open; what is pinned overrules it.
        closed_at: since when the windows count; attempts that began before say nothing of today's agent.
        until: when the first probe may go.
        openings: in a row, since it last closed.
        reason: why it opened last.
        probes: under way, by id. succeeded: probes that went well since it is half-open.
        pinned: open or closed, by an operator (`pinned_by`); None: nobody did.
    """

    position: str = "closed"
    closed_at: int = 0
    until: int = 0
    openings: int = 0
    reason: str = ""
    probes: dict[str, Probe] = {}
    succeeded: int = 0
    pinned: str | None = None
    pinned_by: str = ""

    @property
    def is_closed(self) -> bool:
        """Whether calls pass freely."""
        return self.pinned == "closed" or (self.pinned is None and self.position == "closed")

    @property
    def may_open(self) -> bool:
        return self.pinned is None and self.position == "closed"

    def probes_left(self, policy: Breaker, now: int) -> int:
        """How many probes may still be granted; 0 while it is closed, or open and not yet due."""
        if self.pinned is not None or self.position == "closed" or (self.position == "open" and now < self.until):
            return 0
        return max(policy.probes - len(self.probes) - self.succeeded, 0)

    def holds_back(self, policy: Breaker, now: int) -> bool:
        """Whether a new call is certainly held back. A call that may become a probe is not."""
        return not self.is_closed and self.probes_left(policy, now) == 0

    # -- transitions; each says what an event did --------------------------------------------------------------------

    def open(self, reason: str, until: int) -> None:
        self.position, self.reason, self.until = "open", reason, until
        self.openings += 1
        self._end_probes()

    def half_open(self) -> None:
        self.position = "half_open"
        self._end_probes()

    def close(self, at: int) -> None:
        self.position, self.reason, self.openings, self.closed_at = "closed", "", 0, at
        self._end_probes()

    def grant(self, probe: str, incarnation: int, deadline: int) -> None:
        self.probes[probe] = Probe(incarnation, deadline)

    def probe_ended(self, probe: str, ok: bool | None) -> None:
        """`ok` None: it told nothing (no attempt, or its coordinator ended), and another may take its place."""
        if self.probes.pop(probe, None) is not None and ok:
            self.succeeded += 1

    def pin(self, position: str, by: str) -> None:
        self.pinned, self.pinned_by = position, by
        self._end_probes()

    def unpin(self, at: int) -> None:
        """What was pinned open is tried with probes first; what was pinned closed is closed, and counts afresh."""
        was, self.pinned, self.pinned_by = self.pinned, None, ""
        if was == "open":
            self.position, self.reason, self.until = "open", "was pinned open", at
            self._end_probes()
        elif was == "closed":
            self.close(at)

    def _end_probes(self) -> None:
        self.probes, self.succeeded = {}, 0


def slow_after(policy: Breaker, timeout: float) -> float:
    """Seconds after which an attempt is slow."""
    return 0.8 * timeout if policy.slow_after is None else policy.slow_after


def reason_to_open(policy: Breaker, sums: Sums) -> str:
    """Why a closed breaker should open on these sums; empty: it should not."""
    if sums.calls < policy.calls_min:
        return ""
    if sums.failures >= policy.failure_rate * sums.calls:
        return f"{sums.failures} of {sums.calls} calls failed"
    if sums.slow >= policy.slow_rate * sums.calls:
        return f"{sums.slow} of {sums.calls} calls were slow"
    return ""


def open_until(policy: Breaker, state: BreakerState, now: int) -> int:
    """Until when it stays open if it opens now (ms): twice as long after each probe that failed."""
    longest = max(OPEN_FOR_MAX_S, policy.open_for)
    return now + round(1000 * min(policy.open_for * 2.0 ** min(state.openings, 32), longest))


def speaks_for(kind: str | None, is_slow: bool) -> bool | None:
    """What the end of a probe says about the agent: it is well, it is not, or (None) nothing, because it was not
    reached.
    """
    if kind in NOT_REACHED:
        return None
    return not is_slow and (kind is None or not counts_against(kind))


NOT_REACHED = frozenset({"invalid_input", "attempt_lost", "no_worker", "budget_exceeded"})
"""Kinds of failure that say nothing about the agent: it never saw the attempt, or nobody knows."""
