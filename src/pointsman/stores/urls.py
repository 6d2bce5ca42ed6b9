"""Which store a URL names: `sqlite:///file.db` (relative), `sqlite:////var/lib/file.db`, `redis://host:port/db`, or a
DSN of PostgreSQL."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from pointsman.kernel.errors import PointsmanError
from pointsman.ports.store import Store
from pointsman.stores.postgres.settings import PostgresSettings
from pointsman.stores.postgres.store import PostgresStore
from pointsman.stores.sqlite.store import SqliteStore

if TYPE_CHECKING:
    from pointsman.stores.redis import RedisStore

SQLITE: Final = "sqlite:///"
REDIS: Final = ("redis", "rediss")
_SCHEME = re.compile(r"^(\w[\w+.-]*):")


class InvalidStoreUrl(PointsmanError):
    """The URL names no store: give postgresql://user:password@host:port/db, sqlite:///file.db or redis://host:port/db."""

    code = "invalid_store_url"
    status = 422


def is_sqlite(url: str) -> bool:
    """Raises InvalidStoreUrl: it is of no kind of store."""
    scheme = _SCHEME.match(url)
    if scheme is None or scheme[1] in ("postgresql", "postgres", *REDIS):
        return False
    if not url.startswith(SQLITE) or url == SQLITE:
        raise InvalidStoreUrl(f"{scheme[1]}: {InvalidStoreUrl.__doc__}")
    return True


def is_redis(url: str) -> bool:
    return url.startswith(tuple(f"{scheme}:" for scheme in REDIS))


def store_of(url: str, limits: PostgresSettings | None = None) -> Store:
    """The store, not yet opened. `limits` are PostgreSQL's alone. Raises InvalidStoreUrl."""
    if not is_sqlite(url) and not is_redis(url):
        return PostgresStore(url, limits)
    if limits is not None:
        raise InvalidStoreUrl(
            "the settings store.* are limits of the way to PostgreSQL; leave them out (those of Redis stand in its URL)"
        )
    return redis_store(url) if is_redis(url) else SqliteStore(url.removeprefix(SQLITE))


def redis_store(url: str) -> RedisStore:
    """Raises InvalidStoreUrl: it is none, or the client is not installed."""
    try:
        from pointsman.stores.redis import RedisStore
    except ModuleNotFoundError as error:
        raise InvalidStoreUrl(f"a store on Redis needs {error.name}: pip install 'pointsman[redis]'") from error
    return RedisStore(url)
