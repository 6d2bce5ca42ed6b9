"""The page on coordinating agents: its programs do what it says."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from pointsman import StartRun
from pointsman.ports.runs import RunView
from pointsman.stores.memory.store import MemoryStore

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "coordinate-agents.md").read_text()
PROGRAMS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
FAN_OUT, REFINE, SAGA, CONVERSATION, PLAN, SUPERVISE = range(6)
AGENTS_OF_TRAVEL = ["book", "book", "cancel", "cancel"]


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    module = ModuleType("documented")
    monkeypatch.setitem(sys.modules, "documented", module)
    exec(compile(PROGRAMS[request.param], "coordinate-agents.md", "exec"), module.__dict__)  # noqa: S102  that is the test
    return module.app


async def ended(app: Any, workflow: str, given: object, signals: tuple[str, ...] = ()) -> tuple[RunView, list[Any]]:
    """The run, and its calls: agent and input."""
    async with app.running(MemoryStore()) as runs:
        await runs.start(StartRun(workflow, msgspec.json.encode(given), id="1"))
        for number, text in enumerate(signals):
            await runs.signal("1", "says", msgspec.json.encode(text), key=str(number))
        view = await runs.wait("1", timeout_s=30)
        events = await runs.events("1", after=0, limit=1_000)
    return view, [msgspec.json.decode(event.data) for event in events if event.type == "CallRequested"]


def output(view: RunView) -> Any:
    assert view.output is not None, view
    return msgspec.json.decode(view.output)


@pytest.mark.parametrize("app", [FAN_OUT], indirect=True)
async def test_what_came_is_enough(app: Any) -> None:
    view, _ = await ended(app, "research", "tides")
    assert output(view) == "books on tides; papers on tides"


@pytest.mark.parametrize("app", [REFINE], indirect=True)
async def test_a_draft_is_refined_until_it_is_accepted(app: Any) -> None:
    view, calls = await ended(app, "letter", "more salt")
    assert output(view) == "more salt thank you"
    assert [call["target"] for call in calls] == ["write", "judge", "write", "judge"]


@pytest.mark.parametrize("app", [SAGA], indirect=True)
async def test_the_steps_are_undone_last_first(app: Any) -> None:
    view, calls = await ended(app, "travel", ["a flight", "the moon"])
    assert view.head.status == "failed"
    assert [call["target"] for call in calls] == AGENTS_OF_TRAVEL
    bookings = [call["input"]["booking"] for call in calls[:2]]
    assert [call["input"] for call in calls[2:]] == bookings[::-1]


@pytest.mark.parametrize("app", [CONVERSATION], indirect=True)
async def test_a_conversation_is_summarised(app: Any) -> None:
    view, _ = await ended(app, "talk", None, ("a", "b", "c", "d", "e", "bye"))
    assert output(view) == [
        "I see 1 messages and no summary",
        "I see 3 messages and no summary",
        "I see 4 messages and 2 more, ",
        "I see 4 messages and 2 more, 2 more, ",
        "I see 4 messages and 2 more, 2 more, 2 more, ",
    ]


@pytest.mark.parametrize("app", [PLAN], indirect=True)
@pytest.mark.parametrize(
    ("where", "status"), [("rock", "completed"), ("a swamp", "failed")]
)  # fmt: skip
async def test_a_plan_is_executed(app: Any, where: str, status: str) -> None:
    view, _ = await ended(app, "build", where)
    assert view.head.status == status
    if status == "completed":
        assert output(view)["feast"] == "feast"
    else:
        assert view.failure is not None
        assert view.failure.kind == "plan_failed"
        assert "feast was not done: it needs walls" in view.failure.message


@pytest.mark.parametrize("app", [SUPERVISE], indirect=True)
async def test_a_supervisor_decides_who_is_next(app: Any) -> None:
    view, calls = await ended(app, "article", "tides")
    assert output(view) == "300 words about facts on tides"
    assert [call["target"] for call in calls] == ["editor", "research", "editor", "write", "editor"]
