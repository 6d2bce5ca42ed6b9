"""Bring a database to this release's schema, and check whether it has it.

A migration is a file `NNNN_name.pre.sql`, with which code of the release before still works, or `NNNN_name.post.sql`,
to be applied when no such code runs any more. Each is applied once, in order, in a transaction of its own; `schema.sql`
is their combined result.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Final

import asyncpg

from pointsman.kernel.errors import SchemaDiffers, SchemaFromFuture, SchemaMissing, StoreUnavailable
from pointsman.stores.postgres.partitions import make_partitions
from pointsman.stores.postgres.server import Connection, Server
from pointsman.stores.postgres.settings import PostgresSettings

LOCK: Final = zlib.crc32(b"pointsman migrations")
_FILE = re.compile(r"^(\d{4})_(\w+)\.(pre|post)\.sql$")
_COMMENT = re.compile(r"--[^\n]*")

_TABLE = """
CREATE TABLE IF NOT EXISTS migrations (
    number     integer     NOT NULL,
    phase      text        NOT NULL,
    name       text        NOT NULL,
    digest     text        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT migrations_pkey PRIMARY KEY (number, phase)
)
"""


@dataclass(frozen=True, order=True)
class Migration:
    number: int
    phase: str
    name: str
    sql: str

    @property
    def title(self) -> str:
        return f"{self.number:04}_{self.name}.{self.phase}"

    @property
    def digest(self) -> str:
        """A digest of the statements; comments and white space do not count."""
        return hashlib.sha256(" ".join(_COMMENT.sub("", self.sql).split()).encode()).hexdigest()


def known_migrations() -> Sequence[Migration]:
    """All migrations in the order in which they are applied; `pre` before `post` if they have the same number."""
    found = [
        Migration(int(match[1]), match[3], match[2], file.read_text("utf-8"))
        for file in resources.files(__package__).joinpath("migrations").iterdir()
        if (match := _FILE.match(file.name))
    ]
    return sorted(found, key=lambda migration: (migration.number, migration.phase == "post"))


async def migrate(dsn: str, *, post: bool = True) -> list[str]:
    """Apply the missing migrations and return their names. Idempotent; several processes may do it at once.

    Args:
        post: also apply those with which code of the release before would not work.

    Raises:
        SchemaFromFuture, SchemaDiffers, StoreUnavailable.
    """
    connection = await Server(dsn, PostgresSettings()).reach({"lock_timeout": "60000"}, codecs=True)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", LOCK)
        await connection.execute(_TABLE)
        applied = await _apply(connection, post)
        await make_partitions(connection)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise StoreUnavailable(f"the migration was refused: {error}") from error
    finally:
        connection.terminate()
    return applied


async def _apply(connection: Connection, post: bool) -> list[str]:
    done = await _applied(connection)
    _refuse_others(done)
    applied = []
    for migration in known_migrations():
        if (migration.number, migration.phase) in done or (migration.phase == "post" and not post):
            continue
        async with connection.transaction():
            await connection.execute(migration.sql)
            await connection.execute(
                "INSERT INTO migrations (number, phase, name, digest) VALUES ($1, $2, $3, $4)",
                migration.number, migration.phase, migration.name, migration.digest,
            )  # fmt: skip
        applied.append(migration.title)
    return applied


async def check_database(dsn: str) -> None:
    """Check that this release can work with the database. Raises SchemaMissing, SchemaFromFuture, SchemaDiffers or
    StoreUnavailable.
    """
    connection = await Server(dsn, PostgresSettings()).reach()
    try:
        await check_schema(connection)
    finally:
        connection.terminate()


async def check_schema(connection: Connection) -> None:
    """Check that this release can work with the database. Raises SchemaMissing, SchemaFromFuture or SchemaDiffers."""
    try:
        done = await _applied(connection)
    except asyncpg.UndefinedTableError as error:
        raise SchemaMissing("the database has no Pointsman schema: run `pointsman migrate`") from error
    _refuse_others(done)
    missing = [m.title for m in known_migrations() if m.phase == "pre" and (m.number, m.phase) not in done]
    if missing:
        raise SchemaMissing(
            f"the database's schema is older than this release ({missing[0]}): run `pointsman migrate`, with --pre "
            "while coordinators of the release before run"
        )


async def _applied(connection: Connection) -> dict[tuple[int, str], str | None]:
    """The digest of each applied migration; None: applied by a build that did not record it."""
    rows = await connection.fetch("SELECT number, phase, to_jsonb(m) ->> 'digest' AS digest FROM migrations m")
    return {(row["number"], row["phase"]): row["digest"] for row in rows}


def _refuse_others(done: Mapping[tuple[int, str], str | None]) -> None:
    newest = max((migration.number for migration in known_migrations()), default=0)
    ahead = max((number for number, _ in done), default=0)
    if ahead > newest:
        raise SchemaFromFuture(
            f"the database's schema is at migration {ahead}, this release knows {newest}: "
            "deploy a newer release of Pointsman"
        )
    for migration in known_migrations():
        key = (migration.number, migration.phase)
        if key in done and done[key] != migration.digest:
            raise SchemaDiffers(
                f"the database's schema was made by a build in which {migration.title} did something else: keep that "
                "build for it, or begin with a new database"
            )
