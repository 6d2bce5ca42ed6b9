"""`pointsman runs cancel`: ask a run to stop."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from pointsman.cli import output
from pointsman.cli.client import Client, run_path
from pointsman.cli.exits import guarded
from pointsman.cli.options import DEFAULT_URL, AsJson, RunId, Token, Url


@guarded
def cancel(
    run: RunId,
    reason: Annotated[str, typer.Option(help="For whoever reads the run later.")] = "",
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Ask a run to stop. Its workflow is told at its next await, and may clean up."""
    with Client(url, token) as client:
        _, accepted = client.post(run_path(run, "cancel"), json.dumps({"reason": reason}).encode())
    if as_json:
        output.print_json(accepted)
    else:
        typer.echo("it had been asked before" if accepted["repeated"] else "asked to stop")
