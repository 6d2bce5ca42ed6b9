"""`pointsman demo`: real tickets through three coordinators, one of which is killed; and what became of them."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pointsman.cli.exits import Exit, Usage, guarded
from pointsman.cli.options import AsJson
from pointsman.cli.output import print_json, print_table, table
from pointsman.demo import data
from pointsman.demo.accuracy import selection_accuracy
from pointsman.demo.agents import app
from pointsman.demo.counting import figures, went_well
from pointsman.demo.drill import Drill, OnProgress
from pointsman.demo.faults import Plan

IN_FLIGHT = 120


@guarded
def demo(
    tickets: Annotated[int, typer.Option(min=1, help="Customer tickets to answer.")] = 600,
    coordinators: Annotated[int, typer.Option(min=1, max=16, help="Coordinator processes.")] = 3,
    kill: Annotated[int, typer.Option(min=0, help="How many of them get SIGKILL in the middle.")] = 1,
    stop: Annotated[
        int, typer.Option(min=0, help="How many others get SIGSTOP, and SIGCONT when their runs were taken over.")
    ] = 0,
    restart_database: Annotated[
        int, typer.Option(min=0, help="How often PostgreSQL is stopped and started, after the kills and stops.")
    ] = 0,
    fail: Annotated[
        str | None, typer.Option(help="A specialist that fails for a while: its name, or the end of it (billing).")
    ] = None,
    in_flight: Annotated[int, typer.Option(min=1, help="Tickets under way at the same time.")] = IN_FLIGHT,
    offline: Annotated[
        bool, typer.Option("--offline", help="The bundled sample, without asking the package index.")
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave logs, journal and database behind, and say where.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Answer tickets, kill a coordinator, and count what was lost.

    Twelve specialist agents answer, on several coordinators. Faults strike one after the other.

    Exit code 1 unless every ticket was answered, none was lost, and no call was repeated whose outcome was committed.
    """
    plan = Plan(kills=kill, stops=stop, restarts=restart_database)
    if plan.victims >= coordinators:
        raise Usage(
            f"--kill {kill} --stop {stop} of {coordinators} coordinators leaves none to go on: fewer, or more"
            " --coordinators"
        )
    failing = _specialist(fail) if fail is not None else None
    corpus = data.load(offline)
    directory = Path(tempfile.mkdtemp(prefix="pointsman-demo-"))
    if os.geteuid() == 0:
        directory.chmod(0o755)  # as root the embedded server runs as another user, who must reach its data
    console = Console(stderr=True)
    try:
        with _ProgressBar(console, tickets, quiet=as_json or not sys.stderr.isatty()) as on_progress:
            drill = Drill(
                corpus, directory, tickets=tickets, coordinators=coordinators, plan=plan, in_flight=in_flight,
                on_progress=on_progress, fail=failing,
            )  # fmt: skip
            observed = asyncio.run(drill.run())
        result = figures(observed, dict(selection_accuracy(corpus)), corpus.source)
        result["failed_agent"] = failing
        for error in observed.client_errors[:5]:
            console.print(f"a client saw: {error}", style="red", markup=False)
        if as_json:
            print_json(result)
        else:
            _show(result, corpus.note)
    finally:
        if keep:
            console.print(f"kept: {directory}", markup=False)
        else:
            shutil.rmtree(directory, ignore_errors=True)
    if not went_well(result, plan):
        raise typer.Exit(Exit.FAILED)


def _specialist(name: str) -> str:
    """Raises Usage: nobody has this name, or more than one."""
    names = [agent.name for agent in app.directory.agents()]
    found = [each for each in names if each == name] or [each for each in names if each.endswith(name)]
    if len(found) != 1:
        raise Usage(
            f"--fail {name}: {'several agents end so' if found else 'no agent ends so'}; one of {sorted(names)}"
        )
    return found[0]


class _ProgressBar:
    """A progress bar on stderr, or silence."""

    def __init__(self, console: Console, tickets: int, *, quiet: bool) -> None:
        columns = (
            TextColumn("{task.description:40}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        )  # fmt: skip
        self._bar = Progress(*columns, console=console, disable=quiet)
        self._tickets = tickets

    def __enter__(self) -> OnProgress:
        self._bar.start()
        task = self._bar.add_task("", total=self._tickets)
        return lambda done, doing: self._bar.update(task, completed=done, description=doing)

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


def _show(result: dict[str, Any], note: str) -> None:
    source = "the tau2 customer-service tasks" if result["source"] == "wheel" else f"the bundled sample ({note})"
    latency, accuracy = result["latency_ms"], result["selection_accuracy"]
    rows = [
        ("tickets", f"{result['tickets']}, from {source}; model latency is simulated"),
        ("completed / failed / lost", f"{result['completed']} / {result['failed']} / {result['lost']}"),
        ("coordinators killed", f"{result['kills']}, which owned {result['orphaned']} runs"),
        ("takeover", f"{_spread(result['takeover_ms'])} after the kill"),
        (
            "agent calls",
            f"{result['calls']}, of which {result['calls_repeated']} were started more than once",
        ),
        ("… though their outcome was committed", str(result["completed_calls_repeated"])),
        ("errors that clients saw", str(result["client_errors"])),
        ("throughput", f"{result['throughput_per_s']} tickets/s"),
        ("latency", f"p50 {latency['p50']} ms, p95 {latency['p95']} ms, p99 {latency['p99']} ms"),
        (
            "selection accuracy on unseen tickets",
            f"{accuracy['mean']} (airline {accuracy['airline']}, retail {accuracy['retail']}; "
            f"always the most frequent specialist: {accuracy['baseline']})",
        ),
    ]
    rows[4:4] = _other_faults(result)
    if not result["kills"]:
        del rows[2:4]
    if failing := result["failing"]:
        rows[2:2] = [
            (
                f"{result['failed_agent']}, made to fail",
                f"{failing['attempts_failed']} attempts failed; {failing['calls_reassigned']} of its calls went "
                f"to another agent, {failing['calls_held']} waited; selection passed over it "
                f"{times(failing['passed_over'])}",
            ),
            ("its breaker", f"opened {times(failing['breaker_opened'])}, closed {times(failing['breaker_closed'])}"),
        ]
    shown = table(["", "what happened"])
    for name, value in rows:
        shown.add_row(name, value)
    print_table(shown)


def _other_faults(result: dict[str, Any]) -> list[tuple[str, str]]:
    rows = []
    if result["stops"]:
        rows = [
            ("coordinators stopped, and woken", f"{result['stops']}, which owned {result['stopped_orphaned']} runs"),
            ("takeover from them", f"{_spread(result['stop_takeover_ms'])} after the SIGSTOP"),
        ]
    if result["database_restarts"]:
        away = ", ".join(f"{ms} ms" for ms in result["database_away_ms"])
        rows.append(("PostgreSQL restarted", f"{times(result['database_restarts'])}; it was away for {away}"))
    return rows


def _spread(ms: dict[str, float | None]) -> str:
    return f"p50 {ms['p50']} ms, p99 {ms['p99']} ms, last {ms['max']} ms"


def times(count: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(count, f"{count} times")
