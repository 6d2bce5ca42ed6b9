"""`python -m benchmarks {w1,w5,triage,failover,overload} [--json] [...]`: one workload, its figures on stdout."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import w1, w5
from benchmarks.failover import command as failover
from benchmarks.overload import command as overload
from benchmarks.triage import command as triage
from pointsman.process import event_loop_factory, tune_process
from pointsman.stores.postgres.embedded import EmbeddedPostgres
from pointsman.stores.postgres.migrate import migrate


def main() -> int:
    arguments = _parser().parse_args()
    tune_process()
    code = 0
    if arguments.workload == "triage":
        figures, code = triage.main(arguments)
    elif arguments.workload == "failover":
        figures, code = failover.main(arguments)
    elif arguments.workload == "overload":
        figures, code = overload.main(arguments)
    elif arguments.store:
        figures = _measure(arguments, arguments.store, None)
    else:
        with tempfile.TemporaryDirectory(prefix="pointsman-bench-") as directory:
            path = Path(directory)
            path.chmod(0o755)
            with EmbeddedPostgres(path) as server:
                figures = _measure(arguments, server.start(), path)
    if arguments.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:28} {value}")
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    workloads = parser.add_subparsers(dest="workload", required=True)
    steps = {
        "w1": workloads.add_parser("w1", help="throughput of runs of five steps"),
        "w5": workloads.add_parser("w5", help="latency of a run of one step at rest"),
    }
    for workload in steps.values():
        workload.add_argument("--runs", type=int, help="runs in each repetition")
        workload.add_argument("--repeat", type=int, default=5, help="repetitions; figures are of the median one")
        workload.add_argument("--store", help="PostgreSQL to use; an embedded one, fsync on, without")
    steps["w1"].add_argument("--concurrency", type=int, default=100, help="runs at a time")
    tickets = workloads.add_parser("triage", help="10,000 tickets, failures by plan, beside two other systems")
    triage.add_arguments(tickets)
    killed = workloads.add_parser("failover", help="SIGKILL to a coordinator, and how long its runs wait")
    failover.add_arguments(killed)
    crowded = workloads.add_parser("overload", help="three times the capacity, and what is still done in time")
    overload.add_arguments(crowded)
    for workload in (*steps.values(), tickets, killed, crowded):
        workload.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    return parser


def _measure(arguments: argparse.Namespace, dsn: str, directory: Path | None) -> dict[str, Any]:
    async def run() -> dict[str, Any]:
        await migrate(dsn)
        if arguments.workload == "w1":
            return await w1.measure(
                dsn,
                directory,
                runs=arguments.runs or 20_000,
                concurrency=arguments.concurrency,
                repeat=arguments.repeat,
            )
        return await w5.measure(dsn, runs=arguments.runs or 500, repeat=arguments.repeat)

    with asyncio.Runner(loop_factory=event_loop_factory()) as runner:
        return runner.run(run())


if __name__ == "__main__":
    sys.exit(main())
