"""Agents whose calls workers fetch, and a workflow that calls them."""

from __future__ import annotations

import asyncio

from pointsman.agents.agent import AgentError
from pointsman.agents.context import Context
from pointsman.kernel.run import Run
from pointsman.testing.sim.journal import JOURNAL, effect
from pointsman.testing.sim.workload.agents import RETRY, app, steady


@app.agent(transport="pull", timeout=0.6, retry=RETRY, hold=1.0, fallback=[])
async def porter(text: str, context: Context) -> str:
    """Short work, under a key; sometimes too long, or it fails."""
    effect("carried", key=context.idempotency_key)
    number, rng = await JOURNAL.get().work(seconds=0.4), JOURNAL.get().rng
    context.spend(usd=0.001)
    if rng.random() < 0.15:
        raise AgentError("too heavy", kind="moody", retryable=True)
    return f"porter {number}"


@app.agent(transport="pull", timeout=1.0, retry=RETRY, hold=1.0, fallback=[], idempotent=False)
async def hauler(text: str) -> str:
    """Must not be repeated where its end is unknown: it has an effect, without a key."""
    effect("hauled")
    return f"hauler {await JOURNAL.get().work(seconds=0.8)}"


@app.agent(transport="pull", timeout=3.0, heartbeat=1.2, retry=RETRY, hold=2.0, fallback=["generalist"])
async def crane(text: str, context: Context) -> str:
    """Long work, with signs of life, or without; it outlasts a takeover, and has an effect once."""
    rng = JOURNAL.get().rng
    lifted: str = await context.once("lift", lambda: f"lift {rng.randrange(1000)}", expect=str)
    for _ in range(3):
        await asyncio.sleep(rng.choice((0.1, 0.3, 0.5)))
        if rng.random() < 0.8:
            context.heartbeat()
    context.emit("lifted", lifted)
    return f"crane {await JOURNAL.get().work(seconds=0.1)} {lifted}"


@app.agent(transport="pull", timeout=0.5, hold=0.4, capabilities=["nobody"], fallback=["generalist"])
async def ghost(text: str) -> str:
    """No worker does it."""
    raise AssertionError("no worker has this agent")


@app.workflow()
async def fetching(run: Run, size: int) -> list[str]:
    """Calls that wait for workers, beside each other; one that nobody fetches, and one that is given up."""
    handles = [run.start((porter, hauler, crane)[number % 3], f"fetch {number}") for number in range(1 + size)]
    race, timer = run.start(crane, "race"), run.start_sleep(0.2 + run.random())
    winner = await run.first(race, timer)
    (timer if winner is race else race).cancel()
    said = [str(result) for result in await run.gather(*handles, return_errors=True)]
    if size == 1:
        said.append(str(await run.call(ghost, "is anybody there?", default="nobody")))
    said.append(await run.call(steady, f"said {len(said)}"))
    return [*said, str(await run.call(porter, "last", default="left")), winner.kind]
