"""What is shown of a run at every moment of it."""

from __future__ import annotations

import asyncio

from pointsman import App, Run
from pointsman.ports.runs import StartRun
from pointsman.stores.memory import MemoryStore

app = App("views")


@app.agent()
async def echo(text: str) -> str:
    return text


@app.workflow()
async def one_step(run: Run, text: str) -> str:
    return await run.call(echo, text)


async def test_a_run_that_is_shown_as_completed_has_its_output() -> None:
    """Also in the turn of the event loop in which its end has become durable, and its task has not ended yet."""
    async with app.running(MemoryStore()) as verbs:
        run = (await verbs.start(StartRun("one_step", b'"well"'))).view.head.id
        while (view := await verbs.get(run)).head.status != "completed":
            await asyncio.sleep(0)
        assert view.output is not None
