"""`python -m benchmarks triage`: the three systems one after the other, and one JSON object of what came of it."""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

import msgspec

from benchmarks.triage import classifier, data
from benchmarks.triage.agents import Setup
from benchmarks.triage.cluster import Cluster
from benchmarks.triage.figures import Outcome, bars, machine, orphans, summary
from benchmarks.triage.plan import Plan
from benchmarks.triage.rival import Rival
from benchmarks.triage.workflow import BREAKER, HOLD_S

SKIPPED: Final = 77
"""The exit code that says "not run, and not failed"."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, default=data.DEFAULT_DATA, help="the Banking77 training set, a CSV file")
    parser.add_argument("--tickets", type=int, default=10_000, help="of single_process and pointsman")
    parser.add_argument("--chain-tickets", type=int, default=100, help="of the chain, whose rate is extrapolated")
    parser.add_argument("--per-second", type=float, default=480.0, help="tickets that arrive in a second")
    parser.add_argument("--seed", type=int, default=Plan().seed, help="of the plan, and of the tickets' order")
    parser.add_argument("--store", help="PostgreSQL of the cluster; an embedded one, fsync on, without")


def main(arguments: argparse.Namespace) -> tuple[dict[str, Any], int]:
    """The figures, and the exit code."""
    try:
        rows = data.load(arguments.data)
    except data.DataMissing as error:
        return {"workload": "triage", "skipped": str(error)}, SKIPPED
    directory = Path(tempfile.mkdtemp(prefix="pointsman-triage-"))
    if os.geteuid() == 0:
        directory.chmod(0o755)  # as root the embedded server runs as another user, who must reach its data
    try:
        return asyncio.run(measure(rows, directory, arguments)), 0
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def measure(rows: list[data.Ticket], directory: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    about = machine()
    plan = Plan(seed=arguments.seed)
    setup = Setup(str(arguments.data.absolute()), plan, arguments.tickets, arguments.per_second)
    tickets = data.in_order(rows, plan.seed, setup.count)
    few = msgspec.structs.replace(setup, count=arguments.chain_tickets)
    chain = await _rival("chain", directory, few, tickets[: few.count])
    chain["extrapolated"] = f"rate of {few.count} tickets, one after the other"
    single = await _rival("single", directory, setup, tickets)
    home = _home(directory, "cluster")
    cluster = Cluster(home, setup, store=arguments.store)
    outcomes, seconds = await cluster.run(tickets)
    pointsman, of_orphans = summary(outcomes, seconds), orphans(outcomes)
    return {
        "workload": "triage",
        "systems": {"chain": chain, "single_process": single, "pointsman": pointsman},
        "orphans": of_orphans,
        "bars": bars(pointsman, of_orphans),
        "plan": plan.describe(tickets),
        "policies": {
            "retry": {"attempts": plan.retry_attempts, "base_s": plan.retry_base_s, "factor": 2, "jitter": 0.1},
            "hold_s": HOLD_S,
            "breaker": msgspec.to_builtins(BREAKER),
        },
        "load": {"tickets_per_second": setup.per_second, "order": f"shuffled by seed {plan.seed}"},
        "data": {
            "rows": len(rows),
            "specialists": data.shares(rows),
            "accuracy_on_odd_rows": round(classifier.accuracy(classifier.fit(rows), rows), 4),
        },
        "cluster": cluster.facts,
        "machine": about,
    }


async def _rival(mode: str, directory: Path, setup: Setup, tickets: list[data.Ticket]) -> dict[str, Any]:
    rival = Rival(mode, _home(directory, mode), setup)
    outcomes: list[Outcome]
    outcomes, seconds = await rival.run(tickets)
    return summary(outcomes, seconds)


def _home(directory: Path, name: str) -> Path:
    home = directory / name
    home.mkdir()
    return home
