"""The workloads' app: steps of 200 bytes, answered at once, so that all the time is the coordinator's."""

from __future__ import annotations

from pointsman import App, Run

app = App("benchmarks")
TEXT = "x" * 200
STEPS = 5


@app.agent
async def echo(text: str) -> str:
    return text


@app.workflow()
async def five_steps(run: Run, text: str) -> str:
    for _ in range(STEPS):
        text = await run.call(echo, text)
    return text


@app.workflow()
async def one_step(run: Run, text: str) -> str:
    result: str = await run.call(echo, text)
    return result
