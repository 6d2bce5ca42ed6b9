"""`pointsman chaos`: real faults on a cluster of its own, and what became of what was acknowledged."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pointsman.cli.exits import Exit, Usage, guarded
from pointsman.cli.options import AsJson
from pointsman.cli.output import print_json, print_table, table
from pointsman.testing.chaos.drill import Report
from pointsman.testing.chaos.report import as_data, cells, page
from pointsman.testing.chaos.run import new_directory, run_schedules
from pointsman.testing.chaos.schedule import Schedule
from pointsman.testing.chaos.schedules import SCHEDULES

COLUMNS = (
    "schedule", "faults", "acknowledged", "lost", "repeated", "unrecorded", "interrupted", "recovered", "stood still",
    "asked again", "ended", "held",
)  # fmt: skip


@guarded
def chaos(
    schedule: Annotated[
        list[str] | None, typer.Option("--schedule", metavar="NAME", help="One of --list; may be repeated. Else all.")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="Say what there is, and leave.")] = False,
    rounds: Annotated[int | None, typer.Option(min=1, help="How many times each fault strikes.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0.1, max=3600, help="Of load before each fault.")] = None,
    short: Annotated[bool, typer.Option("--short", help="As the tests do it: most faults once.")] = False,
    jobs: Annotated[int, typer.Option(min=1, max=16, help="Schedules at the same time, each on a cluster.")] = 1,
    page_: Annotated[
        Path | None, typer.Option("--page", metavar="FILE", help="Write the figures into the page of the docs.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave logs and records behind, and say where.")] = False,
    as_json: AsJson = False,
) -> None:
    """Let things fail on a cluster that is started for it, and count what was lost, repeated and recovered.

    Exit code 1 unless everything held that must hold of each schedule.
    """
    if list_:
        _show_list(as_json)
        return
    chosen = _chosen(schedule or [])
    directory = new_directory()
    console = Console(stderr=True)
    try:
        reports = asyncio.run(
            run_schedules(
                chosen, directory, short=short, rounds=rounds, pause_s=seconds, jobs=jobs,
                on_report=lambda report: _say(console, report),
            )
        )  # fmt: skip
    finally:
        if keep:
            console.print(f"kept: {directory}", markup=False)
        else:
            shutil.rmtree(directory, ignore_errors=True)
    if page_ is not None:
        before = page_.read_text() if page_.is_file() else ""
        page_.write_text(page(list(SCHEDULES.values()), reports, before))
    if as_json:
        print_json({"reports": [as_data(report) for report in reports]})
    else:
        _show(reports)
    if not all(report.holds for report in reports):
        raise typer.Exit(Exit.FAILED)


def _chosen(names: Sequence[str]) -> list[Schedule]:
    """Raises Usage: no such schedule, or none that this user can run."""
    is_root = os.geteuid() == 0
    if not names:
        return [one for one in SCHEDULES.values() if is_root or not one.needs_root]
    for name in names:
        if name not in SCHEDULES:
            raise Usage(f"--schedule {name}: there is none; one of {', '.join(SCHEDULES)}")
        if SCHEDULES[name].needs_root and not is_root:
            raise Usage(f"--schedule {name} needs root: an ordinary user can't make this fault")
    return [SCHEDULES[name] for name in dict.fromkeys(names)]


def _show_list(as_json: bool) -> None:
    if as_json:
        rows = [{"name": one.name, "fault": one.fault, "needs_root": one.needs_root} for one in SCHEDULES.values()]
        print_json({"schedules": rows})
        return
    shown = table(["schedule", "what fails"])
    for one in SCHEDULES.values():
        shown.add_row(one.name, one.fault + (" (needs root)" if one.needs_root else ""))
    print_table(shown)


def _say(console: Console, report: Report) -> None:
    """As soon as it is over."""
    still_ms = report.verdict.still_max_ms
    console.print(
        f"{report.schedule}: {'held' if report.holds else 'DID NOT HOLD'} in {report.seconds} s,"
        f" longest standstill {still_ms} ms",
        markup=False, highlight=False,
    )  # fmt: skip
    for check in report.checks:
        if not check.holds:
            console.print(f"  not so: {check.name}: {check.measured}", style="red", markup=False, highlight=False)


def _show(reports: Sequence[Report]) -> None:
    shown = table(COLUMNS, right=COLUMNS[1:7])
    for report in reports:
        shown.add_row(report.schedule, *cells(report))
    print_table(shown)
