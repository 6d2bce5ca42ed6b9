"""An app for the acceptance tests of the mode: an agent that few may ask at the same time, and one that is optional."""

from __future__ import annotations

import asyncio

from pointsman import App, Run

app = App("modes", generalist="model")


@app.agent(concurrency=4, hold=600)
async def model(question: str) -> str:
    await asyncio.sleep(0.1)
    return question


@app.agent
async def remember(question: str) -> list[str]:
    return [question]


@app.workflow()
async def ask(run: Run, question: str) -> list[str]:
    mode = run.mode()
    notes: list[str] = await run.call(remember, question, optional="memory", default=[])
    return [mode, await run.call(model, question), *notes]
