"""From what the drill saw to figures. Pure but for `read_…`, which ask the tables.

It trusts nobody's word: what was repeated is read from the agents' own journal, what was lost from the tables, and
when each orphaned run went on from both. A repeated call is one whose agent was started more than once; it is a
fault only when its outcome had been committed before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from pointsman.demo import journal
from pointsman.demo.faults import Plan, Struck, Victim

OUTCOMES: Final = """
SELECT run, epoch, body->>'call' AS call FROM events
WHERE run LIKE $1 AND type IN ('CallCompleted', 'CallFailed') AND codec = 0
"""


@dataclass
class Observed:
    """What the drill saw."""

    tickets: int
    seconds: float
    latencies_s: list[float]
    client_errors: list[str]
    struck: Struck
    statuses: dict[str, int]
    journal_lines: list[journal.Line]
    outcome_epochs: dict[str, int]
    """By idempotency key: the epoch under which the call's outcome was committed."""
    first_events_ms: dict[tuple[str, int], float]
    """By orphan and the epoch under which it was orphaned: time of the first event that its new owner appended."""
    failing: dict[str, int]
    """See `outage.count`. Empty: no agent was made to fail."""


async def read_statuses(connection: asyncpg.Connection, runs_like: str) -> dict[str, int]:
    """How many of the runs whose ids are LIKE `runs_like` have which status."""
    rows = await connection.fetch("SELECT status, count(*) AS n FROM runs WHERE id LIKE $1 GROUP BY 1", runs_like)
    return {row["status"]: row["n"] for row in rows}


async def read_outcome_epochs(connection: asyncpg.Connection, runs_like: str) -> dict[str, int]:
    """See `Observed.outcome_epochs`."""
    return {f"{row['run']}/1/{row['call']}": row["epoch"] for row in await connection.fetch(OUTCOMES, runs_like)}


async def read_first_events_ms(
    connection: asyncpg.Connection, victims: Iterable[Victim]
) -> dict[tuple[str, int], float]:
    """See `Observed.first_events_ms`."""
    firsts: dict[tuple[str, int], float] = {}
    for victim in victims:
        for run, epoch in victim.orphans.items():
            at = await connection.fetchval("SELECT min(at) FROM events WHERE run = $1 AND epoch > $2", run, epoch)
            if at is not None:
                firsts[run, epoch] = float(at)
    return firsts


def takeover_ms(
    victims: Sequence[Victim], lines: Iterable[journal.Line], first_events_ms: dict[tuple[str, int], float]
) -> list[float]:
    """For each orphan of them: from the signal to its first dispatch or outcome by its new owner."""
    starts: dict[str, list[journal.Line]] = {}
    for line in lines:
        if line.event == "start":
            starts.setdefault(line.run, []).append(line)
    times = []
    for victim in victims:
        for run, epoch in victim.orphans.items():
            seen = [line.wall_ms for line in starts.get(run, ()) if line.epoch > epoch and line.pid != victim.pid]
            if (run, epoch) in first_events_ms:
                seen.append(first_events_ms[run, epoch])
            if seen:
                times.append(max(min(seen) - victim.wall_ms, 0.0))
    return times


def completed_calls_repeated(lines: Iterable[journal.Line], outcome_epochs: dict[str, int]) -> set[str]:
    """Keys whose agent was started again although the outcome was committed.

    Told by epochs, not by clocks: a start under a later epoch than the outcome's came after a claim, and so after the
    outcome was in the log; and under one epoch an attempt starts once.
    """
    seen: set[tuple[str, int, int]] = set()
    faults: set[str] = set()
    for line in lines:
        if line.event != "start":
            continue
        attempt = (line.key, line.epoch, line.attempt)
        if line.epoch > outcome_epochs.get(line.key, 2**62) or attempt in seen:
            faults.add(line.key)
        seen.add(attempt)
    return faults


def figures(observed: Observed, accuracy: dict[str, Any], source: str) -> dict[str, Any]:
    """The drill's result as plain data: what `--json` prints."""
    counted = journal.count(observed.journal_lines)
    struck = observed.struck
    latencies = sorted(latency * 1000 for latency in observed.latencies_s)
    completed = observed.statuses.get("completed", 0)
    failed = observed.statuses.get("failed", 0) + observed.statuses.get("cancelled", 0)
    return {
        "tickets": observed.tickets, "source": source, "completed": completed, "failed": failed,
        "lost": observed.tickets - completed - failed,
        "calls": counted.calls, "calls_repeated": counted.calls_repeated,
        "completed_calls_repeated": len(completed_calls_repeated(observed.journal_lines, observed.outcome_epochs)),
        "client_errors": len(observed.client_errors),
        "kills": len(struck.kills), "orphaned": sum(len(victim.orphans) for victim in struck.kills),
        "takeover_ms": _takeovers(observed, struck.kills),
        "stops": len(struck.stops), "stopped_orphaned": sum(len(victim.orphans) for victim in struck.stops),
        "stop_takeover_ms": _takeovers(observed, struck.stops),
        "database_restarts": len(struck.restarts_ms), "database_away_ms": [round(each) for each in struck.restarts_ms],
        "throughput_per_s": round(observed.tickets / observed.seconds, 1),
        "latency_ms": {"p50": rank(latencies, 50), "p95": rank(latencies, 95), "p99": rank(latencies, 99)},
        "selection_accuracy": accuracy, "failing": observed.failing,
    }  # fmt: skip


def rank(ordered: list[float], percent: float) -> float | None:
    """Nearest-rank percentile; None of nothing."""
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))], 1) if ordered else None


def _takeovers(observed: Observed, victims: Sequence[Victim]) -> dict[str, float | None]:
    ordered = sorted(takeover_ms(victims, observed.journal_lines, observed.first_events_ms))
    return {"p50": rank(ordered, 50), "p99": rank(ordered, 99), "max": rank(ordered, 100)}


def went_well(result: dict[str, Any], plan: Plan) -> bool:
    """All answered, none lost, nothing done twice that was done, and every fault really happened."""
    return bool(
        result["completed"] == result["tickets"]
        and result["lost"] == 0
        and result["completed_calls_repeated"] == 0
        and (result["kills"], result["stops"], result["database_restarts"]) == (plan.kills, plan.stops, plan.restarts)
    )
