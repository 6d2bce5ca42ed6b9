"""Dispatch: hand one attempt of a call to its agent, enforce its timeout, and report its outcome.

There is one task per attempt, and one sweeper over queues of attempts with the same timeout, whose deadlines are
therefore in order. A deadline of its own for every task (`asyncio.timeout`) costs 5.3 µs a call, this costs 0.2 µs. An
attempt that goes on after its timeout has no effect on the run, but keeps its slot in the agent's limits.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import takewhile

import msgspec
import pydantic

from pointsman.agents.agent import Agent, AgentError
from pointsman.agents.context import Context
from pointsman.agents.transport import Transport
from pointsman.coordinator.driving.attempt import Attempt, PulledAttempt
from pointsman.coordinator.driving.tracebacks import Tracebacks
from pointsman.kernel.errors import InvalidInput, PointsmanError
from pointsman.kernel.events import Failure
from pointsman.kernel.values import faithful, said_by
from pointsman.observe.stats import Stats
from pointsman.ports.clock import Clock

SWEEP_S = 0.02
RETRY_AFTER_S_MAX = 1e7
"""Four months: an agent that asks for more is given this."""
KIND_CHARS_MAX = 64

logger = logging.getLogger("pointsman.dispatcher")


class Dispatcher:
    """A service: `start`, `dispatch`, `stop`.

    Args:
        transports: how agents are reached, by `Agent.transport`.
    """

    def __init__(
        self, clock: Clock, stats: Stats, transports: Mapping[str, Transport], tracebacks: Tracebacks
    ) -> None:  # fmt: skip
        self._clock = clock
        self._tracebacks = tracebacks
        self._stats = stats
        self._transports = transports
        self._lines: defaultdict[float, dict[Attempt, None]] = defaultdict(dict)
        """Attempts under way, by timeout."""
        self._overdue: dict[Attempt, None] = {}
        """Those that go on after it."""
        self._beating: dict[Attempt, float] = {}
        """Attempts that must give signs of life, and how often (seconds)."""
        self._pulled: dict[Attempt, None] = {}
        """Their deadlines change, so they stand in no order."""
        self._busy = asyncio.Event()
        self._sweeper: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop
        self._context: contextvars.Context
        """What agents see of context variables: what this service was started with, whoever asked for their runs."""

    def start(self) -> None:
        self._context = contextvars.copy_context()
        self._loop = asyncio.get_running_loop()  # asked for at each attempt, it would cost 0.25 µs
        self._sweeper = self._loop.create_task(self._sweep(), name="deadlines")

    async def stop(self) -> None:
        """Abandon all attempts under way."""
        attempts = self._under_way()
        for attempt in attempts:
            attempt.let_go()
        if self._sweeper is not None:
            self._sweeper.cancel()
        tasks = [attempt.task for attempt in attempts if attempt.task is not None and attempt.agent.can_be_stopped]
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)

    @property
    def active(self) -> int:
        return len(self._under_way())

    def _under_way(self) -> list[Attempt]:
        lines = (*self._lines.values(), self._pulled, self._overdue)
        return [attempt for line in lines for attempt in line]

    def find(self, key: str, number: int) -> Attempt | None:
        """The attempt, if it is under way here. Used for agents behind HTTP that report on an attempt, which is
        rare.
        """
        return next((a for a in self._under_way() if a.key == key and a.number == number and not a.is_over), None)

    def dispatch(self, attempt: Attempt, data: bytes, seconds_left: float | None = None) -> None:
        """Make an attempt that has its permit.

        Args:
            data: the recorded input, byte for byte.
            seconds_left: of the run's wall time; limits the attempt.
        """
        agent, caller = attempt.agent, attempt.caller
        timeout = agent.timeout if seconds_left is None else max(min(agent.timeout, seconds_left), 0.0)
        attempt.started = now = self._clock.monotonic()
        attempt.deadline = deadline = now + timeout
        context = Context(
            caller.run, attempt.call, attempt.number, attempt.key, caller.epoch, deadline, caller.tenant, attempt
        )
        pulled = attempt if isinstance(attempt, PulledAttempt) else None
        line = self._lines[timeout] if pulled is None else self._pulled
        self._stats.calls_dispatched += 1
        # Made here, for the loop's own `create_task` takes 0.4 µs more. Its name is for the watchdog of a hung loop.
        attempt.task = asyncio.Task(
            self._attempt(attempt, context, data, line), loop=self._loop, name=attempt.key, context=self._context.copy()
        )
        if pulled is not None:
            pulled.begin_waiting(self._watch, seconds_left)
            return
        if not line:
            self._busy.set()
        line[attempt] = None
        if agent.described.heartbeat is not None:
            attempt.beat_at = now
            self._beating[attempt] = agent.described.heartbeat

    def _watch(self, attempt: PulledAttempt, heartbeat_s: float | None) -> None:
        """Enforce an attempt's deadline, which has changed, and its heartbeat, if it has one now."""
        if attempt.is_over:
            return
        self._pulled[attempt] = None
        self._busy.set()
        if heartbeat_s is None:
            self._beating.pop(attempt, None)
        else:
            self._beating[attempt] = heartbeat_s

    async def _attempt(self, attempt: Attempt, context: Context, data: bytes, line: dict[Attempt, None]) -> None:
        result: bytes | Failure
        agent, permit = attempt.agent, attempt.permit
        assert permit is not None
        attempt.has_begun = True
        try:
            if attempt.is_over:  # abandoned before this first step; a task cancelled so early would never clean up
                raise asyncio.CancelledError
            result = await self._transports[agent.transport].call(agent, context, data)
            if attempt.asked is not None:
                attempt.asked.signature.check_output(result)
        except asyncio.CancelledError:
            result = Failure("cancelled", "the agent cancelled itself")
        except InvalidInput as error:
            result = Failure("invalid_output", f"not what the workflow's agent would give: {error}")
        except BaseException as error:  # noqa: BLE001  SystemExit too: an agent must not end its coordinator
            raised = _alone(error)
            try:
                result = failure_of(raised, agent)
            except Exception as odd:  # noqa: BLE001  its attributes may be anything
                result = Failure("exception", f"{type(raised).__name__}, of which can't be told: {faithful(odd)}")
            if not isinstance(raised, PointsmanError):  # such a one is meant, and says all that there is to say
                self._tracebacks.tell(raised, f"agent {agent.name}, call {attempt.key}")
        line.pop(attempt, None)
        if self._overdue:
            self._overdue.pop(attempt, None)
        if self._beating:
            self._beating.pop(attempt, None)
        if not attempt.is_over:
            self._end(attempt, result)
        permit.release()

    def _end(self, attempt: Attempt, result: bytes | Failure) -> None:
        assert attempt.permit is not None
        attempt.is_over = True
        seconds = self._clock.monotonic() - attempt.started
        kind = None if isinstance(result, bytes) else result.kind
        self._stats.count_call(kind, seconds)
        attempt.permit.ended(kind, seconds)
        attempt.caller.on_end(attempt.call, attempt.number, result, attempt.used_up(result), attempt.emitted)

    async def _sweep(self) -> None:
        """Enforce deadlines. Sleeps while nothing is under way: an idle coordinator must not wake up fifty times
        a second.
        """
        while True:
            if not (self._lines or self._pulled):
                self._busy.clear()
                await self._busy.wait()
            await asyncio.sleep(SWEEP_S)
            now = self._clock.monotonic()
            for timeout, line in list(self._lines.items()):
                for attempt in _late(line, now):
                    del line[attempt]
                    self._overdue[attempt] = None
                    if not attempt.is_over:
                        self._time_out(attempt, "timeout", f"no result within {timeout:g} s")
                if not line:
                    del self._lines[timeout]
            for pulled in [attempt for attempt in self._pulled if attempt.deadline <= now and not attempt.is_over]:
                self._time_out(pulled, "timeout", f"no result within {pulled.deadline - pulled.started:g} s")
            for attempt, limit in list(self._beating.items()):
                if not attempt.is_over and attempt.beat_at + limit <= now:
                    self._time_out(attempt, "heartbeat_timeout", f"no heartbeat within {limit:g} s")

    def _time_out(self, attempt: Attempt, kind: str, message: str) -> None:
        """Time an attempt out; the run goes on without it. A thread can't be stopped, and a task may refuse to stop: it
        is named in the log, and its result is ignored.
        """
        self._stats.agents_overdue += 1
        logger.warning("agent %s, call %s: %s", attempt.agent.name, attempt.key, message)
        self._end(attempt, Failure(kind, message))
        attempt.stop()


def _late(line: Iterable[Attempt], now: float) -> list[Attempt]:
    """The attempts past their deadline, of a dict in the order of deadlines. They are collected in one pass: finding
    the first one again after each removal would take 0.3 s for 20,000 that time out together.
    """
    return list(takewhile(lambda attempt: attempt.deadline <= now, line))


def _alone(error: BaseException) -> BaseException:
    """Unwrap an exception group of one, as asyncio.TaskGroup makes them."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def failure_of(error: BaseException, agent: Agent) -> Failure:
    """The failure to record for an exception that an agent raised. An agent may simply let a parser's error propagate
    when it reads a model's output as JSON, or by a schema: that is specific enough.
    """
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
    return Failure("exception", said_by(error))
