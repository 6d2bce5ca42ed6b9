"""`pointsman inbox ls`: what people are asked, oldest first."""

from __future__ import annotations

from typing import Annotated

import typer

from pointsman.cli import output
from pointsman.cli.client import Client
from pointsman.cli.exits import guarded
from pointsman.cli.options import DEFAULT_URL, AsJson, Token, Url

QUESTION_WIDTH = 80


@guarded
def ls(
    status: Annotated[
        list[str] | None,
        typer.Option(help="open, answered, refused, expired or closed; may be repeated. Open ones without."),
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Tasks that are over, too.")] = False,
    run: Annotated[str | None, typer.Option(help="Only tasks of this run.")] = None,
    assignee: Annotated[str | None, typer.Option(help='Only tasks of this person or group; "" for nobody\'s.')] = None,
    workflow: Annotated[str | None, typer.Option(help="Only tasks of this workflow's runs.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only tasks of this tenant.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="Tasks on one page.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Where the page before said to go on.")] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """List the questions that wait for a person, oldest first."""
    wanted = status or ([] if all_ else ["open"])
    with Client(url, token) as client:
        page = client.get(
            "/v1/tasks",
            status=wanted,
            run=run,
            assignee=assignee,
            workflow=workflow,
            tenant=tenant,
            limit=limit,
            cursor=cursor,
        )
    if as_json:
        output.print_json(page)
        return
    out = output.table(["task", "status", "whose", "asked", "run", "call", "question", "because"])
    for task in page["tasks"]:
        detail = task["detail"]
        because = f"{detail.get('kind', '')}: {detail.get('message', '')}".strip(": ")
        out.add_row(
            output.text(task["id"]), output.status_text(task["status"]), output.text(task["assignee"] or "-"),
            output.ago(task["opened_at"]),
            output.text(task["run"]), output.text(task["call"]),
            output.text(output.preview(task["question"], QUESTION_WIDTH)),
            output.text(output.preview(because, QUESTION_WIDTH), "red"),
        )  # fmt: skip
    output.print_table(out)
    if page["cursor"]:
        typer.echo(f"more: --cursor {page['cursor']}", err=True)
