"""The SQLite store: one file, one process. Everything that was acknowledged is on disk.

`SqliteDatabase` is the file; each coordinator of the process opens a `SqliteStore` of its own over it.
"""

from pointsman.stores.sqlite.database import SqliteDatabase
from pointsman.stores.sqlite.settings import SqliteSettings
from pointsman.stores.sqlite.store import SqliteStore

__all__ = ["SqliteDatabase", "SqliteSettings", "SqliteStore"]
