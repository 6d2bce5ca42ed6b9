"""What the coordinators load, by `benchmarks.failover.app:app`: a run of equal steps, one after the other.

The agent notes the start and the end of every call in the demo's journal, a file that no coordinator reads.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from pointsman import App, Context, Run
from pointsman.demo.journal import recorded

WORKFLOW: Final = "steps"
AGENT: Final = "step"

app = App("failover")


@dataclass
class Work:
    """`steps` calls of `step_s` seconds each."""

    steps: int
    step_s: float


@app.agent(name=AGENT)
async def step(seconds: float, ctx: Context) -> float:
    """Take so many seconds."""
    async with recorded(AGENT, ctx):
        await asyncio.sleep(seconds)
    return seconds


@app.workflow(name=WORKFLOW)
async def steps(run: Run, work: Work) -> int:
    for _ in range(work.steps):
        await run.call(step, work.step_s)
    return work.steps
