"""What coordinators drive while they are killed, stopped and cut off. Every call is noted in a journal of its own.

A `bad` call harms its process until the file that HARMLESS names exists: then it is mended. An `endless` run is under
way until the file that ENOUGH names exists, however slow the machine is, and a `patient` one in its only step.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

from pointsman import App, Context, Run
from pointsman.demo.journal import recorded

HARMLESS = "POINTSMAN_TEST_HARMLESS"
ENOUGH = "POINTSMAN_TEST_ENOUGH"
EATEN_BYTES = 20_000_000
STEP_S = 0.1

app = App("takeover")
hoard: list[bytearray] = []


@app.agent(timeout=120)
async def step(seconds: float, ctx: Context) -> float:
    async with recorded("step", ctx):
        await asyncio.sleep(seconds)
    return seconds


@app.agent(timeout=120)
async def stride(seconds: float, ctx: Context) -> bool:
    """A step. Is it the last one?"""
    async with recorded("stride", ctx):
        await asyncio.sleep(seconds)
    return Path(os.environ[ENOUGH]).exists()


@app.agent(timeout=120)
async def wait(ctx: Context) -> None:
    async with recorded("wait", ctx):
        while not Path(os.environ[ENOUGH]).exists():
            await asyncio.sleep(STEP_S)


@app.agent(timeout=120)
async def bad(how: str, ctx: Context) -> str:
    async with recorded("bad", ctx):
        if Path(os.environ[HARMLESS]).exists():
            return "mended"
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "hang":
            time.sleep(600)  # noqa: ASYNC251
        while True:
            hoard.append(bytearray(os.urandom(1)) * EATEN_BYTES)
            await asyncio.sleep(0.05)


@app.workflow(name="steps")
async def in_steps(run: Run, count: int) -> int:
    for _ in range(count):
        await run.call(step, STEP_S)
    return count


@app.workflow()
async def endless(run: Run) -> int:
    """How many steps it has made."""
    count = 1
    while not await run.call(stride, STEP_S):
        count += 1
    return count


@app.workflow()
async def patient(run: Run) -> None:
    await run.call(wait)


@app.workflow()
async def one(run: Run, seconds: float) -> float:
    return float(await run.call(step, seconds))


@app.workflow()
async def poison(run: Run, how: str) -> str:
    return str(await run.call(bad, how))
