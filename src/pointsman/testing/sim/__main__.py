"""`python -m pointsman.testing.sim`: run seeds, print what happened; exit code 1 when one is violated."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from pointsman.testing.sim.mutants import MUTANTS, judge
from pointsman.testing.sim.world import Report, simulate

COMMAND = "python -m pointsman.testing.sim"
ENOUGH_SEEDS = 50
"""From so many seeds on, a pass in which too little happened is a failure."""
ENOUGH = {
    "crash": 0.5,
    "stop": 0.3,
    "lost_reply": 0.3,
    "lost": 0.5,
    "late": 0.1,
    "cut": 0.1,
    "down": 0.1,
    "drain": 0.1,
}
"""Faults of each kind per seed that a pass must have seen; beside as many takeovers as seeds."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if options.mutants:
        return _judge_all(options)
    if options.seed is not None:
        return _one(options)
    begin = time.perf_counter()
    reports = [simulate(seed) for seed in range(options.start, options.start + options.seeds)]
    summary = summarise(reports, time.perf_counter() - begin)
    print(json.dumps(summary) if options.json else _shown(summary))
    return 1 if summary["violations"] else 0


def summarise(reports: Sequence[Report], seconds: float) -> dict[str, Any]:
    """The whole of many schedules. A violation names its seed and the command that reproduces it."""
    faults: Counter[str] = Counter()
    for report in reports:
        faults.update(report.faults)
    total = {
        name: sum(getattr(report, name) for report in reports)
        for name in ("operations", "runs", "runs_completed", "takeovers", "invocations", "repeated")
    }
    violations = [
        {"seed": report.seed, "what": what, "reproduce": f"{COMMAND} --seed {report.seed} --trace"}
        for report in reports for what in report.violations
    ]  # fmt: skip
    violations += [{"seed": None, "what": what, "reproduce": ""} for what in _vacuous(len(reports), faults, total)]
    return {
        "seeds": len(reports), **total, "faults": dict(sorted(faults.items())), "violations": violations,
        "callbacks": sum(report.steps for report in reports), "seconds": round(seconds, 2),
        "virtual_s": round(sum(report.virtual_s for report in reports), 1),
        "schedules_per_s": round(len(reports) / seconds, 1) if seconds else 0.0,
    }  # fmt: skip


def _vacuous(seeds: int, faults: Counter[str], total: dict[str, int]) -> Iterable[str]:
    if seeds < ENOUGH_SEEDS:
        return
    for kind, share in ENOUGH.items():
        if faults[kind] < share * seeds:
            yield f"vacuous: {faults[kind]} faults of the kind {kind!r} in {seeds} seeds"
    if total["takeovers"] < seeds:
        yield f"vacuous: {total['takeovers']} takeovers in {seeds} seeds"
    if total["runs_completed"] < 4 * seeds or total["operations"] < 10 * seeds:
        yield f"vacuous: {total['runs_completed']} runs, {total['operations']} operations in {seeds} seeds"


def _one(options: argparse.Namespace) -> int:
    report = simulate(options.seed)
    if options.trace:
        print("\n".join(report.trace))
    shown = dataclasses.asdict(report)
    del shown["trace"]
    print(json.dumps(shown) if options.json else _shown(shown))
    return 1 if report.violations else 0


def _judge_all(options: argparse.Namespace) -> int:
    seeds = range(options.start, options.start + options.seeds)
    verdicts = [judge(name, seeds) for name in MUTANTS]
    shown = {"mutants": [dataclasses.asdict(verdict) for verdict in verdicts]}
    print(json.dumps(shown) if options.json else "\n".join(_shown(verdict) for verdict in shown["mutants"]))
    return 0 if all(verdict.seeds_caught for verdict in verdicts) else 1


def _shown(summary: dict[str, Any]) -> str:
    lines: list[str] = []
    for name, value in summary.items():
        if name == "violations" and value:
            lines += [f"VIOLATION {_violation(item)}" for item in value]
        else:
            lines.append(f"{name:<16} {value}")
    return "\n".join(lines)


def _violation(item: Any) -> str:
    return f"seed {item['seed']}: {item['what']}\n  {item['reproduce']}" if isinstance(item, dict) else str(item)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many schedules (default 200)")
    parser.add_argument("--start", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--seed", type=int, help="one schedule alone")
    parser.add_argument("--trace", action="store_true", help="with --seed: print what happened, line by line")
    parser.add_argument("--mutants", action="store_true", help="break each guard in turn: every one must be caught")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    return parser


if __name__ == "__main__":
    sys.exit(main())
