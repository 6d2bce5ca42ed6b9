"""A workflow that asks a person."""

from __future__ import annotations

from pointsman import App, Run

app = App("people")


@app.workflow()
async def approve(run: Run, amount: int) -> str:
    answer = await run.ask(f"Pay {amount}?", proposed=amount, assignee="ann", expires_in=3_600)
    return f"{answer.outcome} by {answer.by}: {answer.value}"


@app.workflow()
async def hurry(run: Run) -> str:
    return (await run.ask("Quick?", expires_in=0.5)).outcome
