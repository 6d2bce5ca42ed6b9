"""The PostgreSQL store: runs that survive the death of any process, on PostgreSQL 14 or newer."""

from pointsman.stores.postgres.migrate import migrate
from pointsman.stores.postgres.settings import PostgresSettings
from pointsman.stores.postgres.store import PostgresStore

__all__ = ["PostgresSettings", "PostgresStore", "migrate"]
