"""Coordinators and the router: killed, stopped, hung, told to leave."""

from __future__ import annotations

import signal

from pointsman.testing.chaos.app import Work
from pointsman.testing.chaos.drill import Drill, own
from pointsman.testing.chaos.schedule import schedule

HANG_S = 4.0
"""Twice what a coordinator waits before it gives itself up."""


@schedule(
    "kill-one",
    fault="SIGKILL to the coordinator that owns most runs",
    sees="nothing: the router asks another one, its runs go on there",
    promised="nothing acknowledged is lost; no call whose outcome was committed is repeated",
    not_promised="calls under way, or ended and not yet recorded, are made again with the same idempotency key",
    needs=["processes"],
)
async def kill_one(drill: Drill) -> None:
    for _ in range(drill.rounds):
        await drill.flow()
        victim = await drill.busiest()
        async with drill.fault():
            drill.site.kill(victim.name)
        await drill.site.until_ended(victim.incarnation)
        await drill.site.until_back(victim.name, victim.incarnation)


@schedule(
    "kill-all",
    fault="SIGKILL to all coordinators at once",
    sees="503, or a connection that breaks, until the first one is back; then everything goes on by itself. That "
    "is the time in the table: `pointsman up` starts what died after 0.5 s, and after 1, 2, 4, 8, 10 s where it dies "
    "again within 30 s; and three processes that start at once on two busy cores take seconds",
    promised="as above; a start that was not acknowledged may be sent again with its id",
    not_promised="service meanwhile: somebody must start a coordinator (`pointsman up` does)",
    long=3,
    needs=["processes"],
)
async def kill_all(drill: Drill) -> None:
    for _ in range(drill.rounds):
        await drill.flow()
        victims = await drill.site.owners()
        async with drill.fault():
            for victim in victims:
                drill.site.kill(victim.name)
        for victim in victims:
            await drill.site.until_back(victim.name, victim.incarnation)


@schedule(
    "stop-and-wake",
    fault="SIGSTOP to the coordinator that owns most runs, SIGCONT after its runs were taken over",
    sees="its runs stand still for the lease's time to live and until they are taken over: 3 to 4.5 s",
    promised="the woken one appends nothing and decides nothing new: it registers as a new incarnation",
    not_promised="a request that it had decided before may leave it late, with its old epoch and the same key",
    long=3,
    needs=["processes"],
)
async def stop_and_wake(drill: Drill) -> None:
    for _ in range(drill.rounds):
        await drill.flow()
        victim = await drill.busiest()
        async with drill.fault():
            drill.site.kill(victim.name, signal.SIGSTOP)
            await drill.site.until_ended(victim.incarnation)
            await drill.flow(0.5)
            drill.site.kill(victim.name, signal.SIGCONT)
        await drill.site.until_back(victim.name, victim.incarnation)


@schedule(
    "hung-loop",
    fault="an agent blocks the event loop of its coordinator for 4 s",
    sees="runs of that coordinator stand still for 2 s, until it ends itself, and until they are taken over: up to "
    "4.5 s",
    promised="the coordinator names the agent and ends itself (exit code 70); the rest as for a kill",
    not_promised="whatever else that process was doing, up to the moment at which it gave itself up",
    long=3,
)
async def hung_loop(drill: Drill) -> None:
    children = own(drill).cluster.children
    for _ in range(drill.rounds):
        await drill.flow()
        before = {name: child.starts for name, child in children.items()}
        owners = {owner.name: owner for owner in await drill.site.owners()}
        async with drill.fault():
            (own(drill).switches / "hang").write_text(str(HANG_S))
            died = await _first_restarted(drill, before)
        await drill.site.until_back(died, owners[died].incarnation)
        log = children[died].log.read_text(errors="replace")
        drill.require("it said that its loop hung", "event loop" in log and "step" in log, died)


async def _first_restarted(drill: Drill, before: dict[str, int]) -> str:
    for _ in range(600):
        for name, child in own(drill).cluster.children.items():
            if child.starts > before[name]:
                return name
        await drill.flow(0.05)
    raise RuntimeError("no coordinator ended itself although its event loop was blocked")


@schedule(
    "leave",
    fault="SIGTERM to the coordinator that owns most runs",
    sees="nothing: it hands its runs over",
    promised="no client sees an error; no call is repeated whose outcome was committed",
    not_promised="calls that take longer than `drain_s` are made again elsewhere",
    needs=["processes"],
)
async def leave(drill: Drill) -> None:
    for _ in range(drill.rounds):
        await drill.flow()
        victim = await drill.busiest()
        async with drill.fault():
            drill.site.kill(victim.name, signal.SIGTERM)
        await drill.site.until_back(victim.name, victim.incarnation)


@schedule(
    "kill-router",
    fault="SIGKILL to the router",
    sees="a broken or refused connection until there is a router again; the request may be sent again. "
    "`pointsman up` starts it after 0.5 s, and after 1, 2, 4 and 8 s where it dies again within 30 s: that is the time "
    "in the table",
    promised="it holds no state: runs go on without it, and a start that is repeated with its id is the same run",
    not_promised="an answer to the requests that were under way; run two routers to have one at any time",
    work=Work(steps=4, step_s=0.1),
    needs=["processes"],
)
async def kill_router(drill: Drill) -> None:
    for _ in range(drill.rounds):
        await drill.flow()
        pid = drill.site.pids()["router"]
        async with drill.fault():
            drill.site.kill("router")
        await drill.site.until_replaced("router", pid)
        await drill.site.whole()
