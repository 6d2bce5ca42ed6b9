"""Dispatch: hand one attempt of a call to its agent, hold it to its timeout, and give back what came of it.

One task per attempt, and one sweeper over deadlines that are in order within each timeout: a deadline of its own
for every task (`asyncio.timeout`) costs 5.3 µs a call, this 1.4. An attempt that goes on after its timeout has no
effect on the run, and keeps its place in the agent's limits.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections import deque
from collections.abc import Mapping
from typing import Protocol

import msgspec
import pydantic

from pointsman.agents.agent import Agent, AgentError
from pointsman.agents.context import Context
from pointsman.agents.transport import Transport
from pointsman.coordinator.effects import Effects
from pointsman.coordinator.gates.service import Permit
from pointsman.kernel.errors import InvalidInput, PointsmanError
from pointsman.kernel.events import Emission, Failure
from pointsman.kernel.policy.amounts import NOTHING, Amount
from pointsman.kernel.policy.failures import FAILURE_KINDS
from pointsman.kernel.state import PendingCall
from pointsman.kernel.values import faithful
from pointsman.observe.stats import Stats
from pointsman.ports.clock import Clock

SWEEP_S = 0.02
RETRY_AFTER_S_MAX = 1e7
"""Four months: an agent that asks for more is given this."""
KIND_CHARS_MAX = 64
LOCAL, HTTP = "local", "http"
ONE_CALL = Amount(calls=1)

logger = logging.getLogger("pointsman.dispatcher")


class OnEnd(Protocol):
    """Called once for every attempt that was not abandoned. `spent` None: its end is unknown. `emitted`: by an attempt
    that gave a result."""

    def __call__(
        self, call: str, attempt: int, result: bytes | Failure, spent: Amount | None,
        emitted: tuple[Emission, ...] = (),
    ) -> None: ...  # fmt: skip


def nobody(
    call: str, attempt: int, result: bytes | Failure, spent: Amount | None, emitted: tuple[Emission, ...] = ()
) -> None:
    """Of an attempt that is over."""


class Attempt:
    """One attempt under way; the runtime behind its agent's Context."""

    __slots__ = (
        "agent", "asked", "beat_at", "call", "clock", "deadline", "effects", "emitted", "has_begun", "is_over", "key",
        "number", "on_end", "permit", "run", "so_far", "spent", "started", "task",
    )  # fmt: skip

    def __init__(
        self, agent: Agent, asked: Agent | None, pending: PendingCall, run: str, permit: Permit, on_end: OnEnd,
        clock: Clock, effects: Effects, deadline: float,
    ) -> None:  # fmt: skip
        self.agent = agent
        self.asked = asked
        self.call = pending.call
        self.key = pending.key
        self.number = pending.attempt
        self.run = run
        self.permit = permit
        self.on_end = on_end
        self.clock = clock
        self.effects = effects
        self.started = self.beat_at = clock.monotonic()
        self.deadline = deadline
        self.spent: Amount | None = None
        """What the agent added up, in process or with its answer."""
        self.so_far: Amount | None = None
        """The largest total that an agent behind HTTP reported meanwhile."""
        self.emitted: tuple[Emission, ...] = ()
        self.has_begun = False
        self.is_over = False
        self.task: asyncio.Task[None] | None = None

    def abandon(self) -> None:
        """Nobody waits for it any more."""
        self.is_over = True
        self.stop()

    def stop(self) -> None:
        """A thread can't be stopped: its task goes on until it returns, and keeps the agent's slot as long."""
        if self.task is not None and self.agent.is_async and self.has_begun:
            self.task.cancel()

    def heartbeat(self) -> None:
        self.beat_at = self.clock.monotonic()

    def spend(self, amount: Amount) -> None:
        self.heartbeat()
        self.spent = (self.spent or NOTHING) + amount

    def emit(self, emission: Emission) -> None:
        self.emitted += (emission,)

    def spent_so_far(self, total: Amount) -> None:
        """A total may come twice, and late, and again with the answer: the largest stands."""
        self.heartbeat()
        known = self.so_far or NOTHING
        self.so_far = Amount(max(known.usd_micros, total.usd_micros), max(known.tokens, total.tokens))

    async def find_effect(self, name: str) -> bytes | None:
        self.heartbeat()
        return await self.effects.find(self.run, self.key, name)

    async def record_effect(self, name: str, value: bytes) -> bytes:
        self.heartbeat()
        return (await self.effects.record(self.run, self.call, self.key, name, value))[0]

    def used_up(self, result: bytes | Failure) -> Amount | None:
        """What it used up: what the agent said, else what its card expects; None: its end is unknown."""
        kind = FAILURE_KINDS.get(result.kind) if isinstance(result, Failure) else None
        if kind is not None and kind.is_unknown:
            return None
        if self.so_far is not None:
            self.spent_so_far(self.spent or NOTHING)
            return self.so_far + ONE_CALL
        if self.spent is not None:
            return self.spent + ONE_CALL
        cost = self.agent.described.cost
        return cost.expected if cost is not None else ONE_CALL


class Dispatcher:
    """A service: `start`, `dispatch`, `stop`.

    Args:
        transports: how agents are reached, by LOCAL and HTTP.
    """

    def __init__(self, clock: Clock, stats: Stats, transports: Mapping[str, Transport], effects: Effects) -> None:
        self._clock = clock
        self._stats = stats
        self._transports = transports
        self._effects = effects
        self._deadlines: dict[float, deque[Attempt]] = {}
        self._beating: dict[Attempt, float] = {}
        """Attempts that must give signs of life, and how often (seconds)."""
        self._busy = asyncio.Event()
        self._sweeper: asyncio.Task[None] | None = None
        self._under_way: dict[Attempt, None] = {}

    def start(self) -> None:
        self._sweeper = asyncio.create_task(self._sweep(), name="deadlines")

    async def stop(self) -> None:
        """Abandon what is under way."""
        attempts = list(self._under_way)
        for attempt in attempts:
            attempt.abandon()
        if self._sweeper is not None:
            self._sweeper.cancel()
        tasks = [attempt.task for attempt in attempts if attempt.task is not None and attempt.agent.is_async]
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)

    @property
    def active(self) -> int:
        return len(self._under_way)

    def find(self, key: str, number: int) -> Attempt | None:
        """The attempt that is under way here. Asked for by agents that are reached over HTTP; rare."""
        return next((a for a in self._under_way if a.key == key and a.number == number and not a.is_over), None)

    def dispatch(
        self, agent: Agent, pending: PendingCall, *, run: str, tenant: str, epoch: int, on_end: OnEnd, permit: Permit,
        asked: Agent | None = None, seconds_left: float | None = None,
    ) -> Attempt:  # fmt: skip
        """Start an attempt. The input is the recorded one, byte for byte.

        Args:
            asked: the agent that the workflow called, where a fallback has the call: the result must fit its schema.
            seconds_left: of the run's wall time; an attempt has no longer than that.
        """
        timeout = agent.timeout if seconds_left is None else max(min(agent.timeout, seconds_left), 0.0)
        deadline = self._clock.monotonic() + timeout
        attempt = Attempt(agent, asked, pending, run, permit, on_end, self._clock, self._effects, deadline)
        context = Context(
            run=run, call=pending.call, attempt=pending.attempt, idempotency_key=pending.key, epoch=epoch,
            deadline=deadline, tenant=tenant, runtime=attempt,
        )  # fmt: skip
        self._stats.calls_dispatched += 1
        self._under_way[attempt] = None
        attempt.task = asyncio.create_task(
            self._attempt(attempt, context, pending.data), name=pending.key
        )  # a name for the watchdog of a hung loop
        deadlines = self._deadlines.get(timeout)
        if deadlines is None:
            deadlines = self._deadlines[timeout] = deque()
            self._busy.set()
        deadlines.append(attempt)
        if agent.described.heartbeat is not None:
            self._beating[attempt] = agent.described.heartbeat
        return attempt

    async def _attempt(self, attempt: Attempt, context: Context, data: bytes) -> None:
        result: bytes | Failure
        attempt.has_begun = True
        try:
            if (
                attempt.is_over
            ):  # abandoned before its first step: a task that is cancelled so early would clean up nothing
                raise asyncio.CancelledError
            result = await self._transports[LOCAL if attempt.agent.function else HTTP].call(
                attempt.agent, context, data
            )
            if attempt.asked is not None:
                attempt.asked.signature.check_output(result)
        except asyncio.CancelledError:
            result = Failure("cancelled", "the agent cancelled itself")
        except InvalidInput as error:
            result = Failure("invalid_output", f"not what the workflow's agent would give: {error}")
        except BaseException as error:  # noqa: BLE001  SystemExit too: an agent must not end its coordinator
            try:
                result = failure_of(error, attempt.agent)
            except Exception as odd:  # noqa: BLE001  its attributes may be anything
                result = Failure("exception", f"{type(error).__name__}, of which can't be told: {faithful(odd)}")
        self._under_way.pop(attempt, None)
        self._beating.pop(attempt, None)
        if not attempt.is_over:
            self._end(attempt, result)
        attempt.permit.release()

    def _end(self, attempt: Attempt, result: bytes | Failure) -> None:
        attempt.is_over = True
        seconds = self._clock.monotonic() - attempt.started
        kind = result.kind if isinstance(result, Failure) else None
        self._stats.call_latency.observe(seconds)
        self._stats.count_call(kind or "completed")
        attempt.permit.ended(kind, seconds)
        on_end, attempt.on_end = attempt.on_end, nobody  # it stays in its line of deadlines; its run need not
        on_end(attempt.call, attempt.number, result, attempt.used_up(result), () if kind else attempt.emitted)

    async def _sweep(self) -> None:
        """Rests while nothing is under way: an idle coordinator must not wake up fifty times a second."""
        while True:
            if not self._deadlines:
                self._busy.clear()
                await self._busy.wait()
            await asyncio.sleep(SWEEP_S)
            now = self._clock.monotonic()
            for timeout, attempts in list(self._deadlines.items()):
                while attempts and (attempts[0].is_over or attempts[0].deadline <= now):
                    attempt = attempts.popleft()
                    if not attempt.is_over:
                        self._time_out(attempt, "timeout", f"no result within {timeout:g} s")
                if not attempts:
                    del self._deadlines[timeout]
            for attempt, limit in list(self._beating.items()):
                if not attempt.is_over and attempt.beat_at + limit <= now:
                    self._time_out(attempt, "heartbeat_timeout", f"no heartbeat within {limit:g} s")

    def _time_out(self, attempt: Attempt, kind: str, message: str) -> None:
        """The run goes on without it. A thread can't be stopped, and a task may refuse: it is named, and its result is
        ignored when it comes."""
        self._stats.agents_overdue += 1
        logger.warning("agent %s, call %s: %s", attempt.agent.name, attempt.key, message)
        self._end(attempt, Failure(kind, message))
        attempt.stop()


def failure_of(error: BaseException, agent: Agent) -> Failure:
    """What the log keeps of an exception that an agent raised. An agent that reads a model's words as JSON, or as a
    schema, and lets the parser's error out, has said enough."""
    if isinstance(error, AgentError):
        after = error.retry_after
        after_ms = (
            round(min(max(after, 0.0), RETRY_AFTER_S_MAX) * 1000)
            if after is not None and not math.isnan(after)
            else None
        )
        kind = faithful(error.kind, KIND_CHARS_MAX) or error.code
        return Failure(kind, faithful(error), retryable=agent.is_retryable(error), retry_after_ms=after_ms)
    if isinstance(error, PointsmanError):
        return Failure(error.code, faithful(error), retryable=error.retryable)
    if isinstance(error, pydantic.ValidationError):
        return Failure("invalid_output", faithful(error))
    if isinstance(error, json.JSONDecodeError | msgspec.DecodeError):
        return Failure("malformed_output", f"{type(error).__name__}: {faithful(error)}")
    return Failure("exception", f"{type(error).__name__}: {faithful(error)}")
