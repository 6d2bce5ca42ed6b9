"""`pointsman inbox assign`: give a question to a person or group."""

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
def assign(
    task: TaskId,
    assignee: Annotated[str, typer.Argument(metavar="WHO", help='A person or group; "" for whoever looks.')],
    by: By = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Give a question to somebody. It may be given on; whoever answers first counts, assigned or not."""
    body = json.dumps({"assignee": assignee, "by": person(by)}).encode()
    with Client(url, token) as client:
        _, accepted = client.post(item_path("tasks", task, "assign"), body)
    if as_json:
        output.print_json(accepted)
        return
    whose = f"{assignee}'s" if assignee else "anybody's"
    typer.echo(f"it is {whose} already" if accepted["repeated"] else f"assigned: it is {whose} now")
