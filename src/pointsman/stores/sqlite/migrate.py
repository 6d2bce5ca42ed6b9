"""Bring a file to this release's schema. It is done when the file is opened, because there is only one process."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from importlib import resources
from typing import Final

from pointsman.kernel.errors import SchemaDiffers, SchemaFromFuture, StoreUnavailable
from pointsman.stores.sqlite.connection import Connection

APPLICATION_ID: Final = 0x504F494E
"""`POIN`: marks a file as one of ours."""
_FILE = re.compile(r"^(\d{4})_(\w+)\.sql$")


def known_migrations() -> list[tuple[int, str]]:
    """The number and SQL of all migrations, in the order in which they are applied."""
    found = [
        (int(match[1]), file.read_text("utf-8"))
        for file in resources.files(__package__ or "").joinpath("migrations").iterdir()
        if (match := _FILE.match(file.name))
    ]
    return sorted(found)


def migrate(connection: Connection) -> list[int]:
    """Apply the missing migrations, each in a transaction of its own, and return their numbers.

    Raises:
        SchemaFromFuture, SchemaDiffers; StoreUnavailable: the file belongs to another program.
    """
    (done,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application != APPLICATION_ID and (tables or application or done):
        raise StoreUnavailable("the file is a database of another program: give a path of its own")
    known = known_migrations()
    if done > known[-1][0]:
        raise SchemaFromFuture(
            f"the file's schema is at migration {done}, this release knows {known[-1][0]}: "
            "deploy a newer release of Pointsman"
        )
    if not _schema_of([sql for number, sql in known if number <= done]) <= _schema(connection):
        raise SchemaDiffers(
            "the file's schema was made by a build whose migrations did something else: keep that build for it, or "
            "begin with a new file"
        )
    missing = [(number, sql) for number, sql in known if number > done]
    for number, sql in missing:
        connection.executescript(
            f"BEGIN IMMEDIATE; {sql}\nPRAGMA user_version = {number}; PRAGMA application_id = {APPLICATION_ID}; COMMIT;"
        )
    return [number for number, _ in missing]


def _schema_of(migrations: list[str]) -> set[tuple[str, str]]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript("\n".join(migrations))
        return _schema(connection)


def _schema(connection: Connection) -> set[tuple[str, str]]:
    """Names of tables and indexes, and the statements that created them."""
    return set(connection.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL"))
