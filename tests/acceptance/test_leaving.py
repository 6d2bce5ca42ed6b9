"""How one coordinator leaves: with exit code 0, at once where there is a hurry, and without waiting for threads."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.acceptance.test_rolling import APP
from tests.support.fleet import Fleet, fleet
from tests.support.http import Connection

pytestmark = [pytest.mark.postgres, pytest.mark.slow]
LONG_S = 60


@pytest.fixture
async def members(fresh_database: str, tmp_path: Path) -> AsyncIterator[Fleet]:
    async with fleet(fresh_database, APP, tmp_path) as found:
        yield found


async def start(members: Fleet, name: str, workflow: str, run: str, given: object) -> None:
    connection = Connection(members.members[name].port)
    answer = await connection.request("POST", "/v1/runs", {"workflow": workflow, "id": run, "input": given})
    assert answer.status == 201, answer.body
    connection.close()


async def owners(members: Fleet) -> dict[str, str | None]:
    rows = await members.query(
        "SELECT r.id, c.name FROM runs r LEFT JOIN coordinators c ON c.incarnation = r.owner AND c.ended_at IS NULL"
    )
    return {row["id"]: row["name"] for row in rows}


async def owned_by(members: Fleet, run: str, name: str) -> float:
    """When `name` owns the run."""
    async with asyncio.timeout(20):
        while (await owners(members))[run] != name:
            await asyncio.sleep(0.005)
    return time.monotonic()


async def test_a_second_sigterm_hurries_and_runs_go_on_at_once(members: Fleet) -> None:
    await members.coordinator("a", "--set", f"drain_s={LONG_S}", routers=[])
    await start(members, "a", "one", "long", LONG_S)
    await start(members, "a", "steps", "short", 200)
    # The poll of the next owner is far away: only the hint brings it the run in time.
    await members.coordinator("b", "--set", "claim_poll_ms=60000", "--set", "sweep_ms=60000", routers=[])
    leaving = members.members["a"].process
    began = time.monotonic()
    leaving.send_signal(signal.SIGTERM)
    moved_s = await owned_by(members, "short", "b") - began
    assert (await owners(members))["long"] == "a", "its call has the whole of drain_s"
    assert leaving.returncode is None
    began = time.monotonic()
    leaving.send_signal(signal.SIGTERM)
    hurried_s = await owned_by(members, "long", "b") - began
    async with asyncio.timeout(10):
        assert await leaving.wait() == 0
    print(f"handed over after {moved_s:.3f} s (a call of 0.05 s among it), in a hurry after {hurried_s:.3f} s")
    assert moved_s < 5 and hurried_s < 5  # noqa: PT018  the poll would take 60 s
    log = members.log("a")
    assert "SIGTERM: leaving" in log
    assert "SIGTERM again: leaving at once" in log
    assert "Traceback" not in log


async def test_a_thread_that_is_still_at_work_does_not_hold_the_process(members: Fleet) -> None:
    await members.coordinator("a", "--set", "drain_s=0.2", routers=[])
    await start(members, "a", "thread", "threaded", LONG_S)
    await members.coordinator("b", routers=[])
    code, seconds = await members.members["a"].leave()
    assert code == 0
    assert seconds < LONG_S / 4
    await owned_by(members, "threaded", "b")


async def test_limits_that_make_no_sense_are_refused(members: Fleet) -> None:
    for option, value in (("--max-age", "0"), ("--max-rss", "-1")):
        with pytest.raises(AssertionError, match="said nothing"):
            await members.coordinator("a", option, value, routers=[])
        assert await members.members["a"].process.wait() == 2
    assert members.log("a").count("must be more than 0") == 2
