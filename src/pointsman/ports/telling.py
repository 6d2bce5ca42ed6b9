"""Delivering notices to a receiver outside: what a coordinator needs of whatever sends them."""

from __future__ import annotations

from typing import Protocol


class NotTold(Exception):
    """The receiver did not accept the notice. `is_final`: it never will."""

    def __init__(self, message: str, *, is_final: bool = False) -> None:
        super().__init__(message)
        self.is_final = is_final


class Teller(Protocol):
    async def tell(self, notice: str, body: bytes) -> None:
        """Send a notice once; return when its receiver has accepted it. A receiver drops a second one with the same id.

        Raises: NotTold.
        """
        ...

    async def close(self) -> None:
        """Close all connections. Idempotent."""
        ...
