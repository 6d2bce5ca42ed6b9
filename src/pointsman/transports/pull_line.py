"""Calls in line for a worker, and what is known of each worker. Plain data: who gets what is decided in `pull.py`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping

from pointsman.agents.agent import Agent, AgentError
from pointsman.agents.context import Context
from pointsman.agents.transport import Pulled
from pointsman.ports.workers import AttemptResult, HeldCall

HANDED_BYTES_MAX = 1_000_000
"""Of the calls in one answer to a poll; the last may go beyond it, so that one of any size goes out. The larger an
answer is, the longer it is under way, and the more is lost with it; the worker's next poll comes at once."""
CALL_BYTES = 500
"""Of one call in an answer, beside its input; about."""


class Waiting:
    """One attempt, from when it is laid out until it is over.

    Attributes:
        holder: the worker that has it; None: it is in line.
        is_claimed: the holder had said that it has it before it was laid out here.
        is_confirmed: the holder has said since that it has it.
        misses: how often it was handed to a worker with room for it, and did not arrive.
        seconds: that the worker has for it.
        give_up_at: by the loop's clock; so long it may be in line.
    """

    __slots__ = (
        "agent", "alarm", "context", "data", "give_up_at", "holder", "is_claimed", "is_confirmed", "misses", "name",
        "order", "outcome", "runtime", "seconds",
    )  # fmt: skip

    def __init__(
        self, agent: Agent, context: Context, data: bytes, runtime: Pulled, outcome: asyncio.Future[AttemptResult]
    ) -> None:
        self.agent = agent
        self.context = context
        self.data = data
        self.runtime = runtime
        self.outcome = outcome
        self.name = HeldCall(context.idempotency_key, context.attempt)
        self.holder: Session | None = None
        self.is_claimed = False
        self.is_confirmed = False
        self.misses = 0
        self.seconds = 0.0
        self.give_up_at = 0.0
        self.order = 0
        self.alarm: asyncio.TimerHandle | None = None

    @property
    def size(self) -> int:
        """Bytes that it is of an answer, about."""
        return len(self.data) + CALL_BYTES

    def settle(self, result: AttemptResult) -> bool:
        """The first counts."""
        if self.outcome.done():
            return False
        self.outcome.set_result(result)
        return True

    def fail(self, error: AgentError) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(error)

    def stop_alarm(self) -> None:
        if self.alarm is not None:
            self.alarm.cancel()
            self.alarm = None


class Line:
    """Calls that wait, oldest first across agents."""

    def __init__(self) -> None:
        self._lines: dict[str, deque[Waiting]] = {}
        self._last = 0
        self._first = 0

    def put(self, waiting: Waiting, *, first: bool) -> None:
        """`first`: before all others, for it waited before."""
        line = self._lines.setdefault(waiting.agent.name, deque())
        if first:
            self._first -= 1
            waiting.order = self._first
            line.appendleft(waiting)
        else:
            self._last += 1
            waiting.order = self._last
            line.append(waiting)

    def take(self, agents: Iterable[str]) -> Waiting | None:
        """The one that came first of those that wait for one of these agents."""
        heads = [line[0] for agent in agents if (line := self._lines.get(agent))]
        if not heads:
            return None
        oldest = min(heads, key=lambda waiting: waiting.order)
        self.remove(oldest)
        return oldest

    def remove(self, waiting: Waiting) -> None:
        """Nothing to do for one that is not in line."""
        waiting.stop_alarm()
        agent = waiting.agent.name
        line = self._lines.get(agent)
        if line is None:
            return
        if line[0] is waiting:
            line.popleft()
        elif waiting in line:
            line.remove(waiting)
        if not line:
            del self._lines[agent]

    def waiting(self, agent: str) -> int:
        return len(self._lines.get(agent, ()))

    def lengths(self) -> Mapping[str, int]:
        return {agent: len(line) for agent, line in sorted(self._lines.items())}


class Session:
    """A worker that is known here.

    Attributes:
        number: of its last poll. agents, free: what it said in it; `free` less what it got since.
        held: what it has from here. claimed: what else it holds, of runs that may come to be owned here.
        outbox: handed to it, to be said in the answer to its poll. over: likewise, what nobody waits for any more.
        turn: its poll that waits; None: it has none here.
        clock: runs while it has none.
    """

    __slots__ = (
        "agents", "claimed", "clock", "free", "held", "id", "number", "outbox", "outbox_bytes", "over", "polled_at",
        "turn",
    )  # fmt: skip

    def __init__(self, worker: str) -> None:
        self.id = worker
        self.number = 0
        self.agents: frozenset[str] = frozenset()
        self.free = 0
        self.held: dict[HeldCall, Waiting] = {}
        self.claimed: set[HeldCall] = set()
        self.outbox: list[Waiting] = []
        self.outbox_bytes = 0
        self.over: list[HeldCall] = []
        self.polled_at = 0.0
        self.turn: asyncio.Future[None] | None = None
        self.clock: asyncio.TimerHandle | None = None

    def takes(self, agent: str) -> bool:
        """Does its poll that waits take another call of this agent?"""
        return (
            agent in self.agents and self.free > len(self.outbox) and self.outbox_bytes < HANDED_BYTES_MAX
        )  # fmt: skip

    def put(self, waiting: Waiting) -> None:
        """Into the outbox."""
        self.outbox.append(waiting)
        self.outbox_bytes += waiting.size

    def take(self) -> list[Waiting]:
        """All that is in the outbox."""
        out, self.outbox, self.outbox_bytes = self.outbox, [], 0
        return out

    def wake(self) -> None:
        """Answer the poll that waits."""
        if self.turn is not None and not self.turn.done():
            self.turn.set_result(None)

    def stop_clock(self) -> None:
        if self.clock is not None:
            self.clock.cancel()
            self.clock = None
