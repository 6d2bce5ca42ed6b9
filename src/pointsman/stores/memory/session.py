"""One store's session with the shared tables: open or closed, and the point where every operation yields.

An operation is `await session.enter()`, an atomic part that awaits nothing, and `await asyncio.sleep(0)`. So
a simulated scheduler can interleave, or end, a caller before its write and between its write and the reply.
"""

from __future__ import annotations

import asyncio

from pointsman.kernel.errors import StoreUnavailable
from pointsman.stores.memory.database import MemoryDatabase


class Session:
    def __init__(self, database: MemoryDatabase) -> None:
        self.database = database
        self.is_open = False

    async def enter(self) -> None:
        """Yield, then stand at the beginning of an atomic part.

        Raises:
            StoreUnavailable: the store is closed.
        """
        await asyncio.sleep(0)
        if not self.is_open:
            raise StoreUnavailable("this store is closed; open it first")
