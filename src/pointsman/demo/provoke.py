"""Every kind of failure, provoked by hand: `pointsman runs start provoke '"timeout"'`, then `runs show`.

The troublemaker fails each attempt in the way that it is asked to; the understudy stands in for it, unless the failure
is to be handed to a person.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from pydantic import BaseModel

from pointsman import AgentRefused, Budget, Context, ContextOverflow, Cost, RateLimited, Retry, Run
from pointsman.demo.agents import app

SLOW_S = 5.0
KINDS = (
    "timeout", "heartbeat_timeout", "exception", "malformed_output", "invalid_output", "output_too_large", "refused",
    "context_overflow", "rate_limited", "overspent", "over_budget", "unknown_agent", "person", "loop",
)  # fmt: skip


class Answer(BaseModel):
    by: str
    text: str


@app.agent(
    timeout=1.0, heartbeat=0.5, retry=Retry(attempts=2, base=0.2), fallback=["understudy"], hold=5.0,
    cost=Cost(usd=0.01, usd_most=0.02),
)  # fmt: skip
async def troublemaker(kind: str, ctx: Context) -> Answer:
    """Fails as it is told."""
    match kind:
        case "timeout":
            while True:
                ctx.heartbeat()
                await asyncio.sleep(0.1)
        case "heartbeat_timeout":
            await asyncio.sleep(SLOW_S)
        case "exception" | "person":
            raise RuntimeError("a bug in the agent")
        case "malformed_output":
            json.loads('{"text": "a model that stopped in the mid')
        case "invalid_output":
            unfit: Any = {"text": 7}
            return unfit  # type: ignore[no-any-return]
        case "output_too_large":
            return Answer(by="troublemaker", text="x" * 3_000_000)
        case "refused":
            raise AgentRefused("that is not for me")
        case "context_overflow":
            raise ContextOverflow("128,001 tokens")
        case "rate_limited":
            raise RateLimited(retry_after=1.0)
        case "overspent":
            ctx.spend(usd=0.05, tokens=1_000)
    return Answer(by="troublemaker", text="for once it went well")


@app.agent(timeout=1.0)
async def understudy(kind: str) -> Answer:
    """Does what the troublemaker could not."""
    return Answer(by="understudy", text=f"never mind the {kind}")


@app.workflow(version=1, repeats_max=3)
async def provoke(run: Run, kind: str) -> Answer:
    """Ask the troublemaker for a failure of this kind."""
    if kind == "unknown_agent":
        return Answer(**await run.call("nobody-of-that-name", kind, default={"by": "nobody", "text": "we can't"}))
    if kind == "person":
        return await run.call(troublemaker, kind, fallback=[], person="The troublemaker crashed. What now?")  # type: ignore[no-any-return]
    if kind == "over_budget":
        return await run.call(poor, kind, budget=Budget(usd=0.01))  # type: ignore[no-any-return]
    if kind == "loop":
        while True:
            await run.call(understudy, "again")
    return await run.call(troublemaker, kind)  # type: ignore[no-any-return]


@app.workflow(version=1)
async def poor(run: Run, kind: str) -> Answer:
    """A run that can't afford the troublemaker."""
    return await run.call(troublemaker, kind, fallback=[])  # type: ignore[no-any-return]
