"""Every coordinator replaced under load, by SIGTERM and by SIGKILL: no run is lost, and no client sees an error."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from tests.support.fleet import Fleet, Member, fleet
from tests.support.load import Load, load

APP = f"{Path(__file__).with_name('rolling_app.py')}:app"
NAMES = ("a", "b", "c")
EACH = 4

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


async def lost(members: Fleet, clients: Load) -> list[str]:
    """Acknowledged runs that have not ended as they should, once none is under way."""
    async with asyncio.timeout(10):
        while await members.query("SELECT 1 FROM runs WHERE ended_at IS NULL LIMIT 1"):
            await asyncio.sleep(0.05)
    rows = await members.query("SELECT id FROM runs WHERE status = 'completed'")
    return sorted(clients.runs.keys() - {row["id"] for row in rows})


async def three(members: Fleet, router: Member) -> None:
    await asyncio.gather(*(members.coordinator(name, routers=[router]) for name in NAMES))
    await members.known(router, set(NAMES))


async def longest_standstill_s(members: Fleet) -> float:
    """The longest time between two events of a run of steps of 0.05 s."""
    rows = await members.query(
        "SELECT max(pause) AS pause FROM"
        " (SELECT e.at - lag(e.at) OVER (PARTITION BY e.run ORDER BY e.sequence) AS pause"
        " FROM events e JOIN runs r ON r.id = e.run WHERE r.workflow = 'steps') pauses"
    )
    return float(rows[0]["pause"]) / 1000


def report(what: str, clients: Load, standstill_s: float, took: list[float]) -> None:
    print(
        f"{what}: left in {took} s; longest time without any answer {clients.gap_s:.3f} s, slowest request"
        f" {clients.slowest_s:.3f} s, longest standstill of a run {standstill_s:.3f} s;"
        f" {len(clients.runs)} runs, {dict(clients.done)}"
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
async def test_replacing_all_coordinators_costs_no_run_and_no_client_an_error(
    fresh_database: str, tmp_path: Path, number: signal.Signals
) -> None:
    took = []
    async with fleet(fresh_database, APP, tmp_path) as members:
        router = await members.router()
        await three(members, router)
        async with load(router.port, each=EACH) as clients:
            for name in NAMES:
                await clients.answers(10 * EACH)
                code, seconds = await members.members[name].leave(number)
                assert code == (0 if number is signal.SIGTERM else -number)
                took.append(round(seconds, 3))
                await members.coordinator(name, routers=[router])
                await members.known(router, set(NAMES))
            await clients.answers(10 * EACH)
        assert await lost(members, clients) == []
        report(number.name, clients, await longest_standstill_s(members), took)
    assert clients.errors == []
    assert clients.streams_cut == 0
    assert min(clients.done[kind] for kind in ("start and wait", "read", "wait", "signal", "stream")) >= EACH
