"""The app under simulation: agents that misbehave, under every rule that a card can have.

Built once, shared by all schedules: what differs between them comes from the journal in the context.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from pointsman.agents.agent import AgentError, AgentRefused, ContextOverflow, RateLimited
from pointsman.agents.card import Health
from pointsman.agents.context import Context
from pointsman.app import App
from pointsman.kernel.policy.amounts import Budget, Cost
from pointsman.kernel.policy.breaker import Breaker
from pointsman.kernel.policy.retry import Retry
from pointsman.testing.sim.journal import JOURNAL, effect

RETRY = Retry(attempts=3, base=0.1, factor=2.0, jitter=0.1)
TIMEOUT_S = 0.4
HOLD_S = 1.0
"""Far less than what a schedule waits for after healing, whoever has no room, no retry left, or an open breaker."""

app = App(
    "simulation", generalist="generalist", value_bytes_max=20_000, tenant_budgets={"*": Budget(usd=0.12, per=3.0)}
)


@app.agent(capabilities=["count"], timeout=TIMEOUT_S, retry=RETRY, hold=HOLD_S)
async def steady(text: str) -> str:
    return f"steady {await JOURNAL.get().work(seconds=0.05)}"


@app.agent(timeout=TIMEOUT_S, retry=RETRY, hold=HOLD_S)
async def flaky(text: str) -> str:
    number = await JOURNAL.get().work(seconds=0.1)
    if JOURNAL.get().rng.random() < 0.4:
        raise AgentError("not today", kind="moody", retryable=JOURNAL.get().rng.random() < 0.8)
    return f"flaky {number}"


@app.agent(capabilities=["count", "wait"], timeout=TIMEOUT_S, retry=RETRY, hold=HOLD_S)
async def slow(text: str) -> str:
    """Sometimes slower than its timeout."""
    return f"slow {await JOURNAL.get().work(seconds=0.55)}"


@app.agent(timeout=TIMEOUT_S, retry=RETRY, hold=HOLD_S)
async def babbler(text: str) -> int:
    """Sometimes gives what its signature forbids."""
    number = await JOURNAL.get().work(seconds=0.05)
    said: Any = number if JOURNAL.get().rng.random() < 0.5 else "no number"
    return cast("int", said)


@app.agent(timeout=2.5, retry=RETRY, hold=HOLD_S)
async def thinker(text: str) -> str:
    """Outlasts a takeover."""
    return f"thinker {await JOURNAL.get().work(seconds=1.2)}"


@app.agent(
    timeout=TIMEOUT_S, retry=RETRY, cost=Cost(usd=0.01, usd_most=0.02), budget=Budget(usd=0.06, per=2.0),
    fallback=["frugal"], hold=3.0,
)  # fmt: skip
async def costly(text: str, context: Context) -> str:
    """Spends something, or nothing, or does not say; sometimes it fails, or is too slow."""
    rng = JOURNAL.get().rng
    for _ in range(rng.randrange(3)):
        context.spend(usd=rng.choice((0.0, 0.005, 0.01)))
    number = await JOURNAL.get().work(seconds=0.5)
    if rng.random() < 0.3:
        raise AgentError("expensive, and no result", kind="moody", retryable=rng.random() < 0.5)
    return f"costly {number}"


@app.agent(timeout=2.5, retry=RETRY, hold=HOLD_S, cost=Cost(usd=0.01), budget=Budget(usd=0.06), fallback=[])
async def frugal(text: str, context: Context) -> str:
    """Outlasts a takeover, and says at once what it spends."""
    context.spend(usd=0.005)
    return f"frugal {await JOURNAL.get().work(seconds=0.9)}"


@app.agent(timeout=TIMEOUT_S, retry=RETRY, hold=HOLD_S)
async def generalist(text: str) -> str:
    return f"generalist {await JOURNAL.get().work(seconds=0.05)}"


@app.agent(
    timeout=TIMEOUT_S, retry=RETRY, concurrency=2, rate=30.0, hold=1.0, fallback=["generalist"],
    breaker=Breaker(window=1.0, calls_min=3, failure_rate=0.5, slow_after=0.3, open_for=0.3, probes=1),
)  # fmt: skip
async def narrow(text: str) -> str:
    """Two at a time in the whole cluster, and often not well: its breaker opens."""
    number = await JOURNAL.get().work(seconds=0.3)
    if JOURNAL.get().rng.random() < 0.4:
        raise AgentError("not well", kind="unreachable")
    return f"narrow {number}"


@app.agent(timeout=1.0, heartbeat=0.2, retry=RETRY, hold=HOLD_S, fallback=[])
async def breathing(text: str, context: Context) -> str:
    """Gives signs of life, or forgets to; has an effect once."""
    rng = JOURNAL.get().rng
    done: str = await context.once("breath", lambda: f"breath {rng.randrange(1000)}", expect=str)
    for _ in range(3):
        await asyncio.sleep(rng.choice((0.05, 0.1, 0.25)))
        context.heartbeat()
    return done


@app.agent(timeout=TIMEOUT_S, retry=RETRY, hold=HOLD_S, fallback=[], idempotent=False)
async def teller(text: str) -> str:
    """Must not be repeated where its end is unknown: it has an effect, without a key."""
    number = await JOURNAL.get().work(seconds=0.5)
    return f"teller {number}"


@app.agent(timeout=TIMEOUT_S, retry=RETRY, hold=HOLD_S)
async def cashier(text: str, context: Context) -> str:
    """Has an effect, under its key."""
    effect("charge", key=context.idempotency_key)
    return f"cashier {await JOURNAL.get().work(seconds=0.3)}"


@app.agent(timeout=TIMEOUT_S, retry=RETRY, hold=HOLD_S, fallback=[])
async def moody(text: str) -> str:
    """Says no for good, and may think better of it when it is asked anew."""
    number = await JOURNAL.get().work(seconds=0.1)
    if JOURNAL.get().rng.random() < 0.5:
        raise AgentError("not for you", kind="moody")
    return f"moody {number}"


@app.agent(timeout=TIMEOUT_S, retry=RETRY, hold=HOLD_S, fallback=["generalist"], failures={"moody": True})
async def refuser(text: str) -> str:
    """Fails in every way that an agent may."""
    number, rng = await JOURNAL.get().work(seconds=0.05), JOURNAL.get().rng
    raise rng.choice(
        (
            AgentRefused(), ContextOverflow(), RateLimited(retry_after=0.1), AgentError("x", kind="moody"),
            AgentError("x", kind="overloaded", retry_after=0.05), ValueError(f"bug {number}"), ValueError("\ud800"),
        )
    )  # fmt: skip


def is_well() -> None:
    if JOURNAL.get().rng.random() < 0.3:
        raise ConnectionError("no")


async def is_really_well() -> None:
    is_well()


@app.agent(
    timeout=TIMEOUT_S, retry=RETRY, hold=0.5, fallback=["generalist"], health=is_really_well,
    health_policy=Health(every=0.2, timeout=0.1, misses=1, successes=1),
)  # fmt: skip
async def sickly(text: str) -> str:
    return f"sickly {await JOURNAL.get().work(seconds=0.05)}"


@app.agent(timeout=TIMEOUT_S, retry=RETRY, hold=HOLD_S)
def plain(text: str) -> str:
    """A function that is not a coroutine."""
    return f"plain {len(text)}"


@app.agent(timeout=TIMEOUT_S, retry=RETRY, hold=HOLD_S, fallback=[])
async def selector(text: str) -> str | None:
    """Names an agent, or nobody, or one that does not exist."""
    return JOURNAL.get().rng.choice(("steady", "slow", "nobody", None))
