"""What is driven while coordinators are replaced: short steps, so that many are under way at any moment."""

from __future__ import annotations

import asyncio
import time

from pointsman import App, Run

app = App("rolling")


@app.agent
async def step(number: int) -> int:
    await asyncio.sleep(0.05)
    return number + 1


@app.agent(timeout=120)
async def slow(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


@app.agent(timeout=120)
def blocking(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@app.workflow(name="steps")
async def in_steps(run: Run, count: int) -> int:
    """As many steps as asked for, one after the other."""
    number = 0
    for _ in range(count):
        number = await run.call(step, number)
    return number


@app.workflow()
async def one(run: Run, seconds: float) -> float:
    return float(await run.call(slow, seconds))


@app.workflow()
async def thread(run: Run, seconds: float) -> float:
    return float(await run.call(blocking, seconds))


@app.workflow()
async def waits(run: Run) -> str:
    return str(await run.wait_for("go"))
