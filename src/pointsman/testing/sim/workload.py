"""The app under simulation: workflows that use everything that a body can do, and agents that misbehave.

Built once, shared by all schedules: what differs between them comes from the journal in the context. Agents
note every invocation there, outside the engine; that is what repeats are counted from.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, NamedTuple, cast

from pointsman.agents.agent import AgentError
from pointsman.agents.context import Context
from pointsman.app import App
from pointsman.kernel.errors import CallError
from pointsman.kernel.policy.amounts import Budget, Cost
from pointsman.kernel.policy.retry import Retry
from pointsman.kernel.run import Run

RETRY = Retry(attempts=3, base=0.1, factor=2.0, jitter=0.1)
TIMEOUT_S = 0.4


class Invocation(NamedTuple):
    """One start of an agent.

    Attributes:
        position: how many events the database held at that moment.
        was_held: its process had been stopped between the decision and now.
        epoch_now: the run's epoch in the database at that moment.
    """

    run: str
    call: str
    attempt: int
    key: str
    epoch: int
    node: str
    at_s: float
    position: int
    was_held: bool
    epoch_now: int


class Journal:
    """What the agents of one schedule note, and the chance that they follow."""

    def __init__(self, rng: random.Random, note: Callable[[Context, str], Invocation]) -> None:
        self.rng = rng
        self.invocations: list[Invocation] = []
        self._note = note

    async def work(self, context: Context, text: str, *, seconds: float) -> int:
        """Note the invocation, take a while, and give its number."""
        self.invocations.append(self._note(context, text))
        number = len(self.invocations)
        await asyncio.sleep(self.rng.random() * seconds)
        return number


JOURNAL: ContextVar[Journal] = ContextVar("journal")

app = App("simulation", generalist="generalist", tenant_budgets={"*": Budget(usd=0.12, per=3.0)})


@app.agent(capabilities=["count"], timeout=TIMEOUT_S, retry=RETRY)
async def steady(text: str, context: Context) -> str:
    return f"steady {await JOURNAL.get().work(context, text, seconds=0.05)}"


@app.agent(timeout=TIMEOUT_S, retry=RETRY)
async def flaky(text: str, context: Context) -> str:
    number = await JOURNAL.get().work(context, text, seconds=0.1)
    if JOURNAL.get().rng.random() < 0.4:
        raise AgentError("not today", kind="moody", retryable=JOURNAL.get().rng.random() < 0.8)
    return f"flaky {number}"


@app.agent(capabilities=["count", "wait"], timeout=TIMEOUT_S, retry=RETRY)
async def slow(text: str, context: Context) -> str:
    """Sometimes slower than its timeout."""
    return f"slow {await JOURNAL.get().work(context, text, seconds=0.55)}"


@app.agent(timeout=TIMEOUT_S, retry=RETRY)
async def babbler(text: str, context: Context) -> int:
    """Sometimes gives what its signature forbids."""
    number = await JOURNAL.get().work(context, text, seconds=0.05)
    said: Any = number if JOURNAL.get().rng.random() < 0.5 else "no number"
    return cast("int", said)


@app.agent(timeout=2.5, retry=RETRY)
async def thinker(text: str, context: Context) -> str:
    """Outlasts a takeover."""
    return f"thinker {await JOURNAL.get().work(context, text, seconds=1.2)}"


@app.agent(
    timeout=TIMEOUT_S, retry=RETRY, cost=Cost(usd=0.01, usd_most=0.02), budget=Budget(usd=0.06, per=2.0),
    fallback=["frugal"], hold=3.0,
)  # fmt: skip
async def costly(text: str, context: Context) -> str:
    """Spends something, or nothing, or does not say; sometimes it fails, or is too slow."""
    rng = JOURNAL.get().rng
    for _ in range(rng.randrange(3)):
        context.spend(usd=rng.choice((0.0, 0.005, 0.01)))
    number = await JOURNAL.get().work(context, text, seconds=0.5)
    if rng.random() < 0.3:
        raise AgentError("expensive, and no result", kind="moody", retryable=rng.random() < 0.5)
    return f"costly {number}"


@app.agent(timeout=2.5, retry=RETRY, cost=Cost(usd=0.01), budget=Budget(usd=0.06), fallback=[])
async def frugal(text: str, context: Context) -> str:
    """Outlasts a takeover, and says at once what it spends."""
    context.spend(usd=0.005)
    return f"frugal {await JOURNAL.get().work(context, text, seconds=0.9)}"


@app.agent(timeout=TIMEOUT_S, retry=RETRY)
async def generalist(text: str, context: Context) -> str:
    return f"generalist {await JOURNAL.get().work(context, text, seconds=0.05)}"


@app.workflow()
async def chain(run: Run, size: int) -> list[str]:
    """Sequential calls; what is deterministic only if it is recorded goes into their inputs."""
    said: list[str] = []
    for number in range(size):
        agent = (steady, flaky, slow, babbler)[int(run.random() * 4)]
        try:
            said.append(str(await run.call(agent, f"{number} {run.now()} {run.uuid()} {said[-1:]}")))
        except CallError as error:
            said.append(error.kind)
    return said


@app.workflow()
async def fan(run: Run, size: int) -> list[str]:
    """Calls side by side, a race against a timer, and a loser that is given up."""
    handles = [run.start((steady, flaky, slow)[number % 3], f"fan {number}") for number in range(size)]
    results = await run.gather(*handles, return_errors=True)
    race, timer = run.start(thinker, "race"), run.start_sleep(0.2 + run.random())
    winner = await run.first(race, timer)
    (timer if winner is race else race).cancel()
    return [str(result) for result in results] + [winner.kind]


@app.workflow()
async def branches(run: Run, size: int) -> list[str]:
    """Branches, each with calls and sleeps of its own."""

    async def branch(own: Run, number: int) -> str:
        await own.sleep(own.random() * 0.6)
        said = await own.call(steady, f"branch {number}")
        await own.call(steady, f"again {said}")
        return f"{said} {own.uuid()}"

    return await run.gather(*(run.branch("side", branch, number) for number in range(size)))


@app.workflow()
async def waiter(run: Run, size: int) -> list[str]:
    """Signals with and without a timeout."""
    heard: list[str] = []
    for _ in range(size):
        try:
            heard.append(str(await run.wait_for("go", expect=str, timeout=0.7)))
        except CallError as error:
            heard.append(error.kind)
        await run.call(steady, f"heard {heard}")
    heard.append(str(await run.wait_for("done")))
    return heard


@app.workflow()
async def parent(run: Run, size: int) -> list[str]:
    """Child runs: awaited, raced, and left behind."""
    children = [run.start((chain, nap, careful)[number % 3], 1 + number % 2) for number in range(size)]
    first = await run.first(*children)
    await run.call(steady, f"first was {first.call}")
    left_behind = run.start(nap, 4)
    results = await run.gather(*children, return_errors=True)
    return [str(result) for result in results] + [left_behind.call]


@app.workflow()
async def careful(run: Run, size: int) -> str:
    """Cleans up with agents, also when it is cancelled."""
    try:
        await run.call(thinker, "carefully")
        await run.sleep(0.3 * size)
        return "done"
    except CallError as error:
        return error.kind
    finally:
        with run.shield():
            await run.call(steady, "clean up")
            await run.sleep(0.05)


@app.workflow()
async def chooser(run: Run, size: int) -> list[str]:
    """Selection by capability, a capability that nobody has, and a name that does not exist."""
    said: list[str] = []
    for number in range(size):
        who = await run.select(("count", "sing", "wait")[number % 3])
        try:
            said.append(str(await run.call(who, f"chosen {number}")))
            said.append(str(await run.call("nobody", f"for nobody {run.uuid()}")))
        except CallError as error:
            said.append(error.kind)
    return said


@app.workflow()
async def nap(run: Run, size: int) -> str:
    """Rests, long enough to be parked."""
    await run.sleep(0.1 + size * 0.5 * run.random())
    return "rested"


@app.workflow()
async def spending(run: Run, size: int) -> list[str]:
    """Calls that cost something, side by side, until the budgets say no."""
    said: list[str] = []
    for number in range(size):
        handles = [run.start((costly, frugal, costly)[side], f"spend {number} {side}") for side in range(3)]
        said += [str(result) for result in await run.gather(*handles, return_errors=True)]
        await run.sleep(0.3 * run.random())
    return said


NAMES = ("chain", "fan", "branches", "waiter", "parent", "careful", "chooser", "nap", "spending", "spending")
