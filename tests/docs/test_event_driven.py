"""The page on event-driven agents: its program does what it says."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from pointsman import StartRun
from pointsman.stores.memory.store import MemoryStore

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "event-driven.md").read_text()


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Any:
    module = ModuleType("documented")
    monkeypatch.setitem(sys.modules, "documented", module)
    (program,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    exec(compile(program, "event-driven.md", "exec"), module.__dict__)  # noqa: S102  that is the test
    return module.app


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("charged twice", {"event": "ticket.answered", "data": "ticket 1: refunded", "by": "answer"}),
        ("hello", {"event": "ticket.forwarded", "data": {"to": "the front desk", "ticket": 1}, "by": "forward"}),
    ],
)
async def test_a_ticket_ends_where_the_page_says(app: Any, text: str, ends: object) -> None:
    async with app.running(MemoryStore()) as runs:
        await runs.start(StartRun("ticket.opened", msgspec.json.encode({"id": 1, "text": text}), id="1"))
        view = await runs.wait("1", timeout_s=30)
    assert view.output is not None, view.failure
    assert msgspec.json.decode(view.output) == [ends]
