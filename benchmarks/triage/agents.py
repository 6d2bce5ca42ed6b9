"""The simulated agents: what a model would answer, after the time that the plan gives it, or the failure that it plans.

The same functions for every system. `world()` is what they stand in: each process builds its own from the file that
`POINTSMAN_TRIAGE` names.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import msgspec

from benchmarks.triage import classifier, data
from benchmarks.triage.plan import DOWN, TRIAGE, Plan
from pointsman import AgentError, AgentRefused, ContextOverflow, RateLimited

SETUP: Final = "POINTSMAN_TRIAGE"
STARTED: Final = "started"
BACKUP: Final = "triage_backup"
GENERALIST: Final = "generalist"
STATIC: Final = "static"
"""Who a fixed answer says that it is from."""
TRIAGE_AGENTS: Final = (TRIAGE, BACKUP)
OUTPUT_BYTES_MAX: Final = 8_192
REPLY: Final = "Thank you for your question. Here is what you can do about it, step by step, and whom to turn to next."
HANG_TIMES: Final = 2
"""An agent that hangs would answer after so many times its timeout."""


class Setup(msgspec.Struct, frozen=True):
    """What a system is told: written as JSON to a file. `count` of the tickets are sent, `per_second` at a time."""

    data: str
    plan: Plan
    count: int
    per_second: float


class SetupMissing(Exception):
    """The environment does not say where the benchmark's setup is: start it with `python -m benchmarks triage`."""


class World:
    """The tickets, the plan, and the classifier. `started`: when the load began (wall clock, seconds), if it has."""

    def __init__(self, path: Path) -> None:
        self.setup = msgspec.json.decode(path.read_bytes(), type=Setup)
        self.plan = self.setup.plan
        rows = data.load(Path(self.setup.data))
        self.tickets = data.in_order(rows, self.plan.seed, self.setup.count)
        self.classifier = classifier.fit(rows)
        self._started_file = path.with_name(STARTED)
        self._started: float | None = None

    @property
    def started(self) -> float | None:
        if self._started is None and self._started_file.exists():
            self._started = float(self._started_file.read_text())
        return self._started

    def is_down(self, agent: str) -> bool:
        started = self.started if agent == self.plan.down_agent else None
        return started is not None and self.plan.is_down(agent, time.time() - started)


def prepare(directory: Path, setup: Setup) -> Path:
    """Write a system's setup down. Returns the path for `POINTSMAN_TRIAGE`."""
    path = directory / "setup.json"
    path.write_bytes(msgspec.json.encode(setup))
    return path


def start_clock(path: Path) -> float:
    """The load begins now: the outage is counted from here. Returns the wall clock."""
    now = time.time()
    new = path.with_name(f"{STARTED}.new")
    new.write_text(repr(now))
    new.rename(path.with_name(STARTED))
    return now


@lru_cache(maxsize=1)
def world() -> World:
    """This process's. Raises: SetupMissing, and what `data.load` raises."""
    path = os.environ.get(SETUP)
    if path is None:
        raise SetupMissing(SetupMissing.__doc__)
    return World(Path(path))


async def answer(agent: str, row: int, text: str, attempt: int) -> Any:
    """What the agent gives for a ticket: a specialist's name (triage), or a reply as an object.

    Raises:
        AgentError: as the plan says. RuntimeError: it crashed.
    """
    here = world()
    if here.is_down(agent):
        raise AgentError(f"{agent} is down", kind=DOWN, retryable=True)
    fate = here.plan.fate(row, agent, attempt)
    await asyncio.sleep(fate.seconds * HANG_TIMES if fate.kind == "timeout" else fate.seconds)
    said: Any = (
        here.classifier.specialist(text) if agent in TRIAGE_AGENTS else {"row": row, "agent": agent, "text": REPLY}
    )
    match fate.kind:
        case "exception":
            raise RuntimeError("the model's library crashed")
        case "refused":
            raise AgentRefused("I can't help with that")
        case "context_overflow":
            raise ContextOverflow
        case "rate_limited":
            raise RateLimited(retry_after=here.plan.retry_after_s)
        case "malformed_output":
            return _parse(json.dumps(said)[:-2])
        case "invalid_output":
            return {"answer": 42}
        case "output_too_large":
            return "x" * OUTPUT_BYTES_MAX if agent in TRIAGE_AGENTS else {**said, "text": "x" * OUTPUT_BYTES_MAX}
        case _:
            return said


def _parse(text: str) -> Any:
    """What a model said, as JSON. Raises: AgentError."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise AgentError(f"the model's answer is not JSON: {error}", kind="malformed_output") from error
