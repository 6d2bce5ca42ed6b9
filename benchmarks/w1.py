"""w1: throughput. Runs of five sequential steps of 200 bytes, 100 at a time, one coordinator, PostgreSQL.

The coordinator is configured as `pointsman coordinator` configures itself. Runs are started in process. In the same
run the raw append path is measured: two connections insert batches of 100 rows of the same size and do nothing else.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path
from typing import Any

import asyncpg
import msgspec

from benchmarks.meter import Meter, percentiles
from benchmarks.programs import STEPS, TEXT, app
from pointsman import CoordinatorSettings, StartRun
from pointsman.coordinator.verbs.runs import CoordinatorRuns
from pointsman.stores.postgres.store import PostgresStore

WARM_UP_RUNS = 2_000


async def drive(runs: CoordinatorRuns, workflow: str, count: int, concurrency: int) -> list[float]:
    """Start `count` runs, `concurrency` at a time, and wait for each; seconds from start to result."""
    data = msgspec.json.encode(TEXT)
    left = iter(range(count))
    latencies: list[float] = []

    async def client() -> None:
        for _ in left:
            began = time.perf_counter()
            started = await runs.start(StartRun(workflow, data))
            view = await runs.wait(started.view.head.id, timeout_s=60)
            assert view.head.status == "completed", view
            latencies.append(time.perf_counter() - began)

    await asyncio.gather(*(client() for _ in range(concurrency)))
    return latencies


async def raw_append_rate(dsn: str, seconds: float = 2.0) -> float:
    """Events per second of two connections that append batches of 100 events and do nothing else."""
    connections = [await asyncpg.connect(dsn) for _ in range(2)]
    await connections[0].execute("DROP TABLE IF EXISTS raw_append")
    await connections[0].execute(
        "CREATE TABLE raw_append (run text, sequence bigint, type text, body bytea, PRIMARY KEY (run, sequence))"
    )
    body, deadline = b"x" * 300, time.perf_counter() + seconds

    async def writer(number: int) -> int:
        statement = await connections[number].prepare(
            "INSERT INTO raw_append SELECT r, s, 'CallCompleted', b"
            " FROM unnest($1::text[], $2::bigint[], $3::bytea[]) u(r, s, b)"
        )
        sequence = 0
        while time.perf_counter() < deadline:
            sequence += 1
            names = [f"{number}-{i}" for i in range(100)]
            await statement.fetch(names, [sequence] * 100, [body] * 100)
        return sequence * 100

    began = time.perf_counter()
    events = sum(await asyncio.gather(writer(0), writer(1)))
    rate = events / (time.perf_counter() - began)
    await connections[0].execute("DROP TABLE raw_append")
    for connection in connections:
        await connection.close()
    return rate


async def measure(dsn: str, directory: Path | None, *, runs: int, concurrency: int, repeat: int) -> dict[str, Any]:
    observer = await asyncpg.connect(dsn)
    meter = Meter(observer, directory)
    samples: list[dict[str, float]] = []
    latencies: list[float] = []
    async with app.running(PostgresStore(dsn), CoordinatorSettings(name="w1")) as verbs:
        await drive(verbs, "five_steps", WARM_UP_RUNS, concurrency)
        for _ in range(repeat):
            before = await meter.read()
            latencies += await drive(verbs, "five_steps", runs, concurrency)
            cost = (await meter.read()).since(before)
            steps = runs * STEPS
            samples.append({
                "steps_per_s": steps / cost.wall_s, "seconds": cost.wall_s,
                "client": cost.client_cpu_s / steps * 1_000, "postgres": cost.server_cpu_s / steps * 1_000,
                "wal": cost.wal_bytes / steps, "commits": cost.commits / steps,
            })  # fmt: skip
        rss = meter.peak_rss_mb()
    raw = await raw_append_rate(dsn)
    await observer.close()
    middle = {name: statistics.median(sample[name] for sample in samples) for name in samples[0]}
    p50, p95, p99 = percentiles(latencies, 50, 95, 99)
    return {
        "workload": "w1", "runs": runs, "steps": runs * STEPS, "concurrency": concurrency,
        "seconds": round(middle["seconds"], 3), "steps_per_s": round(middle["steps_per_s"]),
        "samples": [round(sample["steps_per_s"]) for sample in samples],
        "latency_ms": {"p50": round(p50 * 1e3, 2), "p95": round(p95 * 1e3, 2), "p99": round(p99 * 1e3, 2)},
        "cpu_s_per_1k_steps": {
            "total": round(middle["client"] + middle["postgres"], 4), "client": round(middle["client"], 4),
            "postgres": round(middle["postgres"], 4),
        },
        "peak_rss_mb": {name: round(value, 1) for name, value in rss.items()},
        "wal_bytes_per_step": round(middle["wal"]), "commits_per_step": round(middle["commits"], 4),
        "raw_append_events_per_s": round(raw),
    }  # fmt: skip
