"""What the parts of an in-process store ask of the store that they belong to."""

from __future__ import annotations

from typing import Protocol

from pointsman.stores.inprocess.membership import Membership


class Session(Protocol):
    @property
    def database(self) -> Membership: ...

    async def enter(self) -> None:
        """Stand at the beginning of an atomic part. Raises StoreUnavailable: the store is closed."""
        ...
