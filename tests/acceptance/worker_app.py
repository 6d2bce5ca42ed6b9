"""An app whose agent is done by workers, which note what they begin and go on when a gate opens."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

from pointsman import App, Context, Retry, Run

app = App("gpu")


@app.agent(transport="pull", timeout=60, retry=Retry(attempts=3, base=0.01))
async def render(directory: str, ctx: Context) -> dict[str, Any]:
    said = {
        "pid": os.getpid(), "attempt": ctx.attempt, "key": ctx.idempotency_key, "epoch": ctx.epoch,
    }  # fmt: skip
    with (Path(directory) / "begun").open("a") as journal:
        journal.write(json.dumps(said) + "\n")
    while not (Path(directory) / "gate").exists():
        await asyncio.sleep(0.01)
    return said


@app.workflow()
async def film(run: Run, directory: str) -> Any:
    """It ends when it is told to, so that what comes late still finds it."""
    made = await run.call(render, directory)
    await run.wait_for("end")
    return made
