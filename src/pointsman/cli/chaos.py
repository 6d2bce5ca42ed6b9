"""`pointsman chaos`: real faults on a cluster of its own, and what became of what was acknowledged."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from pointsman.cli.exits import Exit, Usage, guarded
from pointsman.cli.options import AsJson
from pointsman.cli.output import print_json, print_table, table
from pointsman.testing.chaos.drill import Report
from pointsman.testing.chaos.load import Wanted
from pointsman.testing.chaos.own import WITH_ROOT, WITHOUT_ROOT
from pointsman.testing.chaos.report import as_data, cells, page
from pointsman.testing.chaos.run import new_directory, run_schedules
from pointsman.testing.chaos.running import RunningSite
from pointsman.testing.chaos.schedule import Schedule
from pointsman.testing.chaos.schedules import SCHEDULES

COLUMNS = (
    "schedule", "faults", "acknowledged", "lost", "repeated", "unrecorded", "interrupted", "recovered", "stood still",
    "asked again", "ended", "held",
)  # fmt: skip

LACKS = {
    "processes": "it signals processes: give the --data of `pointsman up` on this machine",
    "database": "it stops PostgreSQL: only an embedded one, with --data",
    "own": "it needs a cluster of its own: leave out --data, --url and --store",
    "root": "only root can make this fault",
}


@guarded
def chaos(  # long because a command declares its options as parameters: 30 lines of 65
    schedule: Annotated[
        list[str] | None,
        typer.Option("--schedule", metavar="NAME", help="One of --list, or all; may be repeated."),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="Say what there is, and leave.")] = False,
    rounds: Annotated[int | None, typer.Option(min=1, help="How many times each fault strikes.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0.1, max=3600, help="Seconds of load before each fault.")] = None,
    short: Annotated[bool, typer.Option("--short", help="Briefly, as the tests do it: most faults once.")] = False,
    jobs: Annotated[int, typer.Option(min=1, max=16, help="Schedules at the same time, each on a cluster.")] = 1,
    page_: Annotated[
        Path | None, typer.Option("--page", metavar="FILE", help="Write the figures into the page of the docs.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="The directory of a running `pointsman up`."),
    ] = None,
    url: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="The router of a running cluster; with --store.")
    ] = None,
    store: Annotated[
        str | None, typer.Option("--store", metavar="DSN", help="The database of a running cluster; with --url.")
    ] = None,
    workflow: Annotated[str | None, typer.Option("--workflow", help="What clients start on a running cluster.")] = None,
    input_: Annotated[str, typer.Option("--input", metavar="JSON", help="Its input; with --workflow.")] = "null",
    keep: Annotated[bool, typer.Option("--keep", help="Leave logs and records behind, and say where.")] = False,
    as_json: AsJson = False,
) -> None:
    """Let things fail on a cluster, and count what was lost.

    The cluster is started for it; what was repeated and recovered is counted too. Or on a running one (--data, or --url
    and --store): then the faults are those that can be made from outside, and only what clients were told is judged.
    Never on one that others need: things do fail.

    Exit code 1 unless everything held that must hold of each schedule.
    """
    if list_:
        _show_list(as_json)
        return
    directory = new_directory()
    console = Console(stderr=True)
    try:
        running = _running(directory, data, url, store)
        wanted = _wanted(running, workflow, input_)
        chosen = _chosen(schedule or [], running)
        reports = asyncio.run(
            _run(
                chosen, directory, running, short=short, rounds=rounds, pause_s=seconds, wanted=wanted,
                jobs=jobs if running is None else 1, on_report=lambda report: _say(console, report),
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


async def _run(
    chosen: Sequence[Schedule], directory: Path, running: RunningSite | None, **options: Any
) -> list[Report]:  # fmt: skip
    if running is not None:
        await running.start()
    return await run_schedules(chosen, directory, running=running, **options)


def _running(directory: Path, data: Path | None, url: str | None, store: str | None) -> RunningSite | None:
    """The cluster that runs already, if one is meant. Raises NotRunning."""
    if data is None and url is None and store is None:
        return None
    return RunningSite(directory, data=data, url=url, dsn=store)


def _wanted(running: RunningSite | None, workflow: str | None, given: str) -> Wanted | None:
    """What clients start; None: the drills' own runs. Raises Usage."""
    if running is None:
        if workflow is not None:
            raise Usage("--workflow is for a running cluster (--data, or --url and --store): a new one has its own")
        return None
    if workflow is None:
        raise Usage("--workflow is missing: what shall clients start on the running cluster, and with which --input?")
    try:
        return Wanted(workflow, json.loads(given))
    except ValueError as error:
        raise Usage(f"--input {given}: not JSON ({error})") from error


def _chosen(names: Sequence[str], running: RunningSite | None) -> list[Schedule]:
    """Raises Usage: no such schedule, or one that can't be made here."""
    offers = running.offers if running is not None else WITH_ROOT if os.geteuid() == 0 else WITHOUT_ROOT
    if not names:
        return [one for one in SCHEDULES.values() if one.needs <= offers]
    for name in names:
        if name not in SCHEDULES:
            raise Usage(f"--schedule {name}: there is none; one of {', '.join(SCHEDULES)}")
        missing = sorted(SCHEDULES[name].needs - offers)
        if missing:
            raise Usage(f"--schedule {name} can't be made here: {'; '.join(LACKS[need] for need in missing)}")
    return [SCHEDULES[name] for name in dict.fromkeys(names)]


def _show_list(as_json: bool) -> None:
    if as_json:
        rows = [{"name": one.name, "fault": one.fault, "needs": sorted(one.needs)} for one in SCHEDULES.values()]
        print_json({"schedules": rows})
        return
    shown = table(["schedule", "what fails"])
    for one in SCHEDULES.values():
        shown.add_row(one.name, one.fault + (" (needs root)" if "root" in one.needs else ""))
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
