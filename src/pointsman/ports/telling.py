"""Telling somebody outside of something: what a coordinator wants of whoever sends for it."""

from __future__ import annotations

from typing import Protocol


class NotTold(Exception):
    """The receiver did not take it. `is_final`: nor would it later."""

    def __init__(self, message: str, *, is_final: bool = False) -> None:
        super().__init__(message)
        self.is_final = is_final


class Teller(Protocol):
    async def tell(self, notice: str, body: bytes) -> None:
        """Send a notice once, and return when its receiver has taken it. Told twice under one id, it is dropped there.

        Raises: NotTold.
        """
        ...

    async def close(self) -> None:
        """Close all connections. Twice is once."""
        ...
