"""`pointsman inbox refuse`: say that there will be no answer."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from pointsman.cli import output
from pointsman.cli.client import Client, item_path
from pointsman.cli.exits import guarded
from pointsman.cli.inbox.options import Digest, TaskId, digest_of
from pointsman.cli.options import DEFAULT_URL, AsJson, By, Token, Url, person


@guarded
def refuse(
    task: TaskId,
    reason: Annotated[str, typer.Option(help="For the run, and for whoever reads it later.")] = "",
    digest: Digest = None,
    by: By = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Refuse to answer. A workflow's question is refused; a call goes on with its default, or fails as not_answered."""
    path, who = item_path("tasks", task, "refuse"), person(by)
    with Client(url, token) as client:
        body = {"reason": reason, "by": who, "digest": digest_of(client, task, digest)}
        _, accepted = client.post(path, json.dumps(body).encode())
    if as_json:
        output.print_json(accepted)
    else:
        typer.echo("you had refused before" if accepted["repeated"] else f"refused: run {accepted['run']} is told")
