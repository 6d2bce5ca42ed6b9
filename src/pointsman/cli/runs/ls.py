"""`pointsman runs ls`: runs, newest first, by filter."""

from __future__ import annotations

from typing import Annotated

import typer

from pointsman.cli import completing, output
from pointsman.cli.client import Client
from pointsman.cli.exits import Usage, guarded
from pointsman.cli.options import DEFAULT_URL, AsJson, Token, Url


@guarded
def ls(
    status: Annotated[list[str] | None, typer.Option(help="running, parked, completed, …; may be repeated.")] = None,
    workflow: Annotated[
        str | None, typer.Option(help="Only runs of this workflow.", autocompletion=completing.workflows)
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="Only runs of this tenant.")] = None,
    attribute: Annotated[
        list[str] | None, typer.Option(metavar="K=V", help="Only runs with this attribute; may be repeated.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="Runs on one page.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Where the page before said to go on.")] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """List runs, newest first."""
    with Client(url, token) as client:
        page = client.get(
            "/v1/runs", status=status, workflow=workflow, tenant=tenant, limit=limit, cursor=cursor,
            attribute=[_filter(item) for item in attribute or []],
        )  # fmt: skip
    if as_json:
        output.print_json(page)
        return
    out = output.table(["id", "workflow", "status", "tenant", "events", "started", "took"], right=("events", "took"))
    for run in page["runs"]:
        ended = run["ended_at"]
        took = output.duration(output.to_ms(ended) - output.to_ms(run["created_at"])) if ended else ""
        out.add_row(
            output.text(run["id"]), output.text(f"{run['workflow']} v{run['version']}"),
            output.status_text(run["status"]), output.text(run["tenant"]), str(run["sequence"]),
            output.ago(run["created_at"]), took,
        )  # fmt: skip
    output.print_table(out)
    if page["cursor"]:
        typer.echo(f"more: --cursor {page['cursor']}", err=True)


def _filter(item: str) -> str:
    """The API's `key:value` from `key=value`."""
    key, equals, value = item.partition("=")
    if not equals or not key:
        raise Usage(f"--attribute {item}: give it as key=value")
    return f"{key}:{value}"
