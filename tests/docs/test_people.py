"""The page on asking people: its programs do what it says."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import msgspec
import pytest

from pointsman.coordinator.verbs.inbox import CoordinatorInbox
from pointsman.coordinator.verbs.runs import CoordinatorRuns
from pointsman.kernel.asking import Outcome
from pointsman.ports.human_tasks import TaskFilter
from pointsman.ports.runs import StartRun
from pointsman.stores.memory.store import MemoryStore

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "people.md").read_text()
PROGRAMS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
ASK, STEPS, CALL = range(3)
CLAIM = b'{"customer": "eve", "amount": 30}'


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    module = ModuleType("documented")
    monkeypatch.setitem(sys.modules, "documented", module)
    exec(compile(PROGRAMS[getattr(request, "param", ASK)], "people.md", "exec"), module.__dict__)  # noqa: S102  that is the test
    return module.app


async def said(app: Any, value: bytes | None) -> object:
    """What comes of a claim when a person says this; None: they refuse."""
    coordinator = app.coordinator(MemoryStore())
    await coordinator.start()
    try:
        runs, inbox = CoordinatorRuns(coordinator), CoordinatorInbox(coordinator)
        await runs.start(StartRun("refund", CLAIM, id="1"))
        async for batch in runs.follow("1"):
            if any(event.type == "HumanTaskRequested" for event in batch):
                break
        ((task,), _) = await inbox.list(TaskFilter(assignee="support"), limit=10)
        shown = await inbox.get(task.id)
        assert shown.context is not None
        assert msgspec.json.decode(shown.context) == {"customer": "eve", "amount": 30}
        if value is None:
            await inbox.refuse(task.id, reason="in March", by="ann", digest=shown.digest)
        else:
            await inbox.answer(task.id, value, by="ann", digest=shown.digest)
        view = await runs.wait("1", timeout_s=30)
        assert view.output is not None, view
        return msgspec.json.decode(view.output)
    finally:
        await coordinator.stop()


@pytest.mark.parametrize(
    ("value", "output"),
    [
        (b'{"amount": 30, "note": ""}', "eve gets 30"),
        (b'{"amount": 20, "note": "half"}', "eve gets 20"),
        (None, "ann says no: in March"),
    ],
    ids=["accepted", "edited", "refused"],
)
async def test_a_claim_is_decided_by_a_person(app: Any, value: bytes | None, output: str) -> None:
    assert await said(app, value) == output


@pytest.mark.parametrize("app", [STEPS], indirect=True)
async def test_a_report_goes_from_one_to_the_next_until_its_moment(app: Any) -> None:
    coordinator = app.coordinator(MemoryStore())
    await coordinator.start()
    try:
        runs, inbox = CoordinatorRuns(coordinator), CoordinatorInbox(coordinator)
        await runs.start(StartRun("sign", b'"the report"', id="1"))
        async for batch in runs.follow("1"):
            if any(event.type == "HumanTaskRequested" for event in batch):
                break
        ((task,), _) = await inbox.list(TaskFilter(assignee="auditor"), limit=10)
        shown = await inbox.get(task.id)
        assert [step.assignee for step in shown.escalations] == ["head of audit", "board"]
        assert shown.expires_at == 1_896_109_200_000
    finally:
        await coordinator.stop()


@pytest.mark.parametrize("app", [CALL], indirect=True)
async def test_a_call_that_no_agent_could_do_goes_to_a_person_with_a_name(app: Any) -> None:
    coordinator = app.coordinator(MemoryStore())
    await coordinator.start()
    try:
        runs, inbox = CoordinatorRuns(coordinator), CoordinatorInbox(coordinator)
        await runs.start(StartRun("settle", b"12", id="1"))
        async for batch in runs.follow("1"):
            if any(event.type == "HumanTaskOpened" for event in batch):
                break
        ((task,), _) = await inbox.list(TaskFilter(assignee="finance"), limit=10)
        await inbox.refuse(task.id, reason="closed too", by="ann")
        view = await runs.wait("1", timeout_s=30)
        assert view.output is not None
        assert bytes(view.output) == b'"not paid"'
    finally:
        await coordinator.stop()


def test_the_page_tells_every_outcome() -> None:
    assert set(re.findall(r"^\| `(\w+)` \| ", PAGE, re.MULTILINE)) - {"outcome"} == set(get_args(Outcome))
