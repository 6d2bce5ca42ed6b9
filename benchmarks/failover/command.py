"""`python -m benchmarks failover`: one sample after the other, and one JSON object of what came of them."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.failover.app import Work
from benchmarks.failover.figures import bars, of_all, of_sample
from benchmarks.failover.sample import COORDINATORS, Sample
from benchmarks.meter import machine_cpu_s
from benchmarks.triage.figures import machine

WORK: Final = {200: Work(steps=20, step_s=0.1), 2_000: Work(steps=10, step_s=1.0)}
"""By the number of runs. Ten steps of a second: all 2,000 are under way together, and the last takeover has time."""
BEFORE_S: Final = 1.0
"""How long is looked at what else the machine does, before a sample."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", type=int, choices=WORK, default=200, help="200: steps of 0.1 s; 2000: steps of 1 s")
    parser.add_argument("--repeat", type=_at_least_one, default=5, help="samples; times are medians of them")
    parser.add_argument("--store", help="PostgreSQL of the cluster; an embedded one, fsync on, without")


def _at_least_one(text: str) -> int:
    """Raises argparse.ArgumentTypeError."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number from 1")
    return int(text)


def main(arguments: argparse.Namespace) -> tuple[dict[str, Any], int]:
    """The figures, and the exit code."""
    return asyncio.run(measure(arguments.runs, arguments.repeat, arguments.store)), 0


async def measure(runs: int, repeat: int, store: str | None) -> dict[str, Any]:
    about, work = machine(), WORK[runs]
    samples = [await _sample(runs, work, store) for _ in range(repeat)]
    figures = of_all(samples, runs)
    return {
        "workload": "failover",
        **figures,
        "samples": samples,
        "bars": bars(figures, samples),
        "work": {"steps": work.steps, "step_s": work.step_s, "coordinators": COORDINATORS},
        "machine": about,
    }


async def _sample(runs: int, work: Work, store: str | None) -> dict[str, Any]:
    cpu_s = machine_cpu_s()
    await asyncio.sleep(BEFORE_S)
    busy_before = (machine_cpu_s() - cpu_s) / BEFORE_S
    with _directory() as directory:
        sample = Sample(directory, runs, work, store=store)
        figures = of_sample(await sample.run())
    return {**figures, **sample.facts, "cores_busy_before": round(busy_before, 2)}


@contextmanager
def _directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pointsman-failover-") as name:
        directory = Path(name)
        directory.chmod(0o755)  # as root the embedded server runs as another user, who must reach its data
        yield directory
