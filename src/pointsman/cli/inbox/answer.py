"""`pointsman inbox answer`: answer a workflow's question, or give a run the result that no agent gave."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from pointsman.cli import output
from pointsman.cli.client import Client, item_path
from pointsman.cli.exits import Usage, guarded
from pointsman.cli.inbox.options import Digest, TaskId
from pointsman.cli.options import DEFAULT_URL, AsJson, By, Token, Url, person
from pointsman.cli.runs.start import read_json


@guarded
def answer(
    task: TaskId,
    value: Annotated[
        str | None, typer.Argument(metavar="JSON", help="The answer; `-` reads stdin. Not with --accept.")
    ] = None,
    accept: Annotated[bool, typer.Option("--accept", help="The proposed answer, as it is.")] = False,
    digest: Digest = None,
    by: By = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Answer a question. The first answer counts; it is durable once this returns."""
    if (value is None) != accept:
        raise Usage("give the answer as JSON, or --accept the proposed one")
    who = person(by)
    raw = b"" if value is None else read_json(value, "JSON")
    with Client(url, token) as client:
        if accept or digest is None:
            shown = client.get(item_path("tasks", task))
            digest = shown["digest"] if digest is None else digest
            if accept:
                raw = _proposed(shown)
        body = b'{"by":%b,"digest":%b,"value":%b}' % (json.dumps(who).encode(), json.dumps(digest).encode(), raw)
        _, accepted = client.post(item_path("tasks", task, "answer"), body)
    if as_json:
        output.print_json(accepted)
    elif accepted["repeated"]:
        typer.echo("you had answered so before")
    else:
        edited = ", edited" if accepted["edited"] else ""
        typer.echo(f"answered{edited}: run {accepted['run']} goes on")


def _proposed(shown: dict[str, object]) -> bytes:
    if "proposed" not in shown:
        raise Usage(f"task {shown['id']} proposes no answer: give one as JSON")
    return json.dumps(shown["proposed"]).encode()
