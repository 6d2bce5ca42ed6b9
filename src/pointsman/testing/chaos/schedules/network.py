"""The network between coordinators and PostgreSQL: connections cut, a partition, a slow link."""

from __future__ import annotations

import asyncio

from pointsman.testing.chaos.drill import Drill, own
from pointsman.testing.chaos.schedule import schedule

CUTS = 12
DELAY_S = 0.05
SLOW_S = 2.0


@schedule(
    "cut-mid-statement",
    fault="the connections of a coordinator break after PostgreSQL did what was asked, before it is heard",
    sees="nothing, or a wait",
    promised="the coordinator asks the log what became of its append: nothing is lost, nothing is appended twice",
    not_promised="that a start whose answer broke was not made: send it again with its id",
    long=5,
)
async def cut_mid_statement(drill: Drill) -> None:
    cut = 0
    for _ in range(drill.rounds):
        await drill.flow()
        async with drill.fault():
            for _ in range(CUTS):
                victim = own(drill).proxies[(await drill.busiest()).name]
                victim.swallowed.clear()
                victim.is_deaf = True
                await asyncio.wait_for(victim.swallowed.wait(), 10)
                victim.is_deaf = False
                victim.cut()
                cut += 1
                await drill.flow(0.1)
    await drill.flow()
    drill.facts["cuts"] = cut


@schedule(
    "connections-ended",
    fault="PostgreSQL ends all connections of all coordinators (`pg_terminate_backend`)",
    sees="nothing, or a wait",
    promised="nothing acknowledged is lost; what was under way is looked up in the log",
    not_promised="that no coordinator is taken over from: its lock was free for a moment",
    needs=[],
)
async def connections_ended(drill: Drill) -> None:
    ended = 0
    for _ in range(drill.rounds):
        await drill.flow()
        async with drill.fault():
            rows = await drill.site.query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name LIKE 'pointsman-%'"
            )
            ended += len(rows)
    await drill.flow()
    drill.facts["connections_ended"] = ended
    drill.require("there were connections to end", ended > 0, ended)


@schedule(
    "partition",
    fault="nothing passes between one coordinator and PostgreSQL until its runs were taken over",
    sees="its runs stand still for the lease's time to live and until they are taken over: 3 to 4.5 s; the router "
    "sends elsewhere",
    promised="it stops by its own reckoning before others may act, and what it still sends is fenced",
    not_promised="calls under way there are made again elsewhere with the same idempotency key",
    long=3,
)
async def partition(drill: Drill) -> None:
    for _ in range(drill.rounds):
        await drill.flow()
        victim = await drill.busiest()
        async with drill.fault():
            own(drill).proxies[victim.name].block()
            await drill.site.until_ended(victim.incarnation)
            await drill.flow(0.5)
            own(drill).proxies[victim.name].unblock()
        await drill.site.until_back(victim.name, victim.incarnation)


@schedule(
    "slow-database",
    fault="every message to and from PostgreSQL takes 50 ms longer",
    sees="everything takes longer",
    promised="nobody is taken over from, nothing is refused",
    not_promised="latency",
    long=3,
)
async def slow_database(drill: Drill) -> None:
    before = {owner.incarnation for owner in await drill.site.owners()}
    for _ in range(drill.rounds):
        await drill.flow()
        async with drill.fault():
            for proxy in own(drill).proxies.values():
                proxy.delay_s = DELAY_S
            await drill.flow(SLOW_S)
            for proxy in own(drill).proxies.values():
                proxy.delay_s = 0.0
    await drill.flow()
    after = {owner.incarnation for owner in await drill.site.owners()}
    drill.require("nobody was taken over from", before == after, f"{sorted(before)} → {sorted(after)}")
