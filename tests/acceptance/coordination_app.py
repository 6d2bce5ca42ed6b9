"""Sagas that fail and are undone, and event-driven runs, slow enough to be killed in the middle."""

from __future__ import annotations

import asyncio

from pointsman import AgentRefused, App, Context, Run, Saga
from pointsman.demo.journal import recorded

STEP_S = 0.15

app = App("coordination")


@app.agent(timeout=60)
async def book(what: int, ctx: Context) -> int:
    async with recorded("book", ctx):
        await asyncio.sleep(STEP_S)
    if what < 0:
        raise AgentRefused("sold out")
    return what


@app.agent(timeout=60)
async def cancel(what: int, ctx: Context) -> int:
    async with recorded("cancel", ctx):
        await asyncio.sleep(STEP_S)
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
        await asyncio.sleep(STEP_S)
    ctx.emit("day.over" if day < last else "week.over", {"day": day + 1, "last": last})


@app.on("day.over")
@app.agent(timeout=60)
async def complain(day: int, ctx: Context) -> None:
    async with recorded("complain", ctx):
        await asyncio.sleep(STEP_S)
    raise AgentRefused(f"day {day} was no good")


@app.on("agent.refused")
@app.agent(timeout=60)
async def comfort(ctx: Context) -> None:
    async with recorded("comfort", ctx):
        await asyncio.sleep(STEP_S)


app.events("day.begun", ends=["week.over"])
