"""What the coordinators of a drill load, by `pointsman.testing.chaos.app:app`: runs of steps whose result is known
beforehand, by agents that write down every call of them.

A drill steers the agents by files in a directory, so that it acts at once in all coordinators:

    hang   the first agent that sees it blocks its event loop for so many seconds
    fail   as long as it is there, `flaky` raises
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

from pointsman.agents.context import Context
from pointsman.app import App
from pointsman.kernel.policy.retry import Retry
from pointsman.kernel.run import Run
from pointsman.testing.chaos.records import Invocation, now_ms, open_records, write

JOURNAL: Final = "POINTSMAN_CHAOS_JOURNAL"
"""Names the file to which every call of an agent appends its start and its end."""
SWITCHES: Final = "POINTSMAN_CHAOS_SWITCHES"
"""Names the directory of the files above."""
WORKFLOW: Final = "drill"
SIGNAL: Final = "add"
LIAR: Final = "liar"

app = App("chaos", generalist="step")


@dataclass
class Work:
    """A run: `steps` calls of `agent`, each of `step_s` seconds, then the wait for a signal."""

    steps: int = 8
    step_s: float = 0.1
    agent: str = "step"


@dataclass
class Step:
    number: int
    seconds: float


def expected(work: Work, signalled: int) -> int:
    """What a run of `work` must give when the signal says `signalled`."""
    return work.steps * (work.steps + 1) // 2 + signalled


@app.workflow(name=WORKFLOW)
async def drill(run: Run, work: Work) -> int:
    total = 0
    for number in range(1, work.steps + 1):
        total += await run.call(work.agent, Step(number, work.step_s))
    signalled: int = await run.wait_for(SIGNAL, expect=int)
    return total + signalled


@app.agent
async def step(given: Step, ctx: Context) -> int:
    """Take so many seconds, and give the number back."""
    async with _written_down("step", ctx):
        _hang_if_told()
        await asyncio.sleep(given.seconds)
    return given.number


@app.agent(retry=Retry(attempts=4, base=0.2), fallback=["step"], timeout=5.0)
async def flaky(given: Step, ctx: Context) -> int:
    """The same, but while it is told to fail."""
    async with _written_down("flaky", ctx):
        if _switch("fail") is not None:
            raise RuntimeError("told to fail")
        await asyncio.sleep(given.seconds)
    return given.number


def _switch(name: str) -> Path | None:
    """The file, while it is there."""
    directory = os.environ.get(SWITCHES)
    path = Path(directory, name) if directory else None
    return path if path is not None and path.exists() else None


def _hang_if_told() -> None:
    """Whoever takes the file away hangs: one process, once."""
    path = _switch("hang")
    if path is not None:
        with contextlib.suppress(FileNotFoundError):
            seconds = float(path.read_text())
            path.unlink()
            time.sleep(seconds)


@lru_cache(maxsize=1)
def _journal(path: str) -> int:
    return open_records(path)


@contextlib.asynccontextmanager
async def _written_down(agent: str, at: Context) -> AsyncIterator[None]:
    """Its start, and its end when it comes to one: a kill leaves the start alone."""
    _note("start", agent, at)
    try:
        yield
    except BaseException:
        _note("end", agent, at, ok=False)
        raise
    _note("end", agent, at)


def _note(event: Literal["start", "end"], agent: str, at: Context, *, ok: bool = True) -> None:
    path = os.environ.get(JOURNAL)
    if path:
        line = Invocation(event, agent, at.run, at.attempt, at.idempotency_key, at.epoch, os.getpid(), now_ms(), ok)
        write(_journal(path), line)
