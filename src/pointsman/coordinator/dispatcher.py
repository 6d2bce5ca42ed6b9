"""Dispatch: hand one attempt of a call to its agent, hold it to its timeout, and give back what came of it.

One task per attempt, and one sweeper over deadlines that are in order within each timeout: a deadline of its own
for every task (`asyncio.timeout`) costs 5.3 µs a call, this 1.4. An attempt that goes on after its timeout has no
effect on the run.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pointsman.agents.agent import Agent, AgentError, Context
from pointsman.kernel.errors import InvalidInput, InvalidValue, PointsmanError
from pointsman.kernel.events import Failure
from pointsman.kernel.state import PendingCall
from pointsman.kernel.values import faithful
from pointsman.observe.stats import Stats
from pointsman.ports.clock import Clock

SWEEP_S = 0.02
RETRY_AFTER_S_MAX = 1e7
"""Four months: an agent that asks for more is given this."""
KIND_CHARS_MAX = 64

logger = logging.getLogger("pointsman.dispatcher")

OnEnd = Callable[[str, int, bytes | Failure], None]
"""(call, attempt, its output or its failure); called once for every attempt that was not abandoned."""


class Attempt:
    """One attempt under way."""

    __slots__ = ("agent", "call", "context", "deadline", "is_over", "number", "on_end", "started", "task")

    def __init__(self, agent: Agent, call: str, number: int, context: Context, on_end: OnEnd, started: float) -> None:
        self.agent = agent
        self.call = call
        self.number = number
        self.context = context
        self.on_end = on_end
        self.started = started
        self.deadline = context.deadline
        self.is_over = False
        self.task: asyncio.Task[None] | None = None

    def abandon(self) -> None:
        """Nobody waits for it any more."""
        self.is_over = True
        if self.task is not None:
            self.task.cancel()


class Dispatcher:
    """A service: `start`, `dispatch`, `stop`."""

    def __init__(self, clock: Clock, stats: Stats, *, threads_max: int) -> None:
        self._clock = clock
        self._stats = stats
        self._threads_max = threads_max
        self._threads: ThreadPoolExecutor | None = None
        self._deadlines: dict[float, deque[Attempt]] = {}
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
        tasks = [attempt.task for attempt in attempts if attempt.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None

    @property
    def active(self) -> int:
        return len(self._under_way)

    def dispatch(
        self, agent: Agent, pending: PendingCall, *, run: str, tenant: str, epoch: int, on_end: OnEnd
    ) -> Attempt:
        """Start an attempt. The input is the recorded one, byte for byte."""
        started = self._clock.monotonic()
        context = Context(
            run=run, call=pending.call, attempt=pending.attempt, idempotency_key=pending.key, epoch=epoch,
            deadline=started + agent.timeout, tenant=tenant,
        )  # fmt: skip
        attempt = Attempt(agent, pending.call, pending.attempt, context, on_end, started)
        self._stats.calls_dispatched += 1
        self._under_way[attempt] = None
        attempt.task = asyncio.create_task(self._attempt(attempt, pending.data))
        deadlines = self._deadlines.get(agent.timeout)
        if deadlines is None:
            deadlines = self._deadlines[agent.timeout] = deque()
        deadlines.append(attempt)
        return attempt

    async def _attempt(self, attempt: Attempt, data: bytes) -> None:
        result: bytes | Failure
        try:
            result = await self._call(attempt, data)
        except asyncio.CancelledError:
            if attempt.is_over:
                return
            result = Failure("cancelled", "the agent cancelled itself")
        except BaseException as error:  # noqa: BLE001  SystemExit too: an agent must not end its coordinator
            result = failure_of(error)
        finally:
            self._under_way.pop(attempt, None)
        self._end(attempt, result)

    async def _call(self, attempt: Attempt, data: bytes) -> bytes | Failure:
        agent, signature = attempt.agent, attempt.agent.signature
        try:
            arguments = signature.decode_input(data)
        except InvalidInput as error:
            return Failure("invalid_input", str(error), retryable=False)
        if signature.given is not None:
            arguments[signature.given] = attempt.context
        if agent.is_async:
            value = await agent.function(**arguments)
        else:
            value = await self._in_thread(agent, arguments)
        try:
            output = signature.encode_output(value)
            signature.decode_output(output)
        except (InvalidInput, InvalidValue) as error:
            return Failure("invalid_output", str(error))
        return output

    async def _in_thread(self, agent: Agent, arguments: dict[str, Any]) -> Any:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._threads_max, thread_name_prefix="agent")
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: agent.function(**arguments))

    def _end(self, attempt: Attempt, result: bytes | Failure) -> None:
        if attempt.is_over:
            return
        attempt.is_over = True
        self._stats.call_latency.observe(self._clock.monotonic() - attempt.started)
        self._stats.count_call(result.kind if isinstance(result, Failure) else "completed")
        attempt.on_end(attempt.call, attempt.number, result)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            now = self._clock.monotonic()
            for timeout, attempts in list(self._deadlines.items()):
                while attempts and (attempts[0].is_over or attempts[0].deadline <= now):
                    attempt = attempts.popleft()
                    if not attempt.is_over:
                        self._time_out(attempt)
                if not attempts:
                    del self._deadlines[timeout]

    def _time_out(self, attempt: Attempt) -> None:
        """The run goes on without it. A thread can't be stopped, and a task may refuse: it is named, and its result is
        ignored when it comes."""
        self._stats.agents_overdue += 1
        agent = attempt.agent
        logger.warning(
            "agent %s, call %s: no result within %s s", agent.name, attempt.context.idempotency_key, agent.timeout
        )
        self._end(attempt, Failure("timeout", f"no result within {agent.timeout} s"))
        if attempt.task is not None:
            attempt.task.cancel()


def failure_of(error: BaseException) -> Failure:
    """What the log keeps of an exception that an agent raised."""
    if isinstance(error, AgentError):
        after = error.retry_after
        after_ms = (
            round(min(max(after, 0.0), RETRY_AFTER_S_MAX) * 1000)
            if after is not None and not math.isnan(after)
            else None
        )
        kind = faithful(error.kind, KIND_CHARS_MAX) or error.code
        return Failure(kind, faithful(error), retryable=error.is_retryable, retry_after_ms=after_ms)
    if isinstance(error, PointsmanError):
        return Failure(error.code, faithful(error), retryable=error.retryable)
    return Failure("exception", f"{type(error).__name__}: {faithful(error)}")
