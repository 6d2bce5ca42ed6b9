"""What a store brings to the suite: fresh stores of one database, and three ways for a coordinator to end."""

from __future__ import annotations

from abc import ABC, abstractmethod

from pointsman.ports.liveness import Lease
from pointsman.ports.store import Store


class Harness(ABC):
    """One empty database. A case opens several stores of it to play several coordinators."""

    def __init__(self) -> None:
        self._stores: list[Store] = []

    @abstractmethod
    def new_store(self) -> Store:
        """Another store of the same database, not yet opened."""

    @abstractmethod
    async def freeze(self, store: Store, lease: Lease) -> None:
        """Let the holder fall silent, as SIGSTOP does: nothing is renewed, and its connections stay."""

    @abstractmethod
    async def end(self, incarnation: int) -> None:
        """End a living incarnation, as another coordinator would that found it dead."""

    async def crash(self, store: Store) -> None:
        """End the store's process, as SIGKILL does: its connections close, and no lease is released."""
        await store.close()

    async def open(self) -> Store:
        store = self.new_store()
        self._stores.append(store)
        await store.open()
        return store

    async def close(self) -> None:
        for store in reversed(self._stores):
            await store.close()
