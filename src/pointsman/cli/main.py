"""The entry point: the list of verbs.

To add a verb, write a function in a file of its own, under `guarded`, and add a line to `VERBS`. A verb is imported
only when it is used: the imports of a coordinator or the simulator would cost a second for whoever lists runs.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterable
from importlib import import_module
from typing import Annotated, Any

import typer

import pointsman
from pointsman.cli.exits import HELP

VERBS = {
    "init": "init.command",
    "dev": "dev.command",
    "up": "up",
    "coordinator": "coordinator",
    "router": "router",
    "worker": "worker",
    "migrate": "migrate",
    "doctor": "doctor",
    "retention": "retention",
    "demo": "demo",
    "openapi": "openapi",
    "chaos": "chaos",
    "simulate": "simulate",
    "replay": "replay",
    "runs": "runs.group",
    "inbox": "inbox.group",
    "agents": "agents.group",
    "breakers": "breakers",
    "budgets": "budgets",
    "mode": "mode",
}
"""In the order of the help, and the module of each, which has it under the same name."""
COMPLETING = "_POINTSMAN_COMPLETE"
"""Set by a shell that asks what it may offer."""


def build(verbs: Iterable[str]) -> typer.Typer:
    """Build the command with these verbs."""
    built = typer.Typer(
        name="pointsman", help=f"Durable coordination of multi-agent work.\n\n{HELP}", no_args_is_help=True,
        rich_markup_mode=None, pretty_exceptions_enable=False,
    )  # fmt: skip
    built.callback()(options)
    for name in verbs:
        verb: Any = getattr(import_module(f"pointsman.cli.{VERBS[name]}"), name)
        if isinstance(verb, typer.Typer):
            built.add_typer(verb, name=name)
        else:
            built.command(name)(verb)
    return built


@functools.cache
def _whole() -> typer.Typer:
    return build(VERBS)


def __getattr__(name: str) -> typer.Typer:
    """`app`: the whole command."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _whole()


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pointsman {pointsman.__version__}")
        raise typer.Exit


def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """The console script. Help, completion and unknown verbs need all verbs."""
    first = sys.argv[1] if len(sys.argv) > 1 else ""
    if COMPLETING not in os.environ and (first in VERBS or first == "--version"):
        build([first] if first in VERBS else [])(prog_name="pointsman")
    else:
        _whole()(prog_name="pointsman")


if __name__ == "__main__":
    main()
