"""An app whose agent can be broken by its input; and one that chooses among agents that come and go."""

from __future__ import annotations

from pointsman import App, Breaker, Context, Cost, Retry, Run

app = App("failing", generalist="anyone")


@app.agent
async def anyone(what: str) -> str:
    return f"{what} by anyone"


@app.agent(retry=Retry(attempts=1), breaker=Breaker(calls_min=10, open_for=4.0), fallback=["anyone"])
async def fragile(what: str) -> str:
    if what == "stone":
        raise RuntimeError("glass breaks")
    return f"{what} by fragile"


@app.agent(retry=Retry(attempts=1), cost=Cost(usd=0.01, usd_most=0.02), fallback=[])
async def dear(n: int, ctx: Context) -> int:
    ctx.spend(usd=0.01)
    return n + 1


@app.workflow()
async def throws(run: Run, what: str) -> str:
    return str(await run.call(fragile, what))


@app.workflow()
async def horoscope(run: Run, sign: str) -> str:
    return str(await run.call(await run.select(needs=["astrology"]), sign))


@app.workflow()
async def spends(run: Run) -> int:
    """Without a budget it never ends."""
    n = 0
    while True:
        n = await run.call(dear, n)


@app.workflow()
async def asks(run: Run) -> str:
    return str(await run.call(fragile, "stone", fallback=[], person="What now?"))


@app.workflow()
async def wonders(run: Run) -> str:
    answer = await run.ask("What holds it together?", proposed="string", assignee="ann")
    return f"{answer.outcome}: {answer.value}"
