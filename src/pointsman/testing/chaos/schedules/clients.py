"""Clients that ask twice."""

from __future__ import annotations

from pointsman.testing.chaos.app import Work
from pointsman.testing.chaos.drill import Drill
from pointsman.testing.chaos.schedule import schedule

COPIES = 4


@schedule(
    "duplicate-starts",
    fault=f"every start is sent {COPIES} times at once, and a coordinator is killed meanwhile",
    sees="one run; each copy of the request is answered with it",
    promised="at most one answer says 201, the others 200, whichever coordinators they reached",
    not_promised="that one of them says 201: the answer of the one that started it may have been lost",
    work=Work(steps=3, step_s=0.05),
    clients=12,
    duplicates=COPIES,
    needs=["processes"],
)
async def duplicate_starts(drill: Drill) -> None:
    for _ in range(drill.rounds):
        await drill.flow()
        victim = await drill.busiest()
        async with drill.fault():
            drill.site.kill(victim.name)
        await drill.site.until_back(victim.name, victim.incarnation)
    created = drill.load.created
    twice = [run for run, count in created.items() if count > 1]
    drill.facts["started"] = len(created)
    drill.facts["without_201"] = sum(count == 0 for count in created.values())
    drill.require("no run was started twice", not twice, f"{len(twice)}: {twice[:3]}")
    enough = 0.9 * len(created)
    drill.require("nearly all starts say 201 once", sum(count == 1 for count in created.values()) >= enough, created)
