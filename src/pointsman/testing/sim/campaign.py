"""Many schedules on all cores, and their whole: what was counted, what is violated, and whether it says anything."""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any

from pointsman.testing.sim.coverage import LEAST, Coverage, Lines, traced
from pointsman.testing.sim.report import Report
from pointsman.testing.sim.stores import MEMORY
from pointsman.testing.sim.world import simulate

COMMAND = "python -m pointsman.testing.sim"
CHUNK = 25
"""Schedules that a worker does before it is given more."""
COLLECTED = 5
"""Schedules between two collections of garbage: some 10 MB each."""
ENOUGH_SEEDS = 50
"""From so many seeds on, a pass in which too little happened is a failure."""
ENOUGH = {"operations": 20.0, "runs_completed": 1.0, "takeovers": 0.5}
"""What must happen in a schedule, on average over the seeds."""
KINDS_MIN = 5
KIND_SHARE_MIN = 0.01
"""A kind of fault counts when it struck in at least so many schedules, as a share of all."""


def simulate_all(seeds: Sequence[int], store: str = MEMORY) -> list[Report]:
    """One schedule after the other. What a schedule leaves behind is cycles, which are collected a few schedules at a
    time, and without a look at all that was imported: that is an eighth of the time."""
    reports: list[Report] = []
    was_enabled = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        for number, seed in enumerate(seeds, 1):
            reports.append(simulate(seed, store=store))
            if number % COLLECTED == 0:
                gc.collect()
    finally:
        gc.unfreeze()
        if was_enabled:
            gc.enable()
    return reports


def run_traced(seeds: Sequence[int], store: str = MEMORY) -> tuple[list[Report], Lines]:
    """Run schedules, and note which lines of production run."""
    with traced() as lines:
        reports = simulate_all(seeds, store)
    return reports, lines


def cover(seeds: Sequence[int], *, jobs: int, store: str = MEMORY) -> tuple[list[Report], dict[str, Any]]:
    """Run schedules as `run_seeds` does, and give the line coverage of production's rooms."""
    coverage, reports = Coverage(), []
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for some, lines in pool.map(partial(run_traced, store=store), chunks_of(seeds)):
            reports += some
            coverage.add(lines)
    return reports, coverage.report()


def chunks_of(seeds: Sequence[int]) -> list[Sequence[int]]:
    return [seeds[first : first + CHUNK] for first in range(0, len(seeds), CHUNK)]


def run_seeds(seeds: Sequence[int], *, jobs: int = 1, store: str = MEMORY) -> list[Report]:
    """Run schedules, in `jobs` processes; the reports are in the order of the seeds, whoever was quicker."""
    if jobs <= 1 or len(seeds) <= CHUNK:
        return simulate_all(seeds, store)
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        return [report for reports in pool.map(partial(run_seeds, store=store), chunks_of(seeds)) for report in reports]


def summarise(
    reports: Sequence[Report], seconds: float, *, command: str = COMMAND, is_own: bool = True
) -> dict[str, Any]:
    """The whole of many schedules. A violation names its seed and the command that reproduces it.

    Args:
        is_own: of the simulator's own workload, in which much must happen.
    """
    faults: Counter[str] = Counter()
    struck: Counter[str] = Counter()
    for report in reports:
        faults.update(report.faults)
        struck.update(report.faults.keys())
    total = {
        name: sum(getattr(report, name) for report in reports)
        for name in ("operations", "runs", "runs_completed", "takeovers", "invocations", "repeated")
    }
    average = {name: round(total[name] / max(len(reports), 1), 2) for name in ENOUGH}
    violations = [
        {"seed": report.seed, "what": what, "reproduce": f"{command} --seed {report.seed} --trace"}
        for report in reports for what in report.violations
    ]  # fmt: skip
    kinds = sorted(kind for kind, seeds in struck.items() if seeds >= KIND_SHARE_MIN * len(reports))
    vacuous = list(_vacuous(len(reports), average, kinds)) if is_own else []
    violations += [{"seed": None, "what": what, "reproduce": ""} for what in vacuous]
    return {
        "seeds": len(reports), **total, "average": average, "kinds_of_fault": len(kinds),
        "faults": dict(sorted(faults.items())), "violations": violations,
        "callbacks": sum(report.steps for report in reports), "seconds": round(seconds, 2),
        "virtual_s": round(sum(report.virtual_s for report in reports), 1),
        "schedules_per_s": round(len(reports) / seconds, 1) if seconds else 0.0,
    }  # fmt: skip


def _vacuous(seeds: int, average: dict[str, float], kinds: Sequence[str]) -> Iterator[str]:
    """A pass in which nothing happens proves nothing."""
    if seeds < ENOUGH_SEEDS:
        return
    for name, least in ENOUGH.items():
        if average[name] < least:
            yield f"vacuous: {average[name]} {name} a seed, at least {least:g} are needed"
    if len(kinds) < KINDS_MIN:
        yield f"vacuous: {len(kinds)} kinds of fault struck ({', '.join(kinds)}), at least {KINDS_MIN} are needed"


def run_campaign(seeds: Sequence[int], *, jobs: int, store: str = MEMORY, covers: bool = False) -> dict[str, Any]:
    """Run and summarise. `covers`: with the line coverage of production, which must not be below LEAST."""
    begin, command = time.perf_counter(), f"{COMMAND} --store {store}" if store != MEMORY else COMMAND
    if not covers:
        reports = run_seeds(seeds, jobs=jobs, store=store)
        return summarise(reports, time.perf_counter() - begin, command=command)
    reports, coverage = cover(seeds, jobs=jobs, store=store)
    summary = summarise(reports, time.perf_counter() - begin, command=command)
    summary["coverage"] = coverage
    if len(seeds) >= ENOUGH_SEEDS and coverage["percent"] < LEAST:
        what = f"vacuous: {coverage['percent']} % of the lines of production ran, at least {LEAST:g} must"
        summary["violations"].append({"seed": None, "what": what, "reproduce": ""})
    return summary
