"""The page on agents that fail well: its programs do what it says, its tables are those of the code, and each failure
that can be provoked leaves in the log what the page says."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from pointsman import Context, StartRun
from pointsman.coordinator.verbs.runs import CoordinatorRuns
from pointsman.demo import provoke
from pointsman.demo.workflow import app as demo
from pointsman.kernel import events as ev
from pointsman.kernel.errors import StoreUnavailable
from pointsman.kernel.policy.amounts import Amount
from pointsman.kernel.policy.failures import FAILURE_KINDS
from pointsman.kernel.upcast import read_event
from pointsman.ports.runs import RunView
from pointsman.stores.memory.store import MemoryStore

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "agents-that-fail-well.md").read_text()
PROGRAMS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
DECLARE, CHAIN, CHOOSE, EFFECTS = range(4)

TWICE = ["AttemptFailed", "CallRetried", "AttemptFailed", "CallReassigned", "CallCompleted"]
ONCE = ["AttemptFailed", "CallReassigned", "CallCompleted"]
PROVOKED: dict[str, Sequence[str]] = {
    **dict.fromkeys(("timeout", "heartbeat_timeout", "exception", "malformed_output", "invalid_output"), TWICE),
    "rate_limited": TWICE,
    **dict.fromkeys(("output_too_large", "refused", "context_overflow"), ONCE),
    "overspent": ["CallOverspent", "CallCompleted"],
    "over_budget": ["ChildStarted", "ChildEnded"],
    "unknown_agent": ["AgentRerouted", "AttemptFailed", "CallSkipped"],
    "person": ["AttemptFailed", "CallRetried", "AttemptFailed", "HumanTaskOpened"],
    "loop": ["CallCompleted"] * 3,
}
"""What each input leaves in the log, but for the request of the call, and the start and end of the run."""
LEFT_OUT = {"RunStarted", "CallRequested", "RunCompleted", "RunFailed"}


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    module = ModuleType("documented_program")
    monkeypatch.setitem(sys.modules, "documented_program", module)
    exec(compile(PROGRAMS[request.param], "agents-that-fail-well.md", "exec"), module.__dict__)  # noqa: S102
    return module


async def finish(runs: CoordinatorRuns, workflow: str, *inputs: str) -> list[RunView]:
    """Each input's run, once it has ended; their ids are the workflow's name and a number from 1."""
    ids = [f"{workflow}-{number}" for number in range(1, len(inputs) + 1)]
    for id_, given in zip(ids, inputs, strict=True):
        await runs.start(StartRun(workflow, msgspec.json.encode(given), id=id_))
    return [await runs.wait(id_, timeout_s=10) for id_ in ids]


def output(view: RunView) -> Any:
    assert view.output is not None, view.failure
    return msgspec.json.decode(view.output)


async def log(store: MemoryStore, run: str) -> list[ev.Event]:
    return [read_event(row) for row in await store.log.read(run)]


async def until_waiting(store: MemoryStore, run: str) -> str:
    """The id of the task that this run waits for."""
    while True:
        tasks = [event.task for event in await log(store, run) if isinstance(event, ev.HumanTaskOpened)]
        if tasks:
            return tasks[0]
        await asyncio.sleep(0)


@pytest.mark.parametrize("program", [DECLARE], indirect=True)
async def test_what_is_declared_is_kept(program: Any) -> None:
    store = MemoryStore()
    async with program.app.running(store) as runs:
        settled, locked = await finish(runs, "support", "charged twice", "locked out")
        assert output(settled) == "settled under support-1/1/billing#1"
        assert output(locked) == "a colleague will look into it"
        [step] = [event for event in await log(store, "support-2") if isinstance(event, ev.CallReassigned)]
        assert (step.agent, step.attempt, step.failure.kind) == ("understudy", 2, "account_locked")


@pytest.mark.parametrize("program", [CHAIN], indirect=True)
async def test_the_chain_is_the_workflows(program: Any) -> None:
    store = MemoryStore()
    async with program.app.running(store) as runs:
        [weather] = await finish(runs, "column", "weather")
        assert output(weather) == "It rains."
        await runs.start(StartRun("column", b'"war"', id="war"))
        async with asyncio.timeout(10):
            await until_waiting(store, "war")
        [insisted] = await finish(runs, "insist", "war")
        [task] = [event for event in await log(store, "war") if isinstance(event, ev.HumanTaskOpened)]
        assert (task.question, task.failure.kind) == ("Nobody writes about war. You?", "refused")
        assert insisted.failure is not None
        assert insisted.failure.kind == "loop_detected"
        assert [type(event) for event in await log(store, "insist-1")].count(ev.CallRequested) == 2


@pytest.mark.parametrize("program", [CHOOSE], indirect=True)
async def test_selection_falls_back_to_the_rule(program: Any) -> None:
    store = MemoryStore()
    async with program.app.running(store) as runs:
        invented, ruled = await finish(runs, "route", "a charge", "an invoice")
        assert output(invented) == ["billing", "operator"]
        assert output(ruled) == ["billing", "billing"]
        first, second = [event for event in await log(store, "route-1") if isinstance(event, ev.AgentSelected)]
        assert "named 'the billing department'" in first.reason
        assert "rule named nobody" in second.reason


class Ledger:
    """Implements `AttemptRuntime`: records effects; while it is away, it takes none."""

    def __init__(self) -> None:
        self.effects: dict[str, bytes] = {}
        self.is_away = False

    def heartbeat(self) -> None:
        """Nobody counts them here."""

    def spend(self, amount: Amount) -> None:
        """Nor this."""

    async def find_effect(self, name: str) -> bytes | None:
        return self.effects.get(name)

    async def record_effect(self, name: str, value: bytes) -> bytes:
        if self.is_away:
            raise StoreUnavailable("away")
        return self.effects.setdefault(name, value)


async def test_an_effect_whose_record_was_lost_is_repeated_under_the_same_key() -> None:
    ledger = Ledger()
    had: list[str] = []

    async def attempt(number: int) -> Any:
        ctx = Context("r", "pay#1", number, "r/1/pay#1", 1, 0.0, runtime=ledger)

        def pay() -> int:
            had.append(ctx.idempotency_key)
            return len(had)

        return await ctx.once("pay", pay)

    ledger.is_away = True
    with pytest.raises(StoreUnavailable):
        await attempt(1)
    ledger.is_away = False
    assert [await attempt(2), await attempt(3)] == [2, 2]
    assert had == ["r/1/pay#1"] * 2


@pytest.mark.parametrize("program", [EFFECTS], indirect=True)
async def test_effects_are_recorded(program: Any) -> None:
    store = MemoryStore()
    async with program.app.running(store) as runs:
        await runs.start(StartRun("settle", b"5", id="r"))
        view = await runs.wait("r", timeout_s=10)
        assert output(view) == ["receipt for 5 USD under r/1/refund#1", "red was pressed"]
        [effect] = [event for event in await log(store, "r") if isinstance(event, ev.EffectRecorded)]
        assert effect.name == "pay"
        assert not program.app.directory.agent("press_the_button").idempotent


def test_the_table_of_kinds_is_that_of_the_code() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (yes|no) \| (yes|no) \| (yes|no) \|$", PAGE, re.MULTILINE)
    said = [(name, meaning, *(word == "yes" for word in words)) for name, meaning, *words in rows]
    assert said == [
        (kind.name, kind.meaning, kind.retryable, kind.counts, kind.is_unknown) for kind in FAILURE_KINDS.values()
    ]


def test_the_page_has_every_failure_that_can_be_provoked() -> None:
    rows = re.findall(r'^\| (`".+?) \|', PAGE, re.MULTILINE)
    named = [name for row in rows for name in re.findall(r'`"(\w+)"`', row)]
    assert sorted(named) == sorted(provoke.KINDS) == sorted(PROVOKED)


async def test_what_is_provoked_leaves_what_the_page_says() -> None:
    store = MemoryStore()
    async with demo.running(store) as runs, asyncio.timeout(30):
        for kind in provoke.KINDS:
            await runs.start(StartRun("provoke", msgspec.json.encode(kind), id=kind))
        ended = {kind: await runs.wait(kind, timeout_s=20) for kind in provoke.KINDS if kind != "person"}
        await until_waiting(store, "person")
        logs = {kind: await log(store, kind) for kind in provoke.KINDS}
    for kind, types in PROVOKED.items():
        assert [name for event in logs[kind] if (name := type(event).__name__) not in LEFT_OUT] == types, kind
        failed = [event.failure.kind for event in logs[kind] if isinstance(event, ev.AttemptFailed)]
        if kind in FAILURE_KINDS and kind != "unknown_agent":
            assert set(failed) == {kind}
            assert output(ended[kind])["by"] == "understudy"
    assert output(ended["overspent"])["by"] == "troublemaker"
    assert output(ended["unknown_agent"]) == {"by": "nobody", "text": "we can't"}
    for kind, how in (("over_budget", "budget_exceeded"), ("loop", "loop_detected")):
        failure = ended[kind].failure
        assert failure is not None
        assert failure.kind == how
