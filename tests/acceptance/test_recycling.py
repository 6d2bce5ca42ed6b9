"""Coordinators replace themselves by age and memory, one at a time, under load."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from tests.acceptance.test_rolling import APP, EACH, NAMES, longest_standstill_s, lost, report
from tests.support.fleet import Fleet, Member, fleet
from tests.support.http import Connection
from tests.support.load import load
from tests.support.survivors import until

MAX_AGE_S = 5
FOR_S = float(os.environ.get("POINTSMAN_TEST_RECYCLING_S", "0"))
"""The load goes on for so long, and at least until each coordinator has replaced itself once."""

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


class Watch:
    """How many coordinators the router sends to, looked at all the time."""

    def __init__(self, router: Member) -> None:
        self.fewest = len(NAMES)
        self.incarnations: Counter[str] = Counter()
        self._last: dict[str, int] = {}
        self._connection = Connection(router.port)

    async def look(self) -> None:
        while True:
            rows = (await self._connection.request("GET", "/router/coordinators")).json()["coordinators"]
            live = {row["name"]: row["incarnation"] for row in rows if row["state"] == "live"}
            self.fewest = min(self.fewest, len(live))
            for name, incarnation in live.items():
                if self._last.get(name) != incarnation:
                    self._last[name] = incarnation
                    self.incarnations[name] += 1
            await asyncio.sleep(0.02)

    async def all_replaced(self) -> None:
        while min(self.incarnations[name] for name in NAMES) < 2:
            await asyncio.sleep(0.02)

    def close(self) -> None:
        self._connection.close()


async def turns(members: Fleet) -> list[tuple[str, str, int]]:
    """Who took the turn and who gave it back; not who stood in line."""
    rows = await members.query(
        "SELECT type, at, body FROM system_events WHERE stream = 'recycling' AND type <> 'TurnWanted' ORDER BY sequence"
    )
    return [(row["type"], json.loads(row["body"])["name"], row["at"]) for row in rows]


async def turns_of_all(members: Fleet) -> list[tuple[str, str, int]]:
    """Once each has had one."""
    taken = await turns(members)
    return taken if {name for kind, name, _ in taken if kind == "TurnGivenBack"} == set(NAMES) else []


async def test_coordinators_replace_themselves_one_at_a_time_and_no_client_sees_an_error(
    fresh_database: str, tmp_path: Path
) -> None:
    async with fleet(fresh_database, APP, tmp_path) as members:
        router = await members.router()
        await asyncio.gather(
            *(members.coordinator(name, "--max-age", str(MAX_AGE_S), routers=[router]) for name in NAMES)
        )
        await members.known(router, set(NAMES))
        pids = {name: members.members[name].process.pid for name in NAMES}
        watch = Watch(router)
        async with load(router.port, each=EACH) as clients:
            looking = asyncio.create_task(watch.look())
            async with asyncio.timeout(FOR_S + 120):
                await asyncio.gather(watch.all_replaced(), asyncio.sleep(FOR_S))
            # Before they are told to leave: who is then in the middle of its turn does not give it back.
            taken = await until(lambda: turns_of_all(members))
        assert await lost(members, clients) == []  # before all leave: nobody would end what is still under way
        for name in NAMES:
            assert members.members[name].process.returncode is None
            assert members.members[name].process.pid == pids[name]
            code, _ = await members.members[name].leave()
            assert code in (0, -signal.SIGTERM)  # the latter: it was just beginning anew, and held nothing
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        watch.close()
        report(f"replaced {dict(watch.incarnations)}", clients, await longest_standstill_s(members), [])
    assert clients.errors == []
    assert clients.streams_cut == 0
    # The turn goes round: who takes it gives it back before the next one has it.
    pairs = [taken[at : at + 2] for at in range(0, len(taken), 2)]
    for pair in pairs[:-1]:
        assert [kind for kind, _, _ in pair] == ["TurnTaken", "TurnGivenBack"]
        assert pair[0][1] == pair[1][1]
