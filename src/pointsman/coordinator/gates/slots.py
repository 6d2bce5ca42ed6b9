"""What one coordinator holds of an agent's cluster-wide limits: slots of its concurrency, attempts of its rate.

What is held is told by the agent's stream; what of it is in use only this coordinator knows. Its own numbers here are
never more than what the stream says, so the limits hold whatever gets lost between.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pointsman.agents.traffic import TrafficState, permits_left, rate_left

TENURE_MS = 500
"""So long, at least, a coordinator works with the slots that it was given before it passes them on. The next one learns
of them a poll later (125 ms on average), and with one attempt a turn that would be most of the time."""


class Rival(NamedTuple):
    """Another coordinator that waits for slots of the same agent: how many calls, and since when (ms)."""

    incarnation: int
    waiting: int
    since: int


class PermitSlots:
    """Slots of the concurrency limit.

    Attributes:
        held: by this coordinator, as the stream says. in_use: of them, by attempts.
        returning: on their way back; not to be used meanwhile.
        heir: who gets `owed` slots as they become free; they are not used again here.
    """

    def __init__(self, incarnation: int) -> None:
        self._incarnation = incarnation
        self.held = 0
        self.in_use = 0
        self.returning = 0
        self.heir = 0
        self.owed = 0
        self._overdrawn = 0
        self._got_at = 0
        self._surplus = 0
        self._idle_least = 0

    @property
    def idle(self) -> int:
        return self.held - self.in_use - self.returning

    @property
    def free(self) -> int:
        """May be used now."""
        return self.idle - self.owed - self._overdrawn

    def take(self) -> None:
        self.in_use += 1
        self._idle_least = min(self._idle_least, self.held - self.in_use)

    def leave(self) -> None:
        if self.in_use > 0:  # an attempt that began when the agent had no limit holds none
            self.in_use -= 1

    def look_back(self) -> None:
        """Called once per interval: what was never used in it is too many."""
        self._surplus = max(self._idle_least, 0)
        self._idle_least = self.held - self.in_use

    def share_with(self, rivals: Sequence[Rival], state: TrafficState, waiting: int, now: int) -> None:
        """Others wait: whom does this coordinator owe slots, and how many?

        Whoever has none comes first, and of those the one that waits longest; so one slot goes round among all. Shares
        that differ by one are even: else the odd slot would go to and fro for ever. What is idle here goes anyway.
        """
        self.heir = self.owed = 0
        if not rivals or self.held <= 0:
            return
        heir = min(rivals, key=lambda rival: (state.permits.get(rival.incarnation, 0), rival.since))
        theirs = state.permits.get(heir.incarnation, 0)
        fair = max((self.held - theirs) // 2, int(theirs == 0)) if now - self._got_at >= TENURE_MS else 0
        spare = self.idle if not waiting else 0
        self.heir, self.owed = heir.incarnation, min(max(fair, spare), heir.waiting, self.held)

    def wish(self, waiting: int, state: TrafficState, limit: int, rivals: Sequence[Rival]) -> tuple[int, int | None]:
        """(slots it would like to hold in all, to whom those go that it gives up)."""
        if self.owed and self.idle > 0:
            return self.held - min(self.owed, self.idle), self.heir
        left = permits_left(state, limit)
        too_many = min(max(self._surplus - waiting, -left, 0), self.idle)
        if too_many > 0:
            return self.held - too_many, None
        missing = waiting - self.free
        if missing <= 0 or self.owed:
            return self.held, None
        if rivals:
            return self.held + max(min(missing, left // (1 + len(rivals))), 1), None
        return self.held + missing + max((self.in_use + missing) // 4, 1), None

    def learn(self, state: TrafficState, limit: int | None, now: int) -> None:
        """What the stream says now."""
        before, self.held = self.held, state.permits.get(self._incarnation, 0)
        given = before - self.held
        if given < 0:
            self._got_at = now
        elif given > 0:  # by an append of this coordinator: nobody else takes slots from one that lives
            self.owed = max(self.owed - given, 0)
        self._overdrawn = max(-permits_left(state, limit), 0)
        self._surplus = min(self._surplus, max(self.idle, 0))


class RateSlots:
    """Attempts of the rate limit, second by second; what a second leaves over is gone."""

    def __init__(self, incarnation: int) -> None:
        self._incarnation = incarnation
        self._second = 0
        self._used = 0
        self._used_before = 0

    def left(self, state: TrafficState, second: int) -> int:
        granted = state.rate_granted.get(self._incarnation, 0) if state.rate_second == second else 0
        return granted - (self._used if second == self._second else 0) if second >= self._second else 0

    def take(self, second: int) -> None:
        if second != self._second:
            self._used_before = self._used if second == self._second + 1 else 0
            self._second, self._used = second, 0
        self._used += 1

    def untake(self, second: int) -> None:
        if second == self._second and self._used:
            self._used -= 1

    def wish(
        self, waiting: int, oldest: int, state: TrafficState, rate: float, rivals: Sequence[Rival], now: int
    ) -> int:
        """Attempts it would like to have for this second, in all. Where others wait too, the first half of a second is
        for fair shares, and where there are not enough for all, for those who wait longest."""
        second = now // 1000
        missing = waiting - self.left(state, second)
        available = rate_left(state, rate, second)
        if missing <= 0 or available <= 0:
            return 0
        mine = state.rate_granted.get(self._incarnation, 0) if state.rate_second == second else 0
        if not rivals:
            return mine + max(missing, min(self._used_before - mine, available))
        if now % 1000 >= 500:
            return mine + missing
        share = available // (1 + len(rivals))
        if share == 0 and sum(rival.since < oldest for rival in rivals) < available:
            share = 1
        return mine + min(missing, share - mine) if share > mine else 0
