"""Which store a URL names: `sqlite:///file.db` (relative), `sqlite:////var/lib/file.db`, or a DSN of PostgreSQL."""

from __future__ import annotations

import re
from typing import Final

from pointsman.kernel.errors import PointsmanError
from pointsman.ports.store import Store
from pointsman.stores.postgres.settings import PostgresSettings
from pointsman.stores.postgres.store import PostgresStore
from pointsman.stores.sqlite.store import SqliteStore

SQLITE: Final = "sqlite:///"
_SCHEME = re.compile(r"^(\w[\w+.-]*):")


class InvalidStoreUrl(PointsmanError):
    """The URL names no store: give sqlite:///file.db, or postgresql://user:password@host:port/db."""

    code = "invalid_store_url"
    status = 422


def is_sqlite(url: str) -> bool:
    """Raises InvalidStoreUrl: it is of no kind of store."""
    scheme = _SCHEME.match(url)
    if scheme is None or scheme[1] in ("postgresql", "postgres"):
        return False
    if not url.startswith(SQLITE) or url == SQLITE:
        raise InvalidStoreUrl(f"{scheme[1]}: {InvalidStoreUrl.__doc__}")
    return True


def store_of(url: str, limits: PostgresSettings | None = None) -> Store:
    """The store, not yet opened. `limits` are PostgreSQL's alone. Raises InvalidStoreUrl."""
    if not is_sqlite(url):
        return PostgresStore(url, limits)
    if limits is not None:
        raise InvalidStoreUrl(f"{url}: the settings store.* are limits of the way to PostgreSQL; leave them out")
    return SqliteStore(url.removeprefix(SQLITE))
