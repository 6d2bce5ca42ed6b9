"""What the logs say of an agent that was made to fail for a while: what it cost, and what was spared.

Must not know who made it fail.
"""

from __future__ import annotations

import asyncpg

CALLS = """
SELECT e.type, count(*) AS n FROM events e
WHERE e.run LIKE $1 AND e.codec = 0 AND e.body->>'call' LIKE $2
  AND e.type IN ('AttemptFailed', 'CallReassigned', 'CallHeld')
GROUP BY 1
"""
PASSED_OVER = """
SELECT count(*) FROM events e
WHERE e.run LIKE $1 AND e.codec = 0 AND e.type = 'AgentSelected' AND e.body->>'agent' <> $2
  AND e.body->>'reason' LIKE '%; passed over: %' AND position($2 IN e.body->>'reason') > 0
"""
BREAKER = """
SELECT type, count(*) AS n FROM system_events
WHERE stream = $1 AND type IN ('BreakerOpened', 'BreakerClosed')
GROUP BY 1
"""


async def count(connection: asyncpg.Connection, agent: str, runs_like: str) -> dict[str, int]:
    """Of the runs whose ids are LIKE `runs_like`, as plain data.

    Calls of an agent that is away end in two ways: those that were made are reassigned; those that were not yet made
    are spared, because selection passes over an agent whose breaker is open.
    """
    of_calls = await connection.fetch(CALLS, runs_like, f"{agent}#%")
    of_breaker = await connection.fetch(BREAKER, f"agent/{agent}")
    counted = {row["type"]: row["n"] for row in (*of_calls, *of_breaker)}
    return {
        "attempts_failed": counted.get("AttemptFailed", 0),
        "calls_reassigned": counted.get("CallReassigned", 0),
        "calls_held": counted.get("CallHeld", 0),
        "passed_over": await connection.fetchval(PASSED_OVER, runs_like, agent),
        "breaker_opened": counted.get("BreakerOpened", 0),
        "breaker_closed": counted.get("BreakerClosed", 0),
    }
