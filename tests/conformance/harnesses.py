"""How each store joins the suite."""

from collections.abc import Callable

from pointsman.ports.liveness import Lease
from pointsman.ports.store import Store
from pointsman.stores.memory import MemoryDatabase, MemoryStore
from pointsman.stores.memory.lease import MemoryLease
from pointsman.testing.conformance import Harness


class MemoryHarness(Harness):
    def __init__(
        self,
        database: MemoryDatabase | None = None,
        make: Callable[[MemoryDatabase], Store] = MemoryStore,
    ) -> None:
        super().__init__()
        self.database = database or MemoryDatabase()
        self._make = make

    def new_store(self) -> Store:
        return self._make(self.database)

    async def freeze(self, store: Store, lease: Lease) -> None:
        assert isinstance(lease, MemoryLease)
        await lease.stop()

    async def end(self, incarnation: int) -> None:
        assert self.database.end(incarnation)
