"""`pointsman runs tail`: a run's events as they come, across the death of any coordinator."""

from __future__ import annotations

from typing import Annotated

import typer

from pointsman.cli import output
from pointsman.cli.client import TERMINAL_EVENTS, Client, run_path
from pointsman.cli.exits import Exit, guarded
from pointsman.cli.options import DEFAULT_URL, AsJson, RunId, Token, Url
from pointsman.cli.runs import drawing


@guarded
def tail(
    run: RunId,
    after: Annotated[int, typer.Option(min=0, help="Begin after this sequence.")] = 0,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Follow a run until it ends. One line (or object) for each event; exit code 1 when it fails."""
    status = None
    with Client(url, token) as client:
        began = output.to_ms(client.get(run_path(run))["created_at"])
        console = output.console()
        for event in client.follow(run, after):
            status = TERMINAL_EVENTS.get(event["type"], status)
            if as_json:
                output.print_json(event)
            else:
                since = output.to_ms(event["at"]) - began
                console.print(drawing.event_line(event, max(since, 0)), soft_wrap=True)
                console.file.flush()
        if status is None:  # its last event came before `after`
            status = client.get(run_path(run))["status"]
    if status != "completed":
        raise typer.Exit(Exit.FAILED)
