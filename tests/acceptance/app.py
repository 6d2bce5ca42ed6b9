"""A small app for the acceptance tests: agents that take about 100 ms, a workflow of many steps."""

from __future__ import annotations

import asyncio

from pointsman import App, Run

app = App("acceptance")


@app.agent
async def step(number: int) -> int:
    await asyncio.sleep(0.1)
    return number + 1


@app.workflow()
async def chain(run: Run, steps: int) -> int:
    """As many steps as asked for, one after the other."""
    number = 0
    for _ in range(steps):
        number = await run.call(step, number)
    return number


@app.workflow()
async def waits(run: Run) -> str:
    return str(await run.wait_for("go"))
