"""`python -m pointsman.testing.sim`: run seeds, print what happened; exit code 1 when one is violated."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from pointsman.testing.sim.campaign import COMMAND, run_campaign
from pointsman.testing.sim.judging import judge, store_of
from pointsman.testing.sim.mutants import MUTANTS
from pointsman.testing.sim.stores import MEMORY, STORES
from pointsman.testing.sim.world import simulate


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if options.mutants:
        return _judge_all(options)
    if options.seed is not None:
        return _one(options)
    summary = run_campaign(
        range(options.start, options.start + options.seeds), jobs=options.jobs, store=options.store or MEMORY,
        covers=options.coverage,
    )  # fmt: skip
    print(json.dumps(summary) if options.json else _shown(summary))
    return 1 if summary["violations"] else 0


def _one(options: argparse.Namespace) -> int:
    report = simulate(options.seed, store=options.store or MEMORY, is_traced=options.trace)
    if options.trace:
        print("\n".join(report.trace))
    shown = dataclasses.asdict(report)
    del shown["trace"]
    print(json.dumps(shown) if options.json else _shown(shown))
    return 1 if report.violations else 0


def _judge_all(options: argparse.Namespace) -> int:
    seeds = range(options.start, options.start + options.seeds)
    names = [name for name in MUTANTS if options.store in (None, store_of(name))]
    verdicts = [judge(name, seeds, enough=None if options.all_seeds else 1) for name in names]
    shown = {"mutants": [dataclasses.asdict(verdict) for verdict in verdicts]}
    print(json.dumps(shown) if options.json else "\n".join(_shown(verdict) for verdict in shown["mutants"]))
    return 0 if all(verdict.seeds_caught for verdict in verdicts) else 1


def _shown(summary: dict[str, Any]) -> str:
    lines: list[str] = []
    for name, value in summary.items():
        if name == "violations" and value:
            lines += [f"VIOLATION {_violation(item)}" for item in value]
        elif name == "coverage":
            lines.append(f"{name:<16} {value['percent']} % of {value['lines']} lines")
            lines += [f"  {file:<40} {of['percent']:5.1f} %" for file, of in value["files"].items()]
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
    parser.add_argument(
        "--store",
        choices=tuple(STORES),
        help="what schedules run on (default memory); with --mutants: only its own",
    )
    parser.add_argument("--trace", action="store_true", help="with --seed: print what happened, line by line")
    parser.add_argument("--mutants", action="store_true", help="break each guard in turn: every one must be caught")
    parser.add_argument("--all-seeds", action="store_true", help="with --mutants: go on after one was caught")
    parser.add_argument("--coverage", action="store_true", help="print the line coverage of coordinator/ and kernel/")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    return parser


if __name__ == "__main__":
    sys.exit(main())
