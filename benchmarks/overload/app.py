"""What the coordinators load, by `benchmarks.overload.app:app`: one workflow of one call, of an agent that takes only
so many at a time, as a model behind a quota does; and one of many calls, of an agent that takes all.
"""

from __future__ import annotations

import asyncio
from typing import Final

from pointsman import App, Run

SLOTS: Final = 8
CALL_S: Final = 0.1
STEPS: Final = 60
WORKFLOWS: Final = {"agents": "asks", "machine": "steps"}
"""By what bounds the capacity."""

app = App("overload")


@app.agent(concurrency=SLOTS, hold=600)
async def model(question: str) -> str:
    await asyncio.sleep(CALL_S)
    return question


@app.agent
async def echo(question: str) -> str:
    return question


@app.workflow(name="asks")
async def asks(run: Run, question: str) -> str:
    return str(await run.call(model, question))


@app.workflow(name="steps")
async def steps(run: Run, question: str) -> str:
    for _ in range(STEPS):
        question = str(await run.call(echo, question))
    return question
