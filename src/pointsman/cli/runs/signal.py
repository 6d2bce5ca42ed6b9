"""`pointsman runs signal`: give a run what it waits for."""

from __future__ import annotations

import secrets
from typing import Annotated

import typer

from pointsman.cli import output
from pointsman.cli.client import Client, run_path
from pointsman.cli.exits import guarded
from pointsman.cli.options import DEFAULT_URL, AsJson, RunId, Token, Url
from pointsman.cli.runs.start import read_json


@guarded
def signal(
    run: RunId,
    name: Annotated[str, typer.Argument(help="The signal's name.")],
    payload: Annotated[str, typer.Argument(metavar="JSON", help="Its payload; `-` reads it from stdin.")] = "null",
    key: Annotated[str | None, typer.Option(help="Sent twice under one key, it counts once.")] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Send a signal. It is durable once this returns."""
    path = run_path(run, "signals", name)
    raw = read_json(payload, "JSON")
    with Client(url, token) as client:
        headers = {"idempotency-key": key or secrets.token_hex(16)}
        _, accepted = client.post(path, raw, headers)
    if as_json:
        output.print_json(accepted)
    else:
        typer.echo("accepted before under this key" if accepted["repeated"] else "accepted")
