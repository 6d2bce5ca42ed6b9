"""`pointsman runs release`: let a quarantined run go on."""

from __future__ import annotations

import typer

from pointsman.cli import output
from pointsman.cli.client import Client, run_path
from pointsman.cli.exits import guarded
from pointsman.cli.options import DEFAULT_URL, AsJson, RunId, Token, Url


@guarded
def release(run: RunId, as_json: AsJson = False, url: Url = DEFAULT_URL, token: Token = None) -> None:
    """Let a quarantined run go on. Mend first what held it back: it is due at once, under no suspicion."""
    with Client(url, token) as client:
        _, released = client.post(run_path(run, "release"), None)
    if as_json:
        output.print_json(released)
    else:
        typer.echo(f"released; it is {released['status']}")
