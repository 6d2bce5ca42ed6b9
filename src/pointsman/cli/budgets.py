"""`pointsman budgets`: what agents and tenants may use up, and what is left."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from pointsman.cli import output
from pointsman.cli.client import Client, item_path
from pointsman.cli.exits import Usage, guarded
from pointsman.cli.options import DEFAULT_URL, AsJson, By, Token, Url, person
from pointsman.cli.runs.costs import money

SCOPES = ("agent", "tenant")

Scope = Annotated[str, typer.Argument(metavar="agent|tenant", help="Whose budget.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The agent's or tenant's name.")]

budgets = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="See and set shared budgets.")


@budgets.command("ls")
@guarded
def ls(
    limit: Annotated[int, typer.Option(min=1, max=500, help="Budgets on one page.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Where the page before said to go on.")] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """List the budgets: limit, spent, reserved, free."""
    with Client(url, token) as client:
        page = client.get("/v1/budgets", limit=limit, cursor=cursor)
    if as_json:
        output.print_json(page)
        return
    _print(page["budgets"])
    if page["cursor"]:
        typer.echo(f"more: --cursor {page['cursor']}", err=True)


@budgets.command("show")
@guarded
def show(scope: Scope, name: Name, as_json: AsJson = False, url: Url = DEFAULT_URL, token: Token = None) -> None:
    """Show one budget."""
    with Client(url, token) as client:
        budget = client.get(_path(scope, name))
    if as_json:
        output.print_json(budget)
    else:
        _print([budget])


@budgets.command("set")
@guarded
def set_(
    scope: Scope,
    name: Name,
    usd: Annotated[float | None, typer.Option(min=0, help="Dollars.")] = None,
    tokens: Annotated[int | None, typer.Option(min=0, help="Tokens of models, in and out.")] = None,
    calls: Annotated[int | None, typer.Option(min=0, help="Attempts.")] = None,
    per: Annotated[
        float | None, typer.Option(min=1, help="Seconds after which it is whole again; never without.")
    ] = None,
    unlimited: Annotated[bool, typer.Option("--unlimited", help="No limit, whatever the code declares.")] = False,
    by: By = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Set a budget. It stands in place of the one before, and above what the code declares."""
    is_limited = not (usd is None and tokens is None and calls is None)
    if is_limited == unlimited:
        raise Usage("give --usd, --tokens or --calls; or --unlimited alone")
    path = _path(scope, name)
    wish = {"usd": usd, "tokens": tokens, "calls": calls, "per": per, "by": person(by)}
    with Client(url, token) as client:
        budget = client.put(path, json.dumps(wish).encode())
    if as_json:
        output.print_json(budget)
    else:
        _print([budget])


def _path(scope: str, name: str) -> str:
    """Raises: Usage."""
    if scope not in SCOPES:
        raise Usage(f"{scope}: a budget is an agent's or a tenant's")
    return item_path("budgets", scope, name)


def _print(found: Sequence[Mapping[str, Any]]) -> None:
    columns = ["budget", "of", "limit", "spent", "reserved", "free", "until", "set by"]
    out = output.table(columns, right=("limit", "spent", "reserved", "free"))
    for budget in found:
        parts = [part for part in ("usd", "tokens", "calls") if budget["limit"][part] is not None]
        for part in parts or [""]:
            out.add_row(
                output.text(f"{budget['scope']} {budget['name']}"), part or "no limit",
                *(_figure(budget[what], part) for what in ("limit", "spent", "reserved", "free")),
                output.text(budget["window_ends_at"] or ""), output.text(budget["by"]),
            )  # fmt: skip
    output.print_table(out)


def _figure(figures: Mapping[str, Any], part: str) -> str:
    value = figures.get(part)
    if value is None:
        return ""
    return money(round(value * 1_000_000)) if part == "usd" else f"{value:,}"
