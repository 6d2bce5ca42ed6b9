"""The log itself: a row that somebody, or something, has changed."""

from __future__ import annotations

from pointsman.testing.chaos.drill import Drill
from pointsman.testing.chaos.schedule import schedule

YOUNG = """
SELECT id, number FROM runs r
WHERE owner = $1 AND id LIKE $2 AND status = 'running' AND sequence <= 9
  AND EXISTS (SELECT FROM streams s WHERE s.number = r.number AND s.type = 'CallCompleted')
ORDER BY sequence LIMIT 1
"""
"""A run that has a result to change, and not yet many: one that was taken over may have none at its third event."""
CHANGE = """
UPDATE streams SET body = '{"call":"step#1","output":41}'
WHERE number = $1 AND sequence = (
    SELECT min(sequence) FROM streams WHERE number = $1 AND type = 'CallCompleted'
) RETURNING sequence
"""
STATUSES = "SELECT id, status FROM runs WHERE id = ANY($1::text[])"


@schedule(
    "corrupted-row",
    fault="a recorded result is changed in the database, and the coordinator that owns the run is killed",
    sees="that run is `quarantined`, and says which event is damaged; all others go on",
    promised="nothing is replayed over a changed, missing or exchanged event: checksums are chained over each run",
    not_promised="the damaged event's content: `pointsman runs show` has what is whole, a backup the rest",
)
async def corrupted_row(drill: Drill) -> None:
    for _ in range(drill.rounds):
        await drill.flow()
        victim = await drill.busiest()
        while not (young := await drill.site.query(YOUNG, victim.incarnation, f"{drill.prefix}-%")):
            await drill.flow(0.05)
        async with drill.fault():
            changed = await drill.site.query(CHANGE, young[0]["number"])
            drill.site.kill(victim.name)
        drill.damaged.add(young[0]["id"])
        drill.require("a row was changed", len(changed) == 1, young[0]["id"])
        await drill.site.until_back(victim.name, victim.incarnation)
    await drill.flow()
    statuses = {row["id"]: row["status"] for row in await drill.site.query(STATUSES, list(drill.damaged))}
    drill.facts["damaged"] = statuses
    drill.require("each damaged run is quarantined", set(statuses.values()) == {"quarantined"}, statuses)
