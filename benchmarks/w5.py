"""w5: latency at rest. One run of one step at a time on an idle coordinator, from the wish to the result."""

from __future__ import annotations

from typing import Any

from benchmarks.meter import percentiles
from benchmarks.programs import app
from benchmarks.w1 import drive
from pointsman import CoordinatorSettings
from pointsman.stores.postgres.store import PostgresStore


async def measure(dsn: str, *, runs: int, repeat: int) -> dict[str, Any]:
    async with app.running(PostgresStore(dsn), CoordinatorSettings(name="w5")) as verbs:
        await drive(verbs, "one_step", 100, 1)
        rounds = [await drive(verbs, "one_step", runs, 1) for _ in range(repeat)]
    figures = sorted(percentiles(latencies, 50, 95, 99) for latencies in rounds)
    p50, p95, p99 = figures[len(figures) // 2]
    return {
        "workload": "w5", "runs": runs, "repeat": repeat,
        "latency_ms": {"p50": round(p50 * 1e3, 3), "p95": round(p95 * 1e3, 3), "p99": round(p99 * 1e3, 3)},
    }  # fmt: skip
