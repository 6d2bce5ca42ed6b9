"""What a workload costs: wall time, CPU of this process and of PostgreSQL's, WAL, commits, peak memory."""

from __future__ import annotations

import os
import resource
import time
from dataclasses import dataclass
from pathlib import Path

import asyncpg

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass
class Reading:
    wall_s: float
    client_cpu_s: float
    server_cpu_s: float
    wal_bytes: int
    commits: int

    def since(self, before: Reading) -> Reading:
        return Reading(
            *(after - start for after, start in zip(vars(self).values(), vars(before).values(), strict=True))
        )


class Meter:
    """Reads one PostgreSQL server through its own connection, and its processes' CPU through /proc when it is local."""

    def __init__(self, connection: asyncpg.Connection, directory: Path | None) -> None:
        self._connection = connection
        self._directory = directory
        self._gone: dict[int, float] = {}

    async def read(self) -> Reading:
        await self._connection.execute("SELECT pg_stat_force_next_flush()")
        row = await self._connection.fetchrow(
            "SELECT pg_current_wal_lsn() - '0/0'::pg_lsn AS wal,"
            " (SELECT sum(xact_commit) FROM pg_stat_database) AS commits"
        )
        assert row is not None
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return Reading(
            time.perf_counter(),
            usage.ru_utime + usage.ru_stime,
            self._server_cpu(),
            int(row["wal"]),
            int(row["commits"]),
        )

    def _server_cpu(self) -> float:
        """CPU seconds of the postmaster's children that live now; connections of a benchmark outlive its readings."""
        if self._directory is None:
            return 0.0
        postmaster = int(next(self._directory.rglob("postmaster.pid")).read_text().split()[0])
        return sum(cpu_s for parent, cpu_s in processes().values() if parent == postmaster)

    def peak_rss_mb(self) -> dict[str, float]:
        return {"client": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def processes() -> dict[int, tuple[int, float]]:
    """Parent and CPU seconds so far of every living process, by pid. Empty where there is no /proc."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(") ")[2].split()
        except OSError:
            continue
        found[int(stat.parent.name)] = (int(fields[1]), (int(fields[11]) + int(fields[12])) / TICKS_PER_S)
    return found


def machine_cpu_s() -> float:
    """CPU seconds that all cores together have worked since the machine started; 0 where there is no /proc."""
    try:
        user, nice, system, _idle, _wait, irq, softirq = Path("/proc/stat").read_text().split(maxsplit=8)[1:8]
    except OSError:
        return 0.0
    return sum(map(int, (user, nice, system, irq, softirq))) / TICKS_PER_S


def percentiles(values: list[float], *wanted: float) -> list[float]:
    """Nearest-rank percentiles, in the values' unit."""
    ordered = sorted(values)
    return [ordered[min(len(ordered) - 1, int(len(ordered) * p / 100))] for p in wanted]
