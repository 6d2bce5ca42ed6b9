"""The board: what each coordinator says of itself to the others, several times a second: counts of calls and
failures, what it has in use, what it waits for. Nothing here is truth, and nothing that was said is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Board(Protocol):
    async def publish(self, incarnation: int, body: bytes) -> Mapping[int, bytes]:
        """Say `body` in place of what this incarnation said before. Returns what every other living incarnation said
        last.

        Raises: StoreUnavailable.
        """
        ...
