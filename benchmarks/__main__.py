"""`python -m benchmarks {w1,w5} [--json] [...]`: one workload, its figures on standard output."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import w1, w5
from pointsman.process import event_loop_factory, tune_process
from pointsman.stores.postgres.embedded import EmbeddedPostgres
from pointsman.stores.postgres.migrate import migrate


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("workload", choices=["w1", "w5"])
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    parser.add_argument("--runs", type=int, help="runs in each repetition")
    parser.add_argument("--concurrency", type=int, default=100, help="w1: runs at a time")
    parser.add_argument("--repeat", type=int, default=5, help="repetitions; figures are of the median one")
    parser.add_argument("--store", help="PostgreSQL to use; an embedded one, fsync on, without")
    arguments = parser.parse_args()
    tune_process()
    if arguments.store:
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
    return 0


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
