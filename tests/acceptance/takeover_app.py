"""What coordinators drive while they are killed, stopped and cut off. Every call is noted in a journal of its own.

A `bad` call harms its process until the file that HARMLESS names exists: then it is mended.
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
async def one(run: Run, seconds: float) -> float:
    return float(await run.call(step, seconds))


@app.workflow()
async def poison(run: Run, how: str) -> str:
    return str(await run.call(bad, how))
