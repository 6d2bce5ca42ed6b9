"""PostgreSQL: restarted, crashed, out of connections, impatient."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from typing import Any

import asyncpg

from pointsman.testing.chaos.drill import Drill, own
from pointsman.testing.chaos.own import CONNECTIONS_MAX
from pointsman.testing.chaos.schedule import schedule

EXHAUSTED_S = 1.5
IMPATIENT = "30ms"
LOCKED_S = 1.0


@schedule(
    "database-restart",
    fault="PostgreSQL is restarted every few seconds",
    sees="requests wait, or get 503 `store_unavailable`; runs stand still and go on",
    promised="nothing acknowledged is lost; no coordinator is taken over from, each goes on as the same incarnation",
    not_promised="service while it is away",
    short=2,
    long=8,
    needs=["database"],
)
async def database_restart(drill: Drill) -> None:
    before = {owner.incarnation for owner in await drill.site.owners()}
    for _ in range(drill.rounds):
        await drill.flow()
        async with drill.fault():
            await drill.site.stop_database()
            await drill.site.start_database()
    await drill.flow()
    after = {owner.incarnation for owner in await drill.site.owners()}
    drill.require("nobody was taken over from", before == after, f"{sorted(before)} → {sorted(after)}")


@schedule(
    "database-crash",
    fault="PostgreSQL is killed (SIGKILL) and started again",
    sees="as for a restart, and the time that its recovery takes",
    promised="what was acknowledged was on its disk: nothing is lost",
    not_promised="service while it recovers; anything, if the disk lies about fsync",
    long=5,
    needs=["database"],
)
async def database_crash(drill: Drill) -> None:
    for _ in range(drill.rounds):
        await drill.flow()
        async with drill.fault():
            await drill.site.kill_database()
            await drill.site.start_database()
    await drill.flow()


@schedule(
    "out-of-connections",
    fault="others take all connections of PostgreSQL, and the coordinators lose theirs",
    sees="as for a restart: 503, or a wait",
    promised="nothing acknowledged is lost; a coordinator that can't come back in time is taken over from",
    not_promised="service until connections are free again; plan for about twelve for each coordinator",
    long=3,
)
async def out_of_connections(drill: Drill) -> None:
    most, free = 0, 0
    for _ in range(drill.rounds):
        await drill.flow()
        async with drill.fault(), AsyncExitStack() as stack:
            taken = free = await _take_all(drill.site.dsn, stack)
            for proxy in own(drill).proxies.values():
                proxy.cut()
            until = time.monotonic() + EXHAUSTED_S
            while time.monotonic() < until:
                taken += await _take_all(drill.site.dsn, stack)
                await drill.flow(0.01)
            most = max(most, taken)
    await drill.flow()
    drill.facts["connections_taken"] = most
    drill.require("the coordinators did not get theirs back", most > free, f"{free} were free, {most} were taken")


async def _take_all(dsn: str, stack: AsyncExitStack) -> int:
    """Connect until the server refuses; how many that were. They are closed with the stack."""
    taken = 0
    while taken < CONNECTIONS_MAX:
        try:
            connection: asyncpg.Connection[Any] = await asyncpg.connect(dsn)
        except asyncpg.TooManyConnectionsError:
            break
        stack.push_async_callback(connection.close)
        taken += 1
    return taken


@schedule(
    "statement-timeout",
    fault="the server ends every statement after 30 ms while the tables are locked for 1 s",
    sees="requests wait, or get 503; runs stand still",
    promised="a statement that was ended did not happen, and is sent again; nothing acknowledged is lost",
    not_promised="progress, if the server's limit is shorter than an append takes",
    long=3,
)
async def statement_timeout(drill: Drill) -> None:
    for _ in range(drill.rounds):
        await drill.flow()
        connection: asyncpg.Connection[Any] = await asyncpg.connect(drill.site.dsn)
        try:
            async with drill.fault():
                await connection.execute(f"ALTER DATABASE postgres SET statement_timeout = '{IMPATIENT}'")
                for proxy in own(drill).proxies.values():
                    proxy.cut()  # it is read when a session begins
                async with connection.transaction():
                    await connection.execute("LOCK TABLE runs, coordinators IN ACCESS EXCLUSIVE MODE")
                    await drill.flow(LOCKED_S)
                await connection.execute("ALTER DATABASE postgres RESET statement_timeout")
        finally:
            await connection.close()
        for proxy in own(drill).proxies.values():
            proxy.cut()
    await drill.flow()
