"""`pointsman migrate`: bring a database to this release's schema."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from pointsman.cli import output
from pointsman.cli.exits import Usage, guarded
from pointsman.cli.options import AsJson, Store
from pointsman.stores.postgres.migrate import check_database
from pointsman.stores.postgres.migrate import migrate as apply
from pointsman.stores.urls import is_redis, is_sqlite


@guarded
def migrate(
    store: Store = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Change nothing; exit code 3 unless this release can work with it."),
    ] = False,
    pre: Annotated[
        bool,
        typer.Option("--pre", help="Only what the release before survives: for deploying without a stop."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Apply the migrations that the database lacks. Safe to repeat; while coordinators run only with --pre."""
    if store is None:
        raise Usage("--store is missing (or POINTSMAN_STORE): the DSN of the PostgreSQL to migrate")
    if is_sqlite(store):
        raise Usage("a SQLite file is brought up to date by whoever opens it: there is nothing to migrate")
    if is_redis(store):
        raise Usage("Redis has no schema: there is nothing to migrate")
    if check and pre:
        raise Usage("--check changes nothing, so --pre has no meaning beside it")
    if check:
        asyncio.run(check_database(store))
        applied = []
    else:
        applied = asyncio.run(apply(store, post=not pre))
    if as_json:
        output.print_json({"applied": applied})
    elif check:
        typer.echo("the schema is one that this release works with")
    else:
        typer.echo("\n".join(f"applied {title}" for title in applied) or "nothing to apply")
