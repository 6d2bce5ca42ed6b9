"""Sagas that fail and are undone, and event-driven runs. None of them gets further than its middle before the file that
GO_ON names exists.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from pointsman import AgentRefused, App, Context, Run, Saga
from pointsman.demo.journal import recorded

GO_ON = "POINTSMAN_TEST_GO_ON"
STEP_S = 0.1

app = App("coordination")


async def work(*, is_late: bool = False) -> None:
    await asyncio.sleep(STEP_S)
    while is_late and not Path(os.environ[GO_ON]).exists():
        await asyncio.sleep(STEP_S)


@app.agent(timeout=60)
async def book(what: int, ctx: Context) -> int:
    async with recorded("book", ctx):
        await work()
    if what < 0:
        raise AgentRefused("sold out")
    return what


@app.agent(timeout=60)
async def cancel(what: int, ctx: Context) -> int:
    async with recorded("cancel", ctx):
        await work(is_late=what == 0)
    return what


@app.workflow()
async def travel(run: Run, parts: int) -> None:
    async with Saga(run) as saga:
        for part in range(parts):
            saga.undo(cancel, part)
            await run.call(book, part)
        await run.call(book, -1)


@app.on("day.begun", "day.over")
@app.agent(timeout=60)
async def live(day: int, last: int, ctx: Context) -> None:
    async with recorded("live", ctx):
        await work(is_late=day == last)
    ctx.emit("day.over" if day < last else "week.over", {"day": day + 1, "last": last})


@app.on("day.over")
@app.agent(timeout=60)
async def complain(day: int, ctx: Context) -> None:
    async with recorded("complain", ctx):
        await work()
    raise AgentRefused(f"day {day} was no good")


@app.on("agent.refused")
@app.agent(timeout=60)
async def comfort(ctx: Context) -> None:
    async with recorded("comfort", ctx):
        await work()


app.events("day.begun", ends=["week.over"])
