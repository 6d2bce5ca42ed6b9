"""An orchestrator whose state is in memory: `python -m benchmarks.triage.plain MODE FIRST`, a process of its own.

    chain    one ticket after the other, no retries
    single   all tickets as they arrive, asyncio, the same retries as the cluster's agents

It begins with ticket number FIRST and says on standard output, a line each, what it begins and what it has ended: its
supervisor may know no more of it than a broker would.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from pydantic import TypeAdapter, ValidationError

from benchmarks.triage.agents import OUTPUT_BYTES_MAX, answer, world
from benchmarks.triage.data import SPECIALISTS, Ticket
from benchmarks.triage.plan import DOWN, TRIAGE
from pointsman import AgentError
from pointsman.kernel.policy.failures import FAILURE_KINDS
from pointsman.process import event_loop_factory, tune_process

JITTER: Final = 0.1


class Ready(msgspec.Struct, tag="ready", tag_field="said"):
    """It has loaded what it needs, and waits for a line on standard input."""


class Begun(msgspec.Struct, tag="begun", tag_field="said"):
    number: int


class Ended(msgspec.Struct, tag="ended", tag_field="said"):
    """See `figures.Outcome`."""

    number: int
    status: str
    saved_by: str
    latency_s: float
    agent_s: float
    waits_s: float
    named: str


Line = Ready | Begun | Ended


@dataclass
class Reply:
    row: int
    agent: str
    text: str


_reply = TypeAdapter(Reply)


class CallFailed(Exception):
    """A call has no attempts left."""


class Handling:
    """One ticket, from its arrival (seconds of the loop's clock) to its end."""

    def __init__(self, number: int, ticket: Ticket, arrived: float, attempts_max: int) -> None:
        self._number = number
        self._ticket = ticket
        self._arrived = arrived
        self._attempts_max = attempts_max
        self._agent_s = 0.0
        self._waits_s = 0.0
        self._is_retried = False

    async def handle(self) -> None:
        say(Begun(self._number))
        status, named = "failed", ""
        try:
            named = await self._call(TRIAGE)
            await self._call(named)
            status = "answered"
        except CallFailed:
            pass  # the whole point: nobody else is asked
        saved_by = "retry" if status == "answered" and self._is_retried else ""
        latency = asyncio.get_running_loop().time() - self._arrived
        say(Ended(self._number, status, saved_by, latency, self._agent_s, self._waits_s, named))

    async def _call(self, agent: str) -> Any:
        plan = world().plan
        for attempt in range(1, self._attempts_max + 1):
            try:
                value = await asyncio.wait_for(self._attempt(agent, attempt), plan.timeout_s)
            except TimeoutError:
                kind, after = "timeout", 0.0
            except AgentError as error:
                kind, after = error.kind, error.retry_after or 0.0
            except RuntimeError:
                kind, after = "exception", 0.0
            else:
                self._agent_s += plan.fate(self._ticket.row, agent, attempt).seconds
                return value
            if kind != DOWN:
                self._agent_s += plan.fate(self._ticket.row, agent, attempt).seconds
            if attempt == self._attempts_max or not FAILURE_KINDS[kind].retryable:
                break
            wait = plan.retry_base_s * 2 ** (attempt - 1) * (1 + JITTER * (2 * random.random() - 1))
            self._waits_s += max(wait, after)
            self._is_retried = True
            await asyncio.sleep(max(wait, after))
        raise CallFailed(agent)

    async def _attempt(self, agent: str, attempt: int) -> Any:
        """Raises: AgentError, RuntimeError: it failed, or what it gave is no use."""
        value = await answer(agent, self._ticket.row, self._ticket.text, attempt)
        if len(msgspec.json.encode(value)) > OUTPUT_BYTES_MAX:
            raise AgentError("too much", kind="output_too_large")
        if agent == TRIAGE:
            if value not in SPECIALISTS:
                raise AgentError(f"{value!r} is no specialist", kind="invalid_output")
            return value
        try:
            return _reply.validate_python(value)
        except ValidationError as error:
            raise AgentError(str(error), kind="invalid_output") from error


def say(line: Line) -> None:
    """One line is one write: what was said before a SIGKILL was said."""
    os.write(sys.stdout.fileno(), msgspec.json.encode(line) + b"\n")


async def chain(first: int) -> None:
    loop = asyncio.get_running_loop()
    for number, ticket in enumerate(world().tickets[first:], start=first):
        await Handling(number, ticket, loop.time(), 1).handle()


async def single(first: int) -> None:
    """Tickets arrive by the clock, counted from the start of the load, whoever was dead meanwhile."""
    here, loop = world(), asyncio.get_running_loop()
    assert here.started is not None
    began = loop.time() - (time.time() - here.started)
    async with asyncio.TaskGroup() as group:
        for number, ticket in enumerate(here.tickets[first:], start=first):
            arrives = began + number / here.setup.per_second
            if arrives > loop.time():
                await asyncio.sleep(arrives - loop.time())
            group.create_task(Handling(number, ticket, arrives, here.plan.retry_attempts).handle())


MODES: Final = {"chain": chain, "single": single}


def main(mode: str, first: int) -> None:
    world()
    tune_process()
    say(Ready())
    sys.stdin.readline()
    with asyncio.Runner(loop_factory=event_loop_factory()) as runner:
        runner.run(MODES[mode](first))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
