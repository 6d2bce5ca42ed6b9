"""The page on state: both programs do what it says, the second goes on with runs of the first, and SQL sees it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import asyncpg
import msgspec
import pytest

from pointsman import StartRun
from pointsman.coordinator.verbs.runs import CoordinatorRuns
from pointsman.stores.postgres.migrate import migrate
from pointsman.stores.postgres.store import PostgresStore

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "state.md").read_text()
FIRST, SECOND = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
(QUERY,) = re.findall(r"^```sql\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
WAITING = "    await run.wait_for('go')\n    run.set("


def program(name: str, source: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """With a wait before the last `set`, so that the run is open when the other code comes."""
    before, _, after = source.rpartition("    run.set(")
    module = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    exec(compile(before + WAITING + after, name, "exec"), module.__dict__)  # noqa: S102  that is the test
    return module


async def test_the_programs_and_the_query_of_the_page(fresh_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await migrate(fresh_database)
    first, second = program("first", FIRST, monkeypatch), program("second", SECOND, monkeypatch)
    connection = await asyncpg.connect(fresh_database)
    try:
        async with first.app.running(PostgresStore(fresh_database)) as runs:
            await runs.start(StartRun("order", b'["a","b"]', id="r"))
            await _has_waited(runs)
            assert [tuple(row) for row in await connection.fetch(QUERY)] == [("r", "pricing", 25.0)]
        async with second.app.running(PostgresStore(fresh_database)) as runs:
            await runs.signal("r", "go", b"null", key="k")
            view = await runs.wait("r", timeout_s=10)
            state = await runs.state("r")
        assert view.output is not None, view
        assert msgspec.json.decode(view.output) == "priced"
        assert (state.version, msgspec.json.decode(state.value or b"")) == (2, {"phase": "priced", "total_cents": 2500})
        assert (
            await connection.fetchval("SELECT value->>'phase' FROM states WHERE run = 'r' AND version = 2") == "priced"
        )
    finally:
        await connection.close()


async def _has_waited(runs: CoordinatorRuns) -> None:
    async for batch in runs.follow("r"):
        if any(event.type == "SignalAwaited" for event in batch):
            return
