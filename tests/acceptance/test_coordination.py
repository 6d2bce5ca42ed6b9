"""A saga that is being undone, and chains of events, while the coordinator that drives them is killed."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from pointsman.demo import journal
from tests.acceptance.coordination_app import GO_ON
from tests.support.fleet import Fleet, fleet
from tests.support.survivors import committed_calls_repeated, living, owned, start, until

APP = f"{Path(__file__).with_name('coordination_app.py')}:app"
LIMITS = ("--set", "lease_ttl_ms=1500", "--set", "store.ring_refresh_ms=200")
RUNS, PARTS, DAYS = 6, 3, 6
DAYS_BEGUN = {"day": 1, "last": DAYS}

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


async def calls(members: Fleet, run: str, event: str = "CallCompleted") -> list[str]:
    rows = await members.query("SELECT body FROM events WHERE run = $1 AND type = $2 ORDER BY sequence", run, event)
    return [msgspec.json.decode(row["body"])["call"] for row in rows]


async def ended(members: Fleet, runs: list[str]) -> dict[str, str]:
    rows = await members.query("SELECT id, status FROM runs WHERE id = ANY ($1)", runs)
    statuses = {row["id"]: row["status"] for row in rows}
    return statuses if set(statuses.values()) <= {"completed", "failed"} else {}


async def test_sagas_and_events_survive_a_kill_in_their_middle(
    fresh_database: str, tmp_path: Path, noted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = tmp_path / "go-on"
    monkeypatch.setenv(GO_ON, str(go_on))
    async with fleet(fresh_database, APP, tmp_path) as members:
        one, _ = await asyncio.gather(*(members.coordinator(name, *LIMITS, routers=()) for name in "ab"))
        trips = await start(one, "travel", PARTS, [f"trip-{n}" for n in range(RUNS)])
        weeks = await start(one, "day.begun", DAYS_BEGUN, [f"week-{n}" for n in range(RUNS)])
        before = (await living(members))["a"]
        await until(lambda: _are_being_undone(noted))
        assert set(await owned(members, before)) == {*trips, *weeks}, "all of them are in the middle"
        members.members["a"].process.kill()
        go_on.touch()
        statuses = await until(lambda: ended(members, [*trips, *weeks]))
        assert statuses == dict.fromkeys(trips, "failed") | dict.fromkeys(weeks, "completed")
        undone = [*(f"book#{n}" for n in range(1, PARTS + 1)), *(f"cancel#{n}" for n in range(1, PARTS + 1))]
        for run in trips:
            assert await calls(members, run) == undone
        inputs = {line.key: line for line in journal.read(noted)}
        for run in weeks:
            done = Counter(await calls(members, run))
            assert done == Counter(
                ["day.begun/live/1", *(f"day.over/live/{n}" for n in range(1, DAYS)),
                 *(f"agent.refused/comfort/{n}" for n in range(1, DAYS))]
            )  # fmt: skip
            assert len(await calls(members, run, "CallFailed")) == DAYS - 1
            assert all(f"{run}/1/{call}" in inputs for call in done)
        assert await committed_calls_repeated(members, noted) == set()


async def _are_being_undone(noted: Path) -> bool:
    return any(line.agent == "cancel" for line in journal.read(noted))
