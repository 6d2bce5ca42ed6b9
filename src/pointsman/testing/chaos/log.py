"""What the database holds of a drill's runs when all is over, read by SQL of its own: nothing here trusts the engine's
own reading of its log."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import asyncpg
import msgspec

RUNS = "SELECT id, status, sequence FROM runs WHERE id LIKE $1"
EVENTS = """
SELECT run, sequence, epoch, at, type, body->>'call' AS call, body->>'key' AS key,
       codec <> 0 AS is_packed, CASE WHEN type = 'RunCompleted' THEN (body->'output')::text END AS output
FROM events WHERE run LIKE $1 ORDER BY run, sequence
"""
ENDED = "SELECT count(*) FROM coordinators WHERE ended_at >= to_timestamp($1)"


class Head(msgspec.Struct, frozen=True):
    """A run as its row says it."""

    status: str
    sequence: int


class LoggedEvent(msgspec.Struct, frozen=True):
    """An event as its row says it. `at`: milliseconds since 1970 by the database's clock. `output`: JSON text, of the
    event that completed the run. `is_packed`: its body is compressed, and not read here."""

    run: str
    sequence: int
    epoch: int
    at: int
    type: str
    call: str | None = None
    key: str | None = None
    output: str | None = None
    is_packed: bool = False


class Log(msgspec.Struct, frozen=True):
    """`incarnations_ended`: of coordinators, since the drill began, however they ended."""

    runs: dict[str, Head]
    events: list[LoggedEvent]
    incarnations_ended: int = 0

    def without(self, runs: Collection[str]) -> Log:
        return Log(
            {run: head for run, head in self.runs.items() if run not in runs},
            [event for event in self.events if event.run not in runs],
            self.incarnations_ended,
        )


async def read_log(dsn: str, prefix: str, since_ms: float) -> Log:
    """Of the runs whose ids begin with `prefix`. Raises what asyncpg raises."""
    connection: asyncpg.Connection[Any] = await asyncpg.connect(dsn)
    try:
        runs = await connection.fetch(RUNS, f"{prefix}-%")
        events = await connection.fetch(EVENTS, f"{prefix}-%")
        ended = await connection.fetchval(ENDED, since_ms / 1000)
    finally:
        await connection.close()
    return Log(
        {row["id"]: Head(row["status"], row["sequence"]) for row in runs},
        [LoggedEvent(**dict(row)) for row in events],
        ended,
    )
