"""`pointsman inbox answer`: give a run the result that no agent gave."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from pointsman.cli import output
from pointsman.cli.client import Client, item_path
from pointsman.cli.exits import guarded
from pointsman.cli.inbox.options import TaskId
from pointsman.cli.options import DEFAULT_URL, AsJson, By, Token, Url, person
from pointsman.cli.runs.start import read_json


@guarded
def answer(
    task: TaskId,
    value: Annotated[str, typer.Argument(metavar="JSON", help="What the agent would have given; `-` reads stdin.")],
    by: By = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Answer a question. The first answer counts; it is durable once this returns."""
    path, raw = item_path("tasks", task, "answer"), read_json(value, "JSON")
    body = b'{"by":%b,"value":%b}' % (json.dumps(person(by)).encode(), raw)
    with Client(url, token) as client:
        _, accepted = client.post(path, body)
    if as_json:
        output.print_json(accepted)
    else:
        typer.echo("you had answered so before" if accepted["repeated"] else f"answered: run {accepted['run']} goes on")
