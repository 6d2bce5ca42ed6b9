"""One attempt as its coordinator knows it, from the request to its end. Must not know how agents are reached."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Protocol

import msgspec

from pointsman.agents.agent import ONE_CALL, Agent
from pointsman.coordinator.driving.effects import Effects
from pointsman.coordinator.gates.service import Permit
from pointsman.kernel.events import Emission, Failure
from pointsman.kernel.policy.amounts import NOTHING, Amount
from pointsman.kernel.policy.failures import FAILURE_KINDS
from pointsman.ports.clock import Clock

UNKNOWN_ENDS = frozenset(kind for kind, known in FAILURE_KINDS.items() if known.is_unknown)


class OnEnd(Protocol):
    """Called once for every attempt that was not abandoned. `spent` None: its end is unknown. `emitted` counts only
    with a result.
    """

    def __call__(
        self, call: str, attempt: int, result: bytes | Failure, spent: Amount | None,
        emitted: tuple[Emission, ...] = (),
    ) -> None: ...  # fmt: skip


def ignore_end(
    call: str, attempt: int, result: bytes | Failure, spent: Amount | None, emitted: tuple[Emission, ...] = ()
) -> None:
    """An `OnEnd` that does nothing: the run is over."""


def ignore() -> None:
    """A callback that does nothing: the run is over."""


def _ignore_call(call: str) -> None:
    """A callback that does nothing: the run is over, or has not begun."""


class Caller(msgspec.Struct, eq=False):
    """The run that attempts are made for, and what they have in common.

    Attributes:
        on_end: called when an attempt is over.
        again: called with the call of an attempt that no longer waits for its agent.
    """

    run: str
    tenant: str
    workflow: str
    epoch: int
    clock: Clock
    effects: Effects
    on_end: OnEnd
    again: Callable[[str], None] = _ignore_call

    def leave(self) -> None:
        """Detach from the run, which is over here. Attempts that outlive it must not keep it in memory."""
        self.on_end, self.again = ignore_end, _ignore_call


class Attempt(msgspec.Struct, eq=False):
    """One attempt: requested, admitted, under way, over.

    It is the gates' waiter, and the runtime behind its agent's Context. It is a struct because every call makes one,
    and a struct's defaults cost nothing.

    Attributes:
        permit: None: it waits for its agent.
        failure: why it waits; it is given up with this failure at `give_up_at` (ms).
        obstacle: why it should stop waiting if another agent can take the call.
        asked: the agent that the workflow called, if a fallback has the call.
        started, beat_at, deadline: by the monotonic clock.
        spent: the total that the agent reported, in process or with its answer.
        so_far: the largest total that an agent behind HTTP reported meanwhile.
    """

    caller: Caller
    agent: Agent
    call: str
    key: str
    number: int
    priority: int = 0
    is_continuing: bool = False
    permit: Permit | None = None
    failure: Failure | None = None
    give_up_at: int = 0
    obstacle: Failure | None = None
    asked: Agent | None = None
    started: float = 0.0
    beat_at: float = 0.0
    deadline: float = 0.0
    spent: Amount | None = None
    so_far: Amount | None = None
    emitted: tuple[Emission, ...] = ()
    has_begun: bool = False
    is_over: bool = False
    task: asyncio.Task[None] | None = None

    # -- as it waits --------------------------------------------------------------------------------------------------

    @property
    def workflow(self) -> str:
        return self.caller.workflow

    def admitted(self, permit: Permit) -> None:
        self.permit = permit
        self.caller.again(self.call)

    def obstructed(self, failure: Failure) -> None:
        self.obstacle = failure
        self.caller.again(self.call)

    # -- under way ----------------------------------------------------------------------------------------------------

    def abandon(self) -> None:
        """Give the attempt up: nobody waits for it any more."""
        self.is_over = True
        self.stop()

    def let_go(self) -> None:
        """Detach the attempt: nobody here waits for it any more, but another owner of the run may."""
        self.abandon()

    def stop(self) -> None:
        """Stop the attempt. A thread can't be stopped: its task goes on until it returns, and keeps the agent's slot
        until then.
        """
        if self.task is not None and self.agent.can_be_stopped and self.has_begun:
            self.task.cancel()

    def heartbeat(self) -> None:
        self.beat_at = self.caller.clock.monotonic()

    def spend(self, amount: Amount) -> None:
        self.heartbeat()
        self.spent = (self.spent or NOTHING) + amount

    def emit(self, emission: Emission) -> None:
        self.emitted += (emission,)

    def spent_so_far(self, total: Amount) -> None:
        """Take in a reported total. It may come twice, late, and again with the answer, so the largest counts."""
        self.heartbeat()
        known = self.so_far or NOTHING
        self.so_far = Amount(max(known.usd_micros, total.usd_micros), max(known.tokens, total.tokens))

    async def find_effect(self, name: str) -> bytes | None:
        self.heartbeat()
        return await self.caller.effects.find(self.caller.run, self.key, name)

    async def record_effect(self, name: str, value: bytes) -> bytes:
        self.heartbeat()
        return (await self.caller.effects.record(self.caller.run, self.call, self.key, name, value))[0]

    def used_up(self, result: bytes | Failure) -> Amount | None:
        """What the attempt used up: what the agent reported, else what its card expects; None: its end is unknown."""
        if not isinstance(result, bytes) and result.kind in UNKNOWN_ENDS:
            return None
        if self.so_far is None and self.spent is None:
            return self.agent.expected
        if self.so_far is not None:
            self.spent_so_far(self.spent or NOTHING)
            return self.so_far + ONE_CALL
        return (self.spent or NOTHING) + ONE_CALL


def _ignore_deadline(attempt: PulledAttempt, heartbeat_s: float | None) -> None:
    """A callback that does nothing: the attempt does not wait yet."""


class PulledAttempt(Attempt, eq=False):
    """One that waits for a worker; implements `agents.transport.Pulled`. Its time begins when a worker has it: what
    waits is not the agent's failure.

    Attributes:
        goes_on_elsewhere: the worker that is at it, if any, is to go on: the run's next owner takes its result.
    """

    goes_on_elsewhere: bool = False
    _watch: Callable[[PulledAttempt, float | None], None] = _ignore_deadline
    _timeout: float = 0.0
    _latest: float = math.inf

    def begin_waiting(self, watch: Callable[[PulledAttempt, float | None], None], seconds_left: float | None) -> None:
        """To be called once, first. While it waits, its deadline is the run's own.

        Args:
            watch: told of each new deadline, with the seconds between two signs of life.
        """
        self._watch = watch
        self._timeout = self.agent.timeout
        self._latest = math.inf if seconds_left is None else self.started + seconds_left
        self.given_back()

    def taken(self) -> float:
        """See `Pulled`."""
        self.started = self.beat_at = now = self.caller.clock.monotonic()
        self.deadline = min(now + self._timeout, self._latest)
        self._watch(self, self.agent.described.heartbeat)
        return max(self.deadline - now, 0.0)

    def given_back(self) -> None:
        """See `Pulled`."""
        self.deadline = self._latest
        self._watch(self, None)

    def let_go(self) -> None:
        """See `Attempt`."""
        self.goes_on_elsewhere = True
        self.abandon()
