"""`pointsman runs redrive`: let failed runs go on from the call that failed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from pointsman.cli import output
from pointsman.cli.client import Client, run_path
from pointsman.cli.exits import CommandError, Usage, guarded
from pointsman.cli.options import DEFAULT_URL, AsJson, By, Token, Url, person
from pointsman.client import Unreachable
from pointsman.kernel.errors import PointsmanError

PAGE = 100


@guarded
def redrive(
    run: Annotated[str | None, typer.Argument(metavar="[ID]", help="One run; without it, all that match.")] = None,
    workflow: Annotated[str | None, typer.Option(help="Failed runs of this workflow.")] = None,
    kind: Annotated[str | None, typer.Option(help="Failed runs whose failure is of this kind.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Failed runs of this tenant.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, the latest first.")] = 100,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would do, and do nothing.")] = False,
    fresh_key: Annotated[
        bool,
        typer.Option("--fresh-key", help="Another idempotency key; what the old one did may be done twice."),
    ] = False,
    by: By = None,
    reason: Annotated[str, typer.Option(help="For whoever reads the run later.")] = "",
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Let failed runs go on from the call that failed. What completed is not repeated."""
    chosen = any(value is not None for value in (workflow, kind, tenant))
    if (run is None) == (not chosen):
        raise Usage("give one run's id, or say which: --workflow, --kind, --tenant (one or more of them)")
    wish = {"by": person(by), "reason": reason, "fresh_key": fresh_key, "dry_run": dry_run}
    with Client(url, token) as client:
        if run is not None:
            heads: Iterator[Any] = iter([client.get(run_path(run))])
        else:
            heads = _failed(client, workflow, kind, tenant, limit)
        done = [_redrive(client, head, wish, is_one=run is not None) for head in heads]
    if as_json:
        output.print_json({"dry_run": dry_run, "runs": done})
    else:
        _show(done, dry_run=dry_run)
    if any("refused" in one for one in done):
        raise CommandError(f"{sum('refused' in one for one in done)} of {len(done)} runs were not redriven")


def _failed(
    client: Client, workflow: str | None, kind: str | None, tenant: str | None, limit: int
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Failed runs that match, the latest first. A child goes on with its parent, so it is not among them."""
    cursor: str | None = None
    left = limit
    while left > 0:
        page = client.get("/v1/runs", status="failed", workflow=workflow, tenant=tenant, limit=PAGE, cursor=cursor)
        for head in page["runs"]:
            if head["parent"] is not None:
                continue
            full = client.get(run_path(head["id"]))
            if full["status"] != "failed" or (kind is not None and full["failure"]["kind"] != kind):
                continue
            yield full
            left -= 1
            if left == 0:
                return
        cursor = page["cursor"]
        if cursor is None:
            return


def _redrive(client: Client, head: dict[str, Any], wish: dict[str, Any], *, is_one: bool) -> dict[str, Any]:
    """One run. A refusal is the command's where it is the only one; of many, one does not stop the others."""
    said = {"run": head["id"], "workflow": head["workflow"], "failure": head.get("failure")}
    body = json.dumps({**wish, "sequence": head["sequence"]}).encode()
    try:
        _, answer = client.post(run_path(head["id"], "redrive"), body)
    except PointsmanError as error:
        if is_one or isinstance(error, Unreachable):
            raise
        return {**said, "refused": {"code": error.code, "message": str(error)}}
    return {**answer, **said}


def _show(done: list[dict[str, Any]], *, dry_run: bool) -> None:
    if not done:
        typer.echo("no failed run matches")
        return
    table = output.table(["id", "workflow", "failed with", "would go on" if dry_run else "goes on"])
    for one in done:
        table.add_row(
            output.text(one["run"]), output.text(one["workflow"]), output.text((one["failure"] or {}).get("kind", "")),
            output.text(_what(one)),
        )  # fmt: skip
    output.print_table(table)


def _what(one: dict[str, Any]) -> str:
    if "refused" in one:
        return f"refused: {one['refused']['message']}"
    what = f"from call {', '.join(one['calls'])}" if one["calls"] else "by the code that there is now"
    return f"{what}, redriven before by {one['by'] or 'somebody'}" if one["repeated"] else what
