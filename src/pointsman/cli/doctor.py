"""`pointsman doctor`: what is wrong with a store, and its repair."""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec
import typer

from pointsman.cli import output
from pointsman.cli.exits import Exit, Usage, guarded
from pointsman.cli.options import AsJson, Store
from pointsman.doctor.examination import examine
from pointsman.doctor.findings import Counts, Finding
from pointsman.doctor.repair import NotRepairable, Repaired, repair
from pointsman.ports.inspection import Fact
from pointsman.stores.urls import store_of

STYLES = {"problem": "bold red", "notice": "yellow"}


class Look(msgspec.Struct):
    """Everything that a look at a store gave."""

    findings: list[Finding]
    repairs: list[Repaired]
    refused: list[str]
    counts: Counts
    facts: list[Fact]


@guarded
def doctor(
    store: Store = None,
    run: Annotated[
        list[str] | None, typer.Option("--run", metavar="ID", help="Look at this run only; may be repeated.")
    ] = None,
    repair_: Annotated[
        bool, typer.Option("--repair", help="Repair what can be: of the runs named, or of all with --all.")
    ] = False,
    all_: Annotated[bool, typer.Option("--all", help="With --repair: every run that can be repaired.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say what is wrong in a store, and what to do about it.

    It reads everything, and changes nothing without --repair. It talks to the database itself, so it works when no
    coordinator does; they may run meanwhile. Exit code 1 when something is wrong that was not repaired.
    """
    if store is None:
        raise Usage(
            "--store is missing (or POINTSMAN_STORE): the DSN of the PostgreSQL to look at; `up` prints its own"
        )
    if repair_ and not (run or all_):
        raise Usage("--repair needs to know what to repair: --run ID, or --all")
    if all_ and (run or not repair_):
        raise Usage("--all says which runs to --repair: it goes with that, and not with --run")
    look = asyncio.run(_look(store, run, repair_, is_silent=as_json))
    if as_json:
        output.print_json(msgspec.to_builtins(look))
    else:
        _sum_up(look)
    repaired = {done.run for done in look.repairs if done.did}
    if any(f.level == "problem" and not (f.run in repaired and f.check != "database") for f in look.findings):
        raise typer.Exit(Exit.FAILED)


async def _look(dsn: str, runs: list[str] | None, wants_repair: bool, *, is_silent: bool) -> Look:
    store = store_of(dsn)
    look = Look([], [], [], Counts(), [])
    try:
        await store.open()
        look.facts = await store.inspection.facts()
        async for finding in examine(store, look.counts, runs):
            look.findings.append(finding)
            if not is_silent:
                _say(finding)
            if wants_repair and finding.is_repairable and finding.run is not None:
                try:
                    done = await repair(store, finding.run, store.clock.now())
                except NotRepairable as error:
                    look.refused.append(str(error))
                    continue
                if done.did:
                    look.repairs.append(done)
                if not is_silent:
                    _tell(done)
    finally:
        await store.close()
    return look


def _say(finding: Finding) -> None:
    console = output.console()
    where = f"run {finding.run}: " if finding.run else ""
    level = output.text(f"{finding.level:<8}", STYLES[finding.level])
    console.print(level, output.text(f"{finding.check}: {where}{finding.message}"), soft_wrap=True)
    if finding.remedy:
        console.print(output.text(f"         → {finding.remedy}", "dim"), soft_wrap=True)


def _tell(done: Repaired) -> None:
    console = output.console()
    for what in done.did:
        console.print(output.text("repaired", "bold green"), output.text(f"run {done.run}: {what}"), soft_wrap=True)
    for call, key in done.repeated.items():
        line = f"         may be made again: {call}, under its idempotency key {key}"
        console.print(output.text(line, "dim"), soft_wrap=True)


def _sum_up(look: Look) -> None:
    for refusal in look.refused:
        typer.echo(f"not repaired: {output.clean(refusal)}")
    problems = sum(finding.level == "problem" for finding in look.findings)
    facts = ", ".join(f"{fact.name} {fact.value}" for fact in look.facts)
    typer.echo(f"\n{look.counts.runs} runs and {look.counts.events} events looked at: {problems} problems")
    typer.echo(output.clean(facts))
