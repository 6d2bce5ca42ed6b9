"""`pointsman migrate`: bring a database to this release's schema."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from pointsman.cli import output
from pointsman.cli.exits import Usage, guarded
from pointsman.cli.options import AsJson, Store
from pointsman.stores.postgres.migrate import migrate as migrate_store
from pointsman.stores.postgres.migrate import pending


@guarded
def migrate(
    store: Store = None,
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit code 1 if something would be.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Apply the migrations that the database lacks. Safe to repeat, and while coordinators run."""
    if store is None:
        raise Usage("--store is missing (or POINTSMAN_STORE): the DSN of the PostgreSQL to migrate")
    raise NotImplementedError
