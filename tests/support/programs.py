"""Workflows that use every feature of the kernel: for its tests, and for the recorded histories that are kept for ever.

Never change a workflow here: its history in tests/recorded would no longer fit. Add another.
"""

from __future__ import annotations

import asyncio

from pydantic import BaseModel

from pointsman import App, CallError, Context, Handle, Plan, Question, Retry, Run, RunCancelled, SignalTimeout, Task

app = App("programs", generalist="generalist")


class Order(BaseModel):
    id: int
    lines: list[str] = []


@app.agent
async def generalist(question: str) -> str:
    return question


@app.agent(capabilities=["price", "ship"], retry=Retry(attempts=3, base=1.0))
async def double(n: int, ctx: Context) -> int:
    return 2 * n


@app.agent(capabilities=["price"])
async def pack(order: Order) -> Order:
    return order


@app.workflow()
async def sequence(run: Run, n: int) -> int:
    for _ in range(4):
        n = await run.call(double, n)
    return n


@app.workflow()
async def parallel(run: Run, n: int) -> dict[str, object]:
    async def review(run: Run, depth: int) -> int:
        first = await run.call(double, depth)
        if depth > 1:
            return first + await run.branch("deeper", review, depth - 1)
        return first

    branches = [run.branch("review", review, depth) for depth in range(1, n + 1)]
    calls = [run.start(double, i) for i in range(n)]
    winner = await run.first(*calls)
    timer = run.start_sleep(60)
    fastest = await run.first(timer, *branches)
    timer.cancel()
    return {"sums": await run.gather(*branches), "calls": await run.gather(*calls), "winner": winner.call,
            "fastest": fastest.call}  # fmt: skip


@app.workflow()
async def waiting(run: Run) -> list[object]:
    await run.sleep(5)
    early = await run.wait_for("early")
    order = await run.wait_for("order", expect=Order)
    try:
        await run.wait_for("never", timeout=30)
    except SignalTimeout as error:
        return [early, order.id, error.kind, run.now()]
    return []


@app.workflow()
async def derived(run: Run) -> list[object]:
    before = [run.random(), run.uuid()]
    await run.call(double, 1)
    return [*before, run.random(), run.uuid(), run.now()]


@app.workflow()
async def selecting(run: Run) -> list[str]:
    who = await run.select(["price"])
    both = await run.select(["price", "ship"])
    nobody = await run.select("translate")
    return [who, both, nobody, await run.call("missing_agent", "hello")]


@app.workflow()
async def failing(run: Run, n: int) -> str:
    try:
        await run.call(double, n, key="charge")
    except CallError as error:
        return f"{error.kind} at {error.call}"
    return "fine"


@app.workflow()
async def cleaning_up(run: Run) -> str:
    try:
        await run.sleep(1_000)
    finally:
        with run.shield():
            await run.call(double, 7, key="undo")
    return "not cancelled"


@app.workflow()
async def stubborn(run: Run) -> str:
    try:
        await run.wait_for("never")
    except RunCancelled as reason:
        return f"cancelled: {reason}"
    return "never"


@app.workflow()
async def parent(run: Run, n: int) -> list[int]:
    children = [run.start(sequence, i) for i in range(n)]
    return await run.gather(*children)


@app.workflow()
async def large(run: Run, text: str) -> int:
    order = await run.call(pack, Order(id=1, lines=[text] * 4))
    return len(order.lines)


@app.workflow()
async def foreign(run: Run) -> str:
    await asyncio.sleep(0)
    return "unreachable"


@app.agent(retry=Retry(attempts=1), fallback=["understudy"])
async def star(n: int) -> int:
    return n


@app.agent(retry=Retry(attempts=1))
async def understudy(n: int) -> int:
    return n


@app.workflow()
async def recovering(run: Run, n: int) -> list[int]:
    """What an agent fails, another one, a person or the default does."""
    return [
        await run.call(star, n),
        await run.call(star, n, fallback=[], person="How many?"),
        await run.call(star, n, fallback=[], default=-1),
    ]


@app.workflow()
async def rounds(run: Run, said: list[object]) -> list[object]:
    """A long loop: each generation makes a call, takes a word and begins again."""
    number = await run.call(double, run.generation)
    late = run.start(double, 0)
    late.cancel()
    word = await run.wait_for("word")
    said = [*said, run.generation, number, word, run.uuid()]
    if run.generation == 3:
        return said
    return run.restart(said)


@app.workflow()
async def risky(run: Run, n: int) -> list[int]:
    """Three calls beside each other: one may fail, and takes the run with it."""
    first = await run.call(double, n)
    calls = [
        run.start(double, first, key="left"),
        run.start(star, n, key="risk", fallback=[]),
        run.start(double, n, key="right"),
    ]
    return await run.gather(*calls)


@app.on("parcel.sent")
async def carry(parcel: int) -> int:
    return parcel


@app.on("parcel.sent", "parcel.lost")
async def track(parcel: int) -> int:
    return parcel


@app.on("agent.refused")
async def apologise(kind: str, data: int) -> None: ...


app.events("parcel.sent", ends=["parcel.arrived", "parcel.refunded"])


class Ticket(BaseModel):
    """Version 2. In version 1, `status` was named `state`, and there was no `priority`."""

    status: str
    priority: int
    notes: list[str] = []


def ticket_v2(old: dict[str, object]) -> dict[str, object]:
    return {"status": old["state"], "priority": 3, "notes": old["notes"]}


@app.workflow(state=Ticket, state_version=2, state_upcasters={1: ticket_v2})
async def stating(run: Run, rounds: int) -> dict[str, object]:
    """Its recorded history was written by version 1 of the state, up to the middle of the second generation."""
    if run.generation == 1:
        run.set(Ticket(status="new", priority=3))
    run.set(status=f"round {run.generation}")
    number = await run.call(double, run.generation)
    run.set(notes=[*run.state.notes, f"{number} " + "and so on, " * 300])
    await run.call(double, number)
    if run.generation <= rounds:
        run.restart(rounds)
    run.set(status="done", priority=run.state.priority + number)
    return {"status": run.state.status, "priority": run.state.priority, "notes": len(run.state.notes)}


SHELF = Plan(
    [
        Task("measure", double),
        Task("saw", double, after=["measure"], arguments=lambda done: done["measure"]),
        Task("paint", "star", after=["measure"], if_failed="skip", retries=1),
        Task("dry", double, after=["paint"]),
        Task("hang", double, after=["saw"], arguments=lambda done: done["saw"]),
    ],
    name="shelf",
)


@app.workflow()
async def planned(run: Run, n: int) -> dict[str, object]:
    executed = await SHELF.execute(run, n, at_once=2)
    return {"results": executed.results, "skipped": executed.skipped}


@app.workflow()
async def deadlocked(run: Run, n: int) -> None:
    handles: list[Handle[None]] = []

    async def wait_for(run: Run, other: int) -> None:
        await run.call(double, n)
        await handles[other]

    handles += [run.branch("one", wait_for, 1), run.branch("other", wait_for, 0)]
    await run.gather(*handles)


@app.agent(retry=Retry(attempts=1))
async def selector(text: str) -> str:
    return text


@app.workflow()
async def thrifty(run: Run, n: int) -> list[object]:
    """Three rounds, each with all that depends on the cluster's mode, in the body and in a branch beside it."""

    async def beside(run: Run) -> list[object]:
        return [await run.select("ship", by=selector, of="double"), run.mode()]

    said: list[object] = []
    for _ in range(3):
        branch = run.branch("beside", beside)
        who = await run.select("price", by=selector, of="pack", default=understudy)
        memory = await run.call(double, n, optional="memory", default=0)
        judged = await run.call(star, n, fallback=[], optional="evaluation", default="none")
        answer = await run.call(star, n, fallback=[], default=-1)
        said += [run.mode(), who, memory, judged, answer, *await branch]
        await run.wait_for("next")
    return said


@app.workflow()
async def escalating(run: Run, until: float) -> list[str]:
    steps = [(60, "leads"), (3_600, "head"), (5_000, "board")]
    first = await run.ask("Sign?", assignee="auditor", escalate=steps, until=until)
    who = Question("By hand?", escalate=[(1, "a"), (2, "b")], until=until + 5)
    return [first.outcome, str(await run.call(double, 0, key="charge", person=who, default=7))]


@app.workflow()
async def approving(run: Run, n: int) -> list[str]:
    said = []
    for number in range(n):
        answer = await run.ask(
            f"Send order {number}?", context={"number": number}, proposed=Order(id=number), assignee="ann",
            escalate_to="leads", escalate_in=60, expires_in=3_600,
        )  # fmt: skip
        order = answer.value.id if answer.is_given else answer.reason
        said.append(f"{answer.outcome} {answer.by} {order}")
    call = run.start(double, 0, key="charge", person=Question("What then?", expires_in=10), default=7)
    given_up = run.start_ask("Anything else?", schema={"type": "string"})
    said.append(str(await call))
    given_up.cancel()
    return said
