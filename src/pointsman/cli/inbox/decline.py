"""`pointsman inbox decline`: say that there will be no answer."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from pointsman.cli import output
from pointsman.cli.client import Client, item_path
from pointsman.cli.exits import guarded
from pointsman.cli.inbox.options import TaskId
from pointsman.cli.options import DEFAULT_URL, AsJson, By, Token, Url, person


@guarded
def decline(
    task: TaskId,
    reason: Annotated[str, typer.Option(help="For the run, and for whoever reads it later.")] = "",
    by: By = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Decline a question. The call goes on with its default, or fails as not_answered."""
    path = item_path("tasks", task, "decline")
    with Client(url, token) as client:
        _, accepted = client.post(path, json.dumps({"reason": reason, "by": person(by)}).encode())
    if as_json:
        output.print_json(accepted)
    else:
        typer.echo("you had declined before" if accepted["repeated"] else f"declined: run {accepted['run']} is told")
