"""Each kind of failure that can be provoked ends as it is meant to, with its reason in the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from pointsman import StartRun
from pointsman.coordinator.settings import CoordinatorSettings
from pointsman.coordinator.verbs.inbox import CoordinatorInbox
from pointsman.coordinator.verbs.runs import CoordinatorRuns
from pointsman.demo import provoke
from pointsman.demo.workflow import app
from pointsman.kernel import events as ev
from pointsman.kernel.errors import TaskAnswered
from pointsman.kernel.upcast import read_event
from pointsman.ports.event_log import RunFilter
from pointsman.ports.human_tasks import TaskFilter
from pointsman.stores.memory import MemoryDatabase, MemoryStore

WAIT_S = 10.0
RETRIED = ("timeout", "heartbeat_timeout", "exception", "malformed_output", "invalid_output", "rate_limited")
GIVEN_UP = ("output_too_large", "refused", "context_overflow")
OTHERS = ("overspent", "over_budget", "unknown_agent", "person", "loop")


@dataclass
class Desk:
    """The demo's app, running on a store of its own."""

    store: MemoryStore
    runs: CoordinatorRuns
    inbox: CoordinatorInbox

    async def provoke(self, kind: str) -> Any:
        """What the run gave; or the kind of its failure."""
        await self.runs.start(StartRun("provoke", msgspec.json.encode(kind), id=kind))
        view = await self.runs.wait(kind, timeout_s=WAIT_S)
        if view.failure is not None:
            return view.failure.kind
        assert view.output is not None
        return msgspec.json.decode(view.output)

    async def notes(self, run: str) -> list[ev.Event]:
        """Its events from the first failure on, without the end of the run."""
        return [read_event(row) for row in await self.store.log.read(run)][2:-1]


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    store = MemoryStore(MemoryDatabase())
    coordinator = app.coordinator(store, CoordinatorSettings())
    await coordinator.start()
    yield Desk(store, CoordinatorRuns(coordinator), CoordinatorInbox(coordinator))
    await coordinator.stop()


def test_every_kind_is_told_of_here() -> None:
    assert sorted((*RETRIED, *GIVEN_UP, *OTHERS)) == sorted(provoke.KINDS)


@pytest.mark.parametrize("kind", [*RETRIED, *GIVEN_UP])
async def test_the_understudy_gets_what_failed(desk: Desk, kind: str) -> None:
    assert await desk.provoke(kind) == {"by": "understudy", "text": f"never mind the {kind}"}
    first, *again, given, done = await desk.notes(kind)
    assert isinstance(first, ev.AttemptFailed)
    assert [type(event) for event in again] == ([ev.CallRetried, ev.AttemptFailed] if kind in RETRIED else [])
    assert (first.failure.kind, first.retry_at is not None) == (kind, kind in RETRIED)
    assert isinstance(given, ev.CallReassigned)
    assert (given.agent, given.attempt, given.failure.kind) == ("understudy", 3 if again else 2, kind)
    assert isinstance(done, ev.CallCompleted)


async def test_a_rate_limit_says_when_to_come_again(desk: Desk) -> None:
    await desk.provoke("rate_limited")
    rows = await desk.store.log.read("rate_limited")
    [at] = [row.at for row in rows if row.type == "CallRetried"]
    failed, *_ = [row for row in rows if row.type == "AttemptFailed"]
    first = read_event(failed)
    assert isinstance(first, ev.AttemptFailed)
    assert (first.failure.retry_after_ms, first.retry_at) == (1000, failed.at + 1000)
    assert at >= failed.at + 1000


async def test_who_spends_more_than_its_card_says_is_named(desk: Desk) -> None:
    assert (await desk.provoke("overspent"))["by"] == "troublemaker"
    over, _ = await desk.notes("overspent")
    assert isinstance(over, ev.CallOverspent)
    assert (over.agent, over.reserved.usd_micros, over.spent.usd_micros) == ("troublemaker", 20_000, 50_000)


async def test_what_a_budget_does_not_cover_is_not_begun(desk: Desk) -> None:
    assert await desk.provoke("over_budget") == "budget_exceeded"
    runs, _ = await desk.runs.list(RunFilter(workflow="poor"), limit=10)
    [child] = [run.id for run in runs]
    kinds = [row.type for row in await desk.store.log.read(child)]
    assert kinds == ["RunStarted", "CallRequested", "CallFailed", "RunFailed"]


async def test_a_name_that_nobody_has_goes_to_the_generalist_then_to_the_default(desk: Desk) -> None:
    assert (await desk.provoke("unknown_agent"))["by"] == "nobody"
    events = [read_event(row) for row in await desk.store.log.read("unknown_agent")]
    rerouted, skipped = events[1], events[-2]
    assert isinstance(rerouted, ev.AgentRerouted)
    assert (rerouted.asked, rerouted.agent) == ("nobody-of-that-name", "generalist")
    assert isinstance(skipped, ev.CallSkipped)
    assert skipped.failure.kind == "invalid_input"


async def test_a_loop_is_stopped_before_the_call_too_many(desk: Desk) -> None:
    assert await desk.provoke("loop") == "loop_detected"
    kinds = [row.type for row in await desk.store.log.read("loop")]
    assert kinds == ["RunStarted", *["CallRequested", "CallCompleted"] * 3, "RunFailed"]


async def test_a_person_answers_and_only_the_first_answer_counts(desk: Desk) -> None:
    going = asyncio.create_task(desk.provoke("person"))
    async with asyncio.timeout(WAIT_S):
        while not (waiting := (await desk.inbox.list(TaskFilter(), limit=10))[0]):
            await asyncio.sleep(0)
    [task] = waiting
    assert (task.run, task.question) == ("person", "The troublemaker crashed. What now?")
    await desk.inbox.answer(task.id, b'{"by": "ann", "text": "restart it"}', by="ann")
    with pytest.raises(TaskAnswered):
        await desk.inbox.answer(task.id, b'{"by": "bob", "text": "leave it"}', by="bob")
    assert await going == {"by": "ann", "text": "restart it"}
    *_, opened, answered = await desk.notes("person")
    assert isinstance(opened, ev.HumanTaskOpened)
    assert opened.failure.kind == "exception"
    assert isinstance(answered, ev.HumanTaskAnswered)
    assert answered.by == "ann"
