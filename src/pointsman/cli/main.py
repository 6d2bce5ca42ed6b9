"""The entry point: which verbs there are.

Another verb joins as a function in a file of its own, under `guarded`: `app.command("name")(function)`.
"""

from __future__ import annotations

from typing import Annotated

import typer

import pointsman
from pointsman.cli.agents.group import agents
from pointsman.cli.breakers import breakers
from pointsman.cli.budgets import budgets
from pointsman.cli.chaos import chaos
from pointsman.cli.coordinator import coordinator
from pointsman.cli.demo import demo
from pointsman.cli.dev.command import dev
from pointsman.cli.doctor import doctor
from pointsman.cli.exits import HELP
from pointsman.cli.inbox.group import inbox
from pointsman.cli.init.command import init
from pointsman.cli.migrate import migrate
from pointsman.cli.mode import mode
from pointsman.cli.openapi import openapi
from pointsman.cli.replay import replay
from pointsman.cli.retention import retention
from pointsman.cli.router import router
from pointsman.cli.runs.group import runs
from pointsman.cli.simulate import simulate_app
from pointsman.cli.up import up
from pointsman.cli.worker import worker

app = typer.Typer(
    name="pointsman",
    help=f"Durable coordination of multi-agent work.\n\n{HELP}",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("init")(init)
app.command("dev")(dev)
app.command("up")(up)
app.command("coordinator")(coordinator)
app.command("router")(router)
app.command("worker")(worker)
app.command("migrate")(migrate)
app.command("doctor")(doctor)
app.command("retention")(retention)
app.command("demo")(demo)
app.command("openapi")(openapi)
app.command("chaos")(chaos)
app.command("simulate")(simulate_app)
app.command("replay")(replay)
app.add_typer(runs, name="runs")
app.add_typer(inbox, name="inbox")
app.add_typer(agents, name="agents")
app.add_typer(breakers, name="breakers")
app.add_typer(budgets, name="budgets")
app.add_typer(mode, name="mode")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pointsman {pointsman.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """The console script."""
    app(prog_name="pointsman")


if __name__ == "__main__":
    main()
