"""The mode on a real cluster: overload takes it to degraded and its end brings it back, without anybody; new runs are
shed meanwhile, and what was accepted is done."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fleet import Fleet, Member, fleet
from tests.support.http import Connection

pytestmark = [pytest.mark.postgres, pytest.mark.slow]
APP = "tests.acceptance.modes_app:app"
CAPACITY = 40
"""Four at a time, of 0.1 s each."""
DEADLINE_S = 6
SEEN_S = 5
"""For everyone to see a mode that was set: they look four times a second."""
SETTINGS = ("--set", "shed_wait_s=2", "--set", "degraded_wait_s=1", "--set", "mode_stay_s=2")


@pytest.fixture
async def members(fresh_database: str, tmp_path: Path) -> AsyncIterator[Fleet]:
    async with fleet(fresh_database, APP, tmp_path) as found:
        router = await found.router()
        for name in ("a", "b"):
            await found.coordinator(name, *SETTINGS, routers=[router])
        await found.known(router, {"a", "b"})
        yield found


async def mode(member: Member) -> dict[str, Any]:
    connection = Connection(member.port)
    try:
        said: dict[str, Any] = (await connection.request("GET", "/v1/mode")).json()
        return said
    finally:
        connection.close()


async def until(mode_wanted: str, *where: Member) -> float:
    """Until all of them say so; how long that took."""
    began = time.monotonic()
    async with asyncio.timeout(30):
        for member in where:
            while (await mode(member))["mode"] != mode_wanted:
                await asyncio.sleep(0.02)
    return time.monotonic() - began


class Clients:
    """New runs by the clock, through the router."""

    def __init__(self, router: Member) -> None:
        self.port = router.port
        self.seen: Counter[str] = Counter()
        self.outputs: list[list[str]] = []
        self.retry_after: set[str] = set()
        self._idle: list[Connection] = []

    async def offer(self, per_second: float, seconds: float) -> None:
        tasks, loop = [], asyncio.get_running_loop()
        began = loop.time()
        for number in range(round(per_second * seconds)):
            await asyncio.sleep(max(began + number / per_second - loop.time(), 0))
            tasks.append(asyncio.create_task(self._one()))
        await asyncio.gather(*tasks)

    async def _one(self) -> None:
        connection = self._idle.pop() if self._idle else Connection(self.port)
        body = {"workflow": "ask", "input": "why?"}
        began = time.monotonic()
        answer = await connection.request("POST", f"/v1/runs?wait={DEADLINE_S}", body)
        took = time.monotonic() - began
        self._idle.append(connection)
        if answer.status == 503:
            assert answer.json()["code"] == "overloaded", answer.body
            self.retry_after.add(answer.headers["retry-after"])
            self.seen["shed"] += 1
        elif answer.json()["status"] == "completed" and took <= DEADLINE_S:
            self.outputs.append(answer.json()["output"])
            self.seen["good"] += 1
        else:
            self.seen["late"] += 1

    def close(self) -> None:
        for connection in self._idle:
            connection.close()


async def test_overload_degrades_a_cluster_and_its_end_brings_it_back(members: Fleet) -> None:
    router, a, b = (members.members[name] for name in ("router", "a", "b"))
    clients = Clients(router)
    load = asyncio.create_task(clients.offer(3 * CAPACITY, 7))
    degraded_s = await until("degraded", a, b)
    await load
    back_s = await until("full", a, b)
    clients.close()
    said = await mode(b)
    print(f"degraded after {degraded_s:.2f} s, full {back_s:.2f} s after the end; {dict(clients.seen)}")
    assert clients.seen["good"] > 0.5 * 7 * CAPACITY
    assert clients.seen["shed"] > CAPACITY
    assert clients.seen["late"] < 0.1 * clients.seen["good"]
    assert all(1 <= int(seconds) <= 30 for seconds in clients.retry_after)
    assert {output[0] for output in clients.outputs} == {"full", "degraded"}
    assert all((output[2:] == []) == (output[0] == "degraded") for output in clients.outputs), "the memory is optional"
    up = said["changes"][0]
    assert (up["type"], up["data"]["mode"], up["data"]["signal"]) == ("ModeChanged", "degraded", "wait")
    assert up["data"]["coordinator"] in ("a", "b")
    assert said["changes"][-1]["data"]["mode"] == "full"
    open_runs = await members.query("SELECT count(*) AS n FROM runs WHERE ended_at IS NULL")
    assert open_runs[0]["n"] == 0, "what was accepted is done"


async def test_what_a_person_sets_is_seen_by_all_and_outlives_a_coordinator(members: Fleet) -> None:
    router, a, b = (members.members[name] for name in ("router", "a", "b"))
    connection = Connection(router.port)
    pinned = await connection.request("PUT", "/v1/mode", {"mode": "emergency", "by": "ann", "reason": "a fire"})
    assert pinned.status == 200
    assert await until("emergency", a, b) < SEEN_S
    await b.leave(signal.SIGKILL)
    c = await members.coordinator("c", *SETTINGS, routers=[router])
    said = await mode(c)
    assert (said["mode"], said["by"], said["cause"]) == ("emergency", "ann", "a fire")
    run = await connection.request("POST", "/v1/runs?wait=20", {"workflow": "ask", "input": "why?"})
    assert run.json()["output"][0] == "emergency"
    released = await connection.request("PUT", "/v1/mode", {"mode": "auto", "by": "ann"})
    assert released.json()["mode"] == "full"
    assert await until("full", a, c) < SEEN_S
    connection.close()
