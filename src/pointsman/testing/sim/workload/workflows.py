"""Workflows that use everything that a body can do."""

from __future__ import annotations

from dataclasses import dataclass, field

from pointsman.kernel.asking import Question
from pointsman.kernel.errors import CallError, PointsmanError
from pointsman.kernel.policy.amounts import Budget
from pointsman.kernel.run import Run
from pointsman.testing.sim.journal import JOURNAL
from pointsman.testing.sim.workload.agents import (
    app,
    babbler,
    breathing,
    cashier,
    costly,
    flaky,
    frugal,
    moody,
    narrow,
    plain,
    refuser,
    selector,
    sickly,
    slow,
    steady,
    teller,
    thinker,
)

LONG = 2_500
"""Characters of a text that is kept in pieces."""


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
    """Rests, long enough to be parked, in two generations."""
    await run.sleep(0.1 + size * 0.25 * run.random())
    if run.generation == 1:
        return run.restart(size)
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


@app.workflow()
async def crowd(run: Run, size: int) -> list[str]:
    """More calls than an agent can take, some more urgent, with a fallback of the caller's own."""
    handles = [run.start(narrow, f"crowd {number}", priority=number % 3) for number in range(2 + size)]
    handles.append(run.start(sickly, "are you well?", fallback=[steady]))
    handles.append(run.start(narrow, "or nothing", fallback=[], default="nothing"))
    return [str(result) for result in await run.gather(*handles, return_errors=True)]


@app.workflow()
async def asking(run: Run, size: int) -> list[str]:
    """Whom nobody could serve, a person does; or there is a default."""
    handles = [run.start(refuser, f"ask {number}", fallback=[], person="what now?") for number in range(size)]
    said = [str(result) for result in await run.gather(*handles, return_errors=True)]
    said.append(await run.call(refuser, "default", fallback=[], default="whatever"))
    said.append(str(await run.call(refuser, "chain", fallback=[narrow, flaky], default="whatever")))
    return said


@app.workflow()
async def effects(run: Run, size: int) -> list[str]:
    """Agents with effects: under a key, recorded once, and never to be repeated."""
    said: list[str] = []
    for number in range(size):
        handles = [run.start(agent, f"effect {number}") for agent in (cashier, breathing, teller, plain)]
        said += [str(result) for result in await run.gather(*handles, return_errors=True)]
    return said


@app.workflow()
async def talk(run: Run, size: int) -> int:
    """A conversation that grows: each input holds the one before."""
    text = "".join(run.uuid() for _ in range(LONG // 36))
    for _ in range(1 + size):
        text = f"{text}\n{await run.call(steady, text)}\n{run.uuid()}"
    return len(text)


@app.workflow(turns_max=4, repeats_max=2)
async def circling(run: Run, size: int) -> str:
    """Turns in a circle until it is stopped, after it was refused what is no value."""
    refused = 0
    for bad in ("\ud800", "\x00", 2**70, float("nan"), object(), "x" * 30_000):
        try:
            await run.call(steady, bad)
        except PointsmanError:
            refused += 1
    try:
        while True:
            await run.call(steady, f"again {run.now() if size > 2 else refused}")
    except PointsmanError as error:
        return error.code


@app.workflow(budget=Budget(usd=0.05, calls=6, seconds=3.0))
async def thrifty(run: Run, size: int) -> list[str]:
    """A budget of its own, and children that get a part of it."""
    handles = [
        run.start(chain, 1, budget=Budget(calls=1 + size)), run.start(chain, size), run.start(costly, "thrifty"),
        run.start(frugal, "thrifty"),
    ]  # fmt: skip
    return [str(result) for result in await run.gather(*handles, return_errors=True)]


@app.workflow()
async def picky(run: Run, size: int) -> list[str]:
    """Selection by an agent, by a function, and of a service that may not be there."""
    said: list[str] = []
    for number in range(size):
        who = await run.select("count", by=selector if number % 2 else (lambda _: "steady"), of=f"{number}")
        said.append(str(await run.call(who, f"picked {number}", default="nobody")))
    try:
        carrier = await run.select("carry")
        said.append(str(await run.call(carrier, text="parcel", default="lost") if carrier == "courier" else carrier))
    except CallError as error:
        said.append(error.kind)
    return said


@app.workflow()
async def clumsy(run: Run, size: int) -> str:
    """Breaks: with a bug, or with an error that nobody caught."""
    if size == 1:
        raise ValueError("a bug in the body")
    await run.call(teller, "clumsy", key="mine")
    return str(await run.call(refuser, "nobody catches this", fallback=[]))


@app.workflow()
async def hopeful(run: Run, size: int) -> list[str]:
    """Fails with the first call that does, while others, a question and a child are under way: what is redriven begins
    there anew, and repeats nothing that completed."""
    said = [await run.call(steady, "before")]
    handles = [run.start((moody, thinker, moody)[number % 3], f"hope {number}") for number in range(size)]
    handles.append(run.start(refuser, "ask", fallback=[], person="and now?"))
    if size > 1:
        handles.append(run.start(hopeful, size - 1))
    try:
        said += [str(result) for result in await run.gather(*handles)]
    except CallError:
        await run.sleep(0.3)  # what is still under way goes on meanwhile
        raise
    return [*said, await run.call(moody, f"last {run.now()}")]


@app.workflow()
async def poisoned(run: Run, size: int) -> str:
    """Ends every process that drives it, until other code is deployed."""
    said = await run.call(steady, f"before {size}")
    JOURNAL.get().poison(run.id)
    return f"{said}, {await run.call(steady, 'after')}"


@dataclass
class Tally:
    """The typed state of a run."""

    total: int = 0
    said: list[str] = field(default_factory=list)


@app.workflow(state=Tally)
async def tallying(run: Run, size: int) -> int:
    """Typed state that goes on through a generation, refuses what does not fit, and how the cluster is."""
    if run.state is None:
        run.set(Tally())
    for number in range(size):
        said = await run.call(steady, f"tally {run.state.total}")
        run.set(total=run.state.total + number, said=[*run.state.said, said, run.mode()])
    try:
        run.set(total="no number")
    except PointsmanError:
        run.set(total=run.state.total + 1)
    if run.generation == 1:
        return run.restart(size)
    return int(run.state.total)


@app.workflow()
async def consulting(run: Run, size: int) -> list[str]:
    """People are asked: with a proposal, with an end, in turn, and beside other work; one question is taken back."""
    handles = [
        run.start_ask(f"how many of {number}?", proposed=number, context={"of": run.id}, assignee="desk")
        for number in range(size)
    ]
    handles.append(run.start_ask("in time?", expires_in=0.9, escalate_to="leads", escalate_in=0.2, assignee="desk"))
    said = [(await handle).outcome for handle in handles]
    doubt, timer = run.start_ask("never mind?"), run.start_sleep(0.2 * run.random())
    if await run.first(doubt, timer) is timer:
        doubt.cancel()
    by_hand = Question("by hand?", assignee="desk", expires_in=1.5)
    return [*said, str(await run.call(refuser, "consult", fallback=[], person=by_hand, default="not done"))]
