"""One store's session with the file: open or closed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pointsman.kernel.errors import StoreUnavailable
from pointsman.stores.sqlite.connection import Connection
from pointsman.stores.sqlite.database import SqliteDatabase

T = TypeVar("T")


class Session:
    def __init__(self, database: SqliteDatabase) -> None:
        self.database = database
        self.is_open = False

    async def enter(self) -> None:
        """Check that the store is open. Raises StoreUnavailable: it is closed."""
        if not self.is_open:
            raise StoreUnavailable("this store is closed; open it first")

    async def call(self, work: Callable[[Connection], T]) -> T:
        """Do `work` on the connection. Raises what `Writer.call` raises, and StoreUnavailable if it is closed."""
        await self.enter()
        return await self.database.call(work)
