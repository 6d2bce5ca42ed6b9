"""The source of new ids, nonces and seeds; a port so that a simulation can choose them."""

from __future__ import annotations

from typing import Protocol


class Ids(Protocol):
    def run_id(self) -> str: ...

    def nonce(self) -> bytes:
        """8 bytes, different each time."""
        ...

    def seed(self) -> str:
        """Entropy for one run: 16 characters."""
        ...
