"""A run that ends its coordinators, beside fifty that do not: it is found, held back with a report, and released."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from pointsman.demo import journal
from pointsman.stores.postgres.lease import HUNG_EXIT_CODE
from tests.acceptance.takeover_app import HARMLESS
from tests.support.fleet import Fleet, Member, fleet
from tests.support.http import Connection
from tests.support.survivors import committed_calls_repeated, completed, start, until

APP = f"{Path(__file__).with_name('takeover_app.py')}:app"
NAMES = ("a", "b", "c")
DEATHS_MAX = 4
"""Twice beside others, and twice on trial: what eats memory takes longer than a first trial."""
HEALTHY = 50
MEMORY_BYTES_MAX = 400_000_000
OPTIONS = (
    "--set", f"takeovers_max={DEATHS_MAX}", "--set", "store.loop_stall_ms_max=700",
    "--set", "store.ring_refresh_ms=200",
)  # fmt: skip

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


class Keeper:
    """Starts again whoever dies, as a supervisor does, and ends whoever uses too much memory, as a kernel does."""

    def __init__(self, members: Fleet) -> None:
        self._members = members
        self.deaths: list[tuple[str, int]] = []
        self._tasks = [asyncio.create_task(self._keep(name)) for name in NAMES]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep(self, name: str) -> None:
        while True:
            process = self._members.members[name].process
            guard = asyncio.create_task(_limit_memory(process))
            self.deaths.append((name, await process.wait()))
            guard.cancel()
            process._transport.close()  # type: ignore[attr-defined]
            await self._members.coordinator(name, *OPTIONS, routers=())


async def _limit_memory(process: asyncio.subprocess.Process) -> None:
    statm = Path(f"/proc/{process.pid}/statm")
    with suppress(OSError, IndexError, ProcessLookupError):
        while int(statm.read_text().split()[1]) * 4_096 < MEMORY_BYTES_MAX:
            await asyncio.sleep(0.02)
        process.kill()


@pytest.mark.parametrize("how", ["kill", "hang", "eat"])
async def test_a_poison_run_is_found_and_those_beside_it_are_not_blamed(
    how: str, fresh_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted, mended = tmp_path / "calls.jsonl", tmp_path / "mended"
    monkeypatch.setenv(journal.JOURNAL, str(noted))
    monkeypatch.setenv(HARMLESS, str(mended))
    async with fleet(fresh_database, APP, tmp_path) as members:
        await asyncio.gather(*(members.coordinator(name, *OPTIONS, routers=()) for name in NAMES))
        keeper = Keeper(members)
        try:
            # Half of them wait in one long call: these get no further between two deaths.
            healthy = [f"healthy-{number}" for number in range(HEALTHY)]
            for place, name in enumerate(NAMES):
                member = members.members[name]
                await start(member, "steps", 20, healthy[place : HEALTHY // 2 : 3])
                await start(member, "one", 4.0, healthy[HEALTHY // 2 + place :: 3])
            await start(members.members["a"], "poison", how, ["poison"])
            began = time.monotonic()
            await until(lambda: _has_status(members, "poison", "quarantined"))
            print(f"{how}: quarantined after {time.monotonic() - began:.2f} s and {len(keeper.deaths)} deaths")
            assert [code for _, code in keeper.deaths] == [
                HUNG_EXIT_CODE if how == "hang" else -signal.SIGKILL
            ] * DEATHS_MAX
            await completed(members, healthy)
            assert len(keeper.deaths) == DEATHS_MAX, "it still harmed somebody"
            print(f"{how}: all others completed after {time.monotonic() - began:.2f} s")
            assert await committed_calls_repeated(members, noted) == set()
            await _check_report(members, keeper, how)
            mended.touch()
            await _release(members)
            await completed(members, ["poison"])
        finally:
            await keeper.stop()


async def _has_status(members: Fleet, run: str, status: str) -> bool:
    return bool(await members.query("SELECT 1 FROM runs WHERE id = $1 AND status = $2", run, status))


async def _check_report(members: Fleet, keeper: Keeper, how: str) -> None:
    """What an operator reads: how often, who, and what was under way."""
    shown = await _ask(members, "GET", "/v1/runs/poison")
    failure = shown["failure"]
    assert failure["kind"] == "poisoned_run"
    assert f"{DEATHS_MAX} coordinators died" in failure["message"]
    assert "bad#1 (agent bad, attempt 1)" in failure["message"]
    died = await members.query(
        "SELECT incarnation, name FROM coordinators WHERE 'poison' = ANY (trial) ORDER BY incarnation"
    )
    names = ", ".join(f"{row['name']} (incarnation {row['incarnation']})" for row in died)
    assert f"in its trials: {names or 'none'}. " in failure["message"]
    if how != "eat":  # which may take longer than a trial
        assert sorted(row["name"] for row in died) == sorted(name for name, _ in keeper.deaths[2:])
    if how == "hang":
        assert "poison/1/bad#1 blocks it" in members.log(keeper.deaths[-1][0])


async def _one_that_is_up(members: Fleet) -> Member | None:
    """The one that died last may still be starting."""
    up = [member for member in members.members.values() if member.said and member.process.returncode is None]
    return up[0] if up else None


async def _release(members: Fleet) -> None:
    assert (await _ask(members, "POST", "/v1/runs/poison/release"))["status"] == "running"


async def _ask(members: Fleet, method: str, path: str) -> dict[str, dict[str, str]]:
    up = await until(lambda: _one_that_is_up(members))
    connection = Connection(up.port)
    try:
        answer = await connection.request(method, path)
        assert answer.status == 200, answer.body
        said: dict[str, dict[str, str]] = answer.json()
        return said
    finally:
        connection.close()
